"""The whole way on a CBIS-DDSM folder: pre-train, classify, explain.

python scripts/mammogram_analysis.py --root_dir /data/CBIS-DDSM --train_mim --train_cls --visualize
"""

import sys

from mammo_hf.cli import main

if __name__ == "__main__":
    sys.exit(main(["analysis", *sys.argv[1:]]))
