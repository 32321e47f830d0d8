"""Pictures of where a classifier looked.

python scripts/explain.py out/cls data/cbis --output_dir out/explanations
"""

import sys

from mammo_hf.cli import main

if __name__ == "__main__":
    sys.exit(main(["explain", *sys.argv[1:]]))
