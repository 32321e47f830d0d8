"""Pictures of where a classifier looked.

python scripts/explain.py --model out/cls --dataset data/cbis --output_dir out/explanations
"""

import sys

from mammo_hf.commands.explain import main
from mammo_hf.commands.running import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
