"""The shell blocks of the documents are run, each page in a copy of a folder in which a model has been trained.

A line stays as it is; options that make it short come after its own. A script, and what ``accelerate launch`` would
launch, runs in this process: `tests/commands/test_scripts_slow.py` starts them as processes.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser
from document_blocks import PAGES, blocks, page_name, shell_lines
from document_commands import SCRIPTS
from document_world import here, make_world, put_file
from hub_fixtures import hub

from mammo_hf.cli import main

__all__ = ["hub"]
pytestmark = pytest.mark.slow

STAGE = [
    *(
        "--use_cpu",
        "true",
        "--report_to",
        "none",
        "--num_workers",
        "0",
        "--seed",
        "0",
        "--max_steps",
        "2",
        "--overwrite_output_dir",
    )
]
SMALL = ["--image_size", "112", "112"]
SHORT = {
    "pretrain": [*STAGE, *SMALL, "--model", "nano"],
    "finetune": [*STAGE, *SMALL],
    "analysis": [
        *(*SMALL, "--model", "nano", "--use_cpu", "--num_workers", "0", "--mim_epochs", "1"),
        "--overwrite_output_dir",
    ],
    "explain": ["--num_workers", "0", "--count", "1"],
    "evaluate": ["--num_workers", "0", "--device", "cpu", "--resamples", "100"],
    "evaluate-explanations": [
        "--num_workers",
        "0",
        "--count",
        "2",
        "--faithfulness_images",
        "1",
        "--sanity_images",
        "1",
        "--random_label_updates",
        "2",
    ],
    "label-efficiency": [*SMALL, "--model", "nano"],
    "predict": ["--num_workers", "0", "--device", "cpu"],
    "prepare": ["--image_size", "112", "112", "--num_workers", "0"],
    "phantom": ["--patients", "12", "--image_size", "224", "112", "--num_workers", "1"],
}
NOT_RUN = {
    r"^make ": "these set up an environment and run what is tested here",
    r"^pip ": "tests/test_wheel_slow.py installs what is built",
    r"^mammo-hf app (?!.*--space)": "serves until it is stopped; tests/app opens it in a browser",
    r"\bWORK/": "hours, some on real collections; benchmarks/results.py runs them and prints these lines",
    r"benchmarks/": "a measurement of minutes; each has a test of its own where it has arithmetic",
    r"^mammo-hf download .*(?<!--dry_run)$": "fetches from the network",
    r"scripts/clean_encoder": "measures a large model; tests/test_clean_encoder.py runs it whole on miniatures",
    r"facebook/": "fetches an encoder; tests/training/test_teacher.py runs it with a tiny one",
    r"--teacher data/taught": "needs that encoder's features",
    r"data/exams|exam-features|lab/exam-head": "tests/documents/test_exam_lines.py runs these lines in their order",
    r"^mammo-hf node|mammo_hf_pacs": "needs a PACS; the plug-in's tests start one and run these",
    r"--ray_address": "needs a Ray cluster; tests/data/prepare starts one",
}
NEEDS = {"captum": "captum_", "ray": "--ray", "onnx": "export onnx", "idc_index": "mammo-hf download"}
LINES_BEFORE = {
    "docs/predicting.md": [
        "mammo-hf embed data/cbis --encoder out/mim --tiles whole --output_dir features",
        "mammo-hf finetune --dataset features --level breast --output_dir out/bag",
    ],
    "docs/publishing.md": [
        "mammo-hf label-efficiency --dataset data/cbis --output_dir out/labels --percentages 100 --seeds 1",
        "mammo-hf evaluate-explanations out/cls --dataset data/cbis --output_dir out/explanations",
    ],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with both stages trained for two steps, under the documents' names."""
    world = make_world(tmp_path_factory.mktemp("trained"), patients=12)
    for name in ("data/EMBED", "data/INbreast", "data/inbreast"):
        source = "cbis" if name == "data/EMBED" else "mini-mias"
        (world / name).symlink_to(f"{source}", target_is_directory=True)
    shutil.rmtree(world / "out")
    for words in (
        ["pretrain", "--dataset", "data/cbis", "--output_dir", "out/mim"],
        ["finetune", "--dataset", "data/cbis", "--model", "out/mim", "--output_dir", "out/cls"],
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(world)
            assert main([*words, *SHORT[words[0]]]) == 0
    (world / "demo").mkdir()  # as make demo leaves it
    for name, own in (("phantom", "data/cbis"), ("mim", "out/mim"), ("classifier", "out/cls")):
        (world / "demo" / name).symlink_to(f"../{own}", target_is_directory=True)
    return world


@pytest.fixture
def world(trained, tmp_path, monkeypatch):
    folder = shutil.copytree(trained, tmp_path / "world", symlinks=True)
    monkeypatch.chdir(folder)
    return folder


def command_of(words):
    """What a line asks of ``mammo-hf``."""
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[:2] == ["accelerate", "launch"]:
        args = launch_command_parser().parse_args(words[2:])
        return (
            args.training_script_args
            if args.module
            else command_of(["python", args.training_script, *args.training_script_args])
        )
    return [SCRIPTS[words[1].split("/")[-1].removesuffix(".py")], *words[2:]] if words[0] == "python" else words[1:]


def short(given):
    """Options that make a command short; features have no image size any more."""
    options = SHORT.get(given[0], ())
    return (
        [word for word in options if word not in SMALL] if given[0] == "finetune" and "features" in given else options
    )


def reason_not_to_run(line):
    for pattern, reason in NOT_RUN.items():
        if re.search(pattern, line):
            return reason
    for package, sign in NEEDS.items():
        if sign in line and importlib.util.find_spec(package) is None:
            return f"needs {package}"
    return None


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")], ids=page_name)
def test_the_pages_lines_run(page, world, hub, capsys):
    for block in blocks(page):
        if block.directive == "file":
            put_file(block, world)
    lines = [shlex.split(line) for line in LINES_BEFORE.get(page_name(page), ())]
    lines += [words for block in blocks(page, "bash") for words in shell_lines(block.text)]
    left_out = []
    for words in lines:
        line = shlex.join(words)
        reason = reason_not_to_run(line)
        if reason is not None:
            left_out.append(f"{line}: {reason}")
            continue
        given = [here(word, world).replace("s3://", f"{world}/") for word in command_of(words)]
        written = Path(given.pop()) if ">" in given else None
        given = [word for word in given if word != ">"]
        capsys.readouterr()
        try:
            status = main([*given, *short(given)])
        except SystemExit as end:
            status = end.code or 0
        said = capsys.readouterr()
        assert status == 0, f"{line}\n{said.err[-2000:]}"
        if written is not None:
            written.write_text(said.out, encoding="utf-8")
    print("not run:", *left_out, sep="\n  ")
