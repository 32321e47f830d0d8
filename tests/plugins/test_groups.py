"""Commands and outputs of other packages: found by their entry points, named if they fail, and passed over."""

import csv
import itertools
from importlib.metadata import EntryPoint

import pytest
from small_archive import write_dicom

from mammo_hf import cli, plugins
from mammo_hf.cli import main
from mammo_hf.errors import UsageError
from mammo_hf.inference.explain import explain
from mammo_hf.inference.predict import predict
from mammo_hf.testing import tiny_classifier

NUMBERS = itertools.count()  # of modules, which Python keeps
HELLO = '''"""Say hello."""
from mammo_hf.cli.running import Parser

def parser():
    return Parser("mammo-hf hello", __doc__, "mammo-hf hello")

def main(arguments):
    parser().parse_args(arguments)
    print("hello")
'''
OUTPUT = """REQUIRES, MAPS = (), {maps}

def available():
    return True

def files_of(exam):
    {line}
    first = exam.images[0]
    return [(first.file.rpartition("/")[2] + ".txt", f"{{len(exam.images)}} {{len(first.explanations)}}".encode())]
"""


@pytest.fixture
def offer(tmp_path, monkeypatch):
    """Offers modules, given as texts, as entry points of a group by name."""
    entries = {}
    (tmp_path / "modules").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "modules")
    known = plugins.entry_points
    monkeypatch.setattr(plugins, "entry_points", lambda group: [*known(group=group), *entries.get(group, [])])

    def make(group, **texts):
        for name, text in texts.items():
            module = f"a_plugin_{next(NUMBERS)}"
            (tmp_path / "modules" / f"{module}.py").write_text(text)
            entries.setdefault(group, []).append(EntryPoint(name, module, group))

    return make


def test_a_command_of_a_package_is_listed_and_runs(offer, capsys):
    offer(cli.GROUP, hello=HELLO, broken="1 / 0", predict=HELLO)
    assert main(["--help"]) == 0
    listed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert listed["hello"].endswith("Say hello.")
    assert "cannot be used: ZeroDivisionError" in listed["broken"]
    assert "scores of a folder" in listed["predict"]
    assert main(["hello"]) == 0
    assert capsys.readouterr().out == "hello\n"


def test_a_command_that_fails_is_named(offer, capsys):
    offer(cli.GROUP, broken="1 / 0", failing=HELLO.replace('print("hello")', "1 / 0"), hello=HELLO)
    assert main(["broken"]) == 2
    assert "this command cannot be used: ZeroDivisionError" in capsys.readouterr().err
    assert main(["failing"]) == 1
    assert "failing: this command failed with ZeroDivisionError" in capsys.readouterr().err
    assert main(["hallo"]) == 2
    assert "hello" in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def model(tmp_path):
    from mammo_hf import MammoImageProcessor

    tiny_classifier().save_pretrained(tmp_path / "model")
    MammoImageProcessor(size=(112, 56)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def archive(tmp_path):
    """Two exams of two images, whose files alternate."""
    for number in range(4):
        named = {"laterality": "LR"[number // 2], "StudyInstanceUID": f"1.2.{number % 2 + 1}"}
        write_dicom(tmp_path / "archive" / f"{number}.dcm", number, **named)
    return tmp_path / "archive"


def test_outputs_get_exams_and_one_that_fails_is_passed_over(offer, model, archive, tmp_path, caplog):
    good, bad = OUTPUT.format(maps=False, line="pass"), OUTPUT.format(maps=False, line="raise RuntimeError('mine')")
    offer("mammo_hf.outputs", good=good, bad=bad, mapped=OUTPUT.format(maps=True, line="pass"))
    plain = predict(model, archive, tmp_path / "plain.csv", num_workers=0)
    predict(model, archive, tmp_path / "some.csv", write=["good", "bad"], num_workers=0)
    written = {path.name: path.read_text() for path in (tmp_path / "some.written").rglob("*.txt")}
    assert written == {"0.dcm.txt": "2 0", "1.dcm.txt": "2 0"}
    assert "bad: this output failed with RuntimeError: mine" in caplog.text
    # the same rows, in the order of the exams
    rows = [list(csv.reader((tmp_path / name).open())) for name in ("plain.csv", "some.csv")]
    assert sorted(rows[0]) == sorted(rows[1])
    assert plain.images == 4
    predict(model, archive, tmp_path / "maps.csv", level="exam", write="mapped", num_workers=0)
    assert (tmp_path / "maps.written" / "mapped" / "0.dcm.txt").read_text() == "2 2"
    assert not (tmp_path / "maps.explanations").exists()
    explain(model, archive, tmp_path / "out", explainer="grad_cam", write=["good"], num_workers=0)
    assert (tmp_path / "out" / "good" / "1.dcm.txt").read_text() == "2 1"


def test_an_unknown_output_is_refused_before_anything_is_read(offer, model, archive, tmp_path):
    if not plugins.offered("mammo_hf.outputs"):
        with pytest.raises(UsageError, match="no output is installed"):
            predict(model, archive, tmp_path / "scores.csv", write=["sr"])
    offer("mammo_hf.outputs", good=OUTPUT.format(maps=False, line="pass"))
    with pytest.raises(UsageError, match="good"):
        predict(model, archive, tmp_path / "scores.csv", write=["gold"])
