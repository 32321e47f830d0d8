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

RUN = """
import sys
for case in sys.argv[3:]:
    train(sys.argv[1] + "/" + case, int(sys.argv[2]), case)
"""


def launch(script, *arguments, processes=2):
    """Runs a script to its end."""
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--rdzv_backend", "c10d"]
        start += ["--rdzv_endpoint", "localhost:0"]
    subprocess.run([*start, str(script), *map(str, arguments)], check=True, timeout=400)


def trained_by_one_and_by_two(code, folder, *cases):
    """The output folders of a worker's code, by case, of one process and of two; their models are equal.

    All cases are run by the same processes, since their start takes longer than what they train.

    Args:
        code: Defines ``train(out, processes, case)``, which writes its model to the existing folder ``out``;
            ``{tests!r}`` in it becomes the folder of the tests of training.
        folder: For the worker and its outputs.
        cases: Words that name what is trained.
    """
    worker = folder / "worker.py"
    worker.write_text(code.format(tests=str(Path(__file__).parents[1] / "training")) + RUN + END)
    outs = {case: (folder / "1" / case, folder / "2" / case) for case in cases}
    for both in outs.values():
        for out in both:
            out.mkdir(parents=True)
    for processes in (1, 2):
        launch(worker, folder / str(processes), processes, *cases, processes=processes)
    for case, both in outs.items():
        one, two = (load_file(out / "model.safetensors") for out in both)
        assert one.keys() == two.keys()
        for name in one:
            assert (one[name] - two[name]).abs().max() < 1e-5, (case, name)
    return outs
