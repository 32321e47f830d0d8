"""Stage 2, several tasks from few labels.

accelerate launch scripts/run_classification.py --dataset data/cbis --model_name_or_path out/mim --output_dir out/cls
"""

import sys

from mammo_hf.commands.classification import main
from mammo_hf.commands.running import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
