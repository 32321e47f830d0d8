"""The same script in one process and in two that torch's launcher starts, over gloo."""

import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

# together, as the commands do: a process that leaves while the other still writes may be aborted
END = """
from mammo_hf.cli.stages import leave_together
leave_together()
"""


def launch(script, *arguments, processes=2):
    """Runs a script to its end."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--rdzv_backend", "c10d"]
        start += ["--rdzv_endpoint", "localhost:0"]
    subprocess.run([*start, str(script), *map(str, arguments)], check=True, timeout=400)


def trained_by_one_and_by_two(code, folder, *arguments):
    """The output folders of a worker's code, run as ``worker.py OUT PROCESSES *arguments``; their models are equal.

    Args:
        code: Writes its model to OUT; ``{tests!r}`` in it becomes the folder of the tests of training.
        folder: For the worker and its outputs.
        arguments: Words that follow.
    """
    worker = folder / "worker.py"
    worker.write_text(code.format(tests=str(Path(__file__).parents[1] / "training")) + END)
    outs = [folder / str(processes) for processes in (1, 2)]
    for processes, out in enumerate(outs, start=1):
        out.mkdir()
        launch(worker, out, processes, *arguments, processes=processes)
    one, two = (load_file(out / "model.safetensors") for out in outs)
    assert one.keys() == two.keys()
    for name in one:
        assert (one[name] - two[name]).abs().max() < 1e-5, name
    return outs
