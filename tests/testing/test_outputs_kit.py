"""The kits for outputs and commands pass sound ones, and name what is wrong with each other."""

import itertools
import json
import sys
from types import SimpleNamespace

import pytest

from mammo_hf.errors import DataError
from mammo_hf.testing import check_command, check_output

RUNS = itertools.count()


def as_json(exam):
    return [(f"{image.laterality}{image.view}.json", json.dumps(image.scores).encode()) for image in exam.images]


def output(files_of=as_json, **changes):
    names = {"REQUIRES": (), "available": lambda: True, "MAPS": False, "files_of": files_of}
    return SimpleNamespace(**names | changes)


def refuses_strangers(exam):
    if not exam.images[0].view:
        raise DataError("has no view")
    return as_json(exam)


def test_a_sound_output_passes():
    names = [name for name, _ in check_output(output())]
    assert names == ["RCC.json", "LCC.json", "RMLO.json", "LMLO.json"]
    check_output(output(refuses_strangers))


def writes_next_to_it(exam):
    with open(f"{exam.images[0].file}.json", "w") as file:
        file.write("{}")
    return as_json(exam)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (output(MAPS=None), "MAPS says"),
        (output(available=lambda: False, REQUIRES=("nothing",)), "it needs nothing"),
        (output(lambda exam: []), "no file"),
        (output(lambda exam: [("a", str(next(RUNS)).encode())]), "other bytes"),
        (output(lambda exam: [("a", exam.images[0].file.encode())]), "another folder"),
        (output(lambda exam: [("a", b"x"), ("a", b"y")]), "one name"),
        (output(lambda exam: [("b/a", b"x")]), "plain file name"),
        (output(lambda exam: [("PLANTED-4711.txt", b"x")]), "names a patient"),
        (output(lambda exam: [("a", "text")]), "not bytes"),
        (output(lambda exam: [("a", b"x" * exam.images[0].explanations[0].map.size)]), "IndexError, not a MammoError"),
        (output(writes_next_to_it), "changed the folder"),
    ],
)
def test_what_breaks_the_contract_of_outputs_is_named(wrong, problem):
    with pytest.raises(AssertionError, match=problem):
        check_output(wrong)


SOUND = '''"""Say hello."""
from mammo_hf.cli.running import Parser

def parser():
    return Parser("mammo-hf hello", __doc__, "mammo-hf hello")

def main(arguments):
    parser().parse_args(arguments)
    print("hello")
'''


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A module made of a text."""

    def make(text):
        name = f"a_command_{next(RUNS)}"
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        __import__(name)
        return sys.modules[name]

    return make


def test_a_sound_command_passes(command):
    check_command(command(SOUND), "hello")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"""Say hello."""', "__doc__ = ''", "no docstring"),
        ('"mammo-hf hello", __doc__', '"hello", __doc__', "calls itself hello"),
        ("from mammo_hf", "import pandas\nfrom mammo_hf", "importing it loads pandas"),
        ("parser().parse_args(arguments)", "parser().parse_known_args(arguments)", "is not refused"),
        ("def main", "def other", "it has no main"),
    ],
)
def test_what_breaks_the_contract_of_commands_is_named(command, old, new, problem):
    with pytest.raises(AssertionError, match=problem):
        check_command(command(SOUND.replace(old, new)), "hello")
    with pytest.raises(AssertionError, match="is a command of mammo_hf"):
        check_command(command(SOUND), "predict")
