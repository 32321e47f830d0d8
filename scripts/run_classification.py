"""Stage 2, several tasks from few labels.

accelerate launch scripts/run_classification.py --dataset data/cbis --model_name_or_path out/mim --output_dir out/cls
"""

import sys

from mammo_hf.cli import main

if __name__ == "__main__":
    sys.exit(main(["classification", *sys.argv[1:]]))
