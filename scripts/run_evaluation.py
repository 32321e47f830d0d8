"""Evaluates a classifier on a collection, its own or another: figures with intervals, plots, checklists, one report.

python scripts/run_evaluation.py out/cls --dataset data/inbreast --split all --external --output_dir out/inbreast
"""

import sys

from mammo_hf.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
