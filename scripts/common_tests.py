"""Run transformers' own common tests of models and image processors on our classes, and on stock Swin.

    python scripts/common_tests.py --version 5.23.0

The tests come from transformers' source distribution, which pip downloads into a temporary folder; another version than
the installed one is installed there too, for these tests alone. The last lines count, for each kind of model, what has
passed, and name what has failed without being expected to (`EXPECTED`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import transformers

CASES = Path(__file__).parents[1] / "tests" / "models" / "common_cases.py"
SHORT = ("ClassifierTest", "MaskedTest", "ProcessorTest")  # what `make test-slow` runs
# what the mixins import from modules of transformers' tests that its source distribution does not contain
ABSENT = {
    "exporters/test_export.py": "class ExportTesterMixin: pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin: pass\n",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
    "../fetch_hub_objects_for_ci.py": "def url_to_local_path(url, *_): return url\n",
}
# tests that fail by design, "case test" or "* test", and why
EXPECTED = {
    "ClassifierTest test_can_load_ignoring_mismatched_shapes": "num_labels that contradicts the tasks is refused",
    "ProcessorTest test_call_numpy_4_channels": "an array of a mammogram has one channel or three",
    "ProcessorTest test_image_processor_from_dict_with_kwargs_has_attributes": "an unknown key is refused, not kept",
    "ProcessorTest test_new_models_require_torchvision_backend": "16 bits are read without torchvision",
    "ProcessorTest test_pil_can_load_without_torchvision": "looks for the class among transformers' own modules (5.20)",
}


def main() -> int:
    """Run the chosen cases; the exit status is that of a test run."""
    p = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    p.add_argument("--version", default=transformers.__version__, help="version of transformers (%(default)s)")
    p.add_argument("--cases", nargs="*", default=[], help=f"classes of {CASES.name}; all by default")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Take the tests out of the source distribution, and add what it lacks
        if not download(folder, args.version):
            print(f"transformers {args.version} cannot be downloaded from the package index", file=sys.stderr)
            return 2
        for path, text in ABSENT.items():
            if not (folder / "tests" / path).exists():
                (folder / "tests" / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / "tests" / path).write_text(text)
                print(f"not in the source distribution, replaced by an empty one: {Path(path).name}")
        for package in [folder / "tests", *(folder / "tests").glob("*/")]:
            (package / "__init__.py").touch()
        (folder / "tests" / "test_mammo_swin.py").write_text(CASES.read_text())
        # Run the cases on that version
        result = folder / "result.xml"
        chosen = [f"tests/test_mammo_swin.py{f'::{case}' if case else ''}" for case in args.cases or [""]]
        search = os.pathsep.join([str(folder / "packages"), str(CASES.parents[2]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={result}", *chosen]
        run = subprocess.run(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": search, "HF_HUB_OFFLINE": "1"}, stdout=subprocess.PIPE
        )
        if not result.is_file() or run.returncode not in (0, 1):
            print(run.stdout.decode()[-3000:], file=sys.stderr)
            return 2
        return report(result)


def download(folder: Path, version: str) -> bool:
    """Put the tests of a version into a folder, and its code and what they need if it is not the installed one."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    source = [*pip, "download", "--no-deps", "--no-binary=:all:", "--no-build-isolation", f"transformers=={version}"]
    if subprocess.run([*source, "-d", str(folder)], check=False).returncode:
        return False
    needed = ["parameterized"] + ([] if version == transformers.__version__ else [f"transformers=={version}"])
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "packages"), *needed], check=True)
    (archive,) = folder.glob("transformers-*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    (folder / archive.name.removesuffix(".tar.gz") / "tests").rename(folder / "tests")
    return True


def report(result: Path) -> int:
    """Print the counts of each case, and what has failed; return 1 if something was not expected to."""
    counts: dict[str, Counter[str]] = {}
    failed = []
    for case in ElementTree.parse(result).iter("testcase"):
        kind, name = str(case.get("classname")).rsplit(".", 1)[-1], str(case.get("name"))
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        expected = {f"{kind} {name}", f"* {name}"} & set(EXPECTED)
        if outcome == "failed":
            outcome = "expected to fail" if expected else outcome
            messages = [child.get("message") for child in case if child.tag in ("failure", "error")]
            reason = EXPECTED[expected.pop()] if expected else str(messages[0])[:200]
            failed.append(f"{outcome}: {kind} {name}: {reason}")
        counts.setdefault(kind, Counter())[outcome] += 1
    for kind, outcomes in counts.items():
        print(f"{kind}: " + ", ".join(f"{outcomes[name]} {name}" for name in sorted(outcomes)))
    print(*failed, sep="\n")
    return int(any(line.startswith("failed") for line in failed))


if __name__ == "__main__":
    sys.exit(main())
