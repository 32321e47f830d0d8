"""Stage 2, several tasks from few labels.

accelerate launch scripts/run_classification.py --dataset data/cbis --model out/mim --output_dir out/cls
"""

import sys

from mammo_hf.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
