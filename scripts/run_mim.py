"""Stage 1, masked image modelling.

accelerate launch scripts/run_mim.py --dataset data/cbis --output_dir out/mim
"""

import sys

from mammo_hf.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
