"""How many labels a method needs; the same as ``mammo-hf label-efficiency``.

python scripts/label_efficiency.py --dataset data/cbis --init scratch out/mim --output_dir out/labels
"""

import sys

from mammo_hf.cli import main

if __name__ == "__main__":
    sys.exit(main(["label-efficiency", *sys.argv[1:]]))
