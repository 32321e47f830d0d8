import sys

import pytest

from mammo_hf.app import page
from mammo_hf.cli import main


def test_a_space_is_written(tmp_path, capsys):
    pytest.importorskip("gradio")
    assert main(["app", "lab/mammo-swin", "--space", str(tmp_path / "space")]) == 0
    assert (tmp_path / "space" / "app.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"), [(["gone"], "gone"), (["gone", "--port", "0"], "--port"), (["gone", "--space", "x"], "Hub")]
)
def test_wrong_arguments_are_told_of_in_one_line(arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["app", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_without_gradio_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it could not be found
    assert main(["app", "gone"]) == 2
    assert ".[app]" in capsys.readouterr().err
    assert page.NONE == "none"
