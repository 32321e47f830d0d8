"""Stage 1, masked image modelling.

accelerate launch scripts/run_mim.py --dataset data/cbis --output_dir out/mim
"""

import sys

from mammo_hf.commands.mim import main
from mammo_hf.commands.running import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
