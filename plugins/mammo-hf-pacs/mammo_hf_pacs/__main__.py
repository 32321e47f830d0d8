"""``python -m mammo_hf_pacs MODEL``: the same as ``mammo-hf node MODEL``."""

import sys

from mammo_hf.cli.running import run_command

from .command import main

sys.exit(run_command(main))
