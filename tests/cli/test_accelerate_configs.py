from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "accelerate"


@pytest.mark.parametrize("name", ["one_node", "many_nodes"])
def test_accelerate_reads_them(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert config.distributed_type.value == "MULTI_GPU"
    assert config.num_processes % config.num_machines == 0
    assert (config.num_machines > 1) == (name == "many_nodes")
