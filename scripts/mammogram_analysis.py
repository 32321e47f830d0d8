"""The whole way on a CBIS-DDSM folder: pre-train, classify, explain.

python scripts/mammogram_analysis.py --root_dir /data/CBIS-DDSM --train_mim --train_cls --visualize
"""

import sys

from mammo_hf.commands.analysis import main
from mammo_hf.commands.running import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
