import ast

import pytest
from huggingface_hub import RepoCard

from mammo_hf import __version__
from mammo_hf.app.page import write_space
from mammo_hf.errors import UsageError

pytest.importorskip("gradio")


def test_a_space_is_ready_to_be_pushed(tmp_path):
    out = write_space("lab/mammo-swin", tmp_path / "space")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "app.py", "requirements.txt"]
    ast.parse((out / "app.py").read_text())
    assert 'load_classifier("lab/mammo-swin")' in (out / "app.py").read_text()
    # no name that is not registered, which anybody could register
    *_, requirement = (out / "requirements.txt").read_text().splitlines()
    assert requirement == f"./mammo_hf-{__version__}-py3-none-any.whl[app,codecs]"
    card = RepoCard.load(out / "README.md", ignore_metadata_errors=False).data.to_dict()
    assert (card["sdk"], card["app_file"], card["models"]) == ("gradio", "app.py", ["lab/mammo-swin"])


@pytest.mark.parametrize("model", ["mammo-swin", "../lab", 'lab/"); import os; ("', ""])
def test_what_is_no_name_on_the_hub_is_refused(tmp_path, model):
    with pytest.raises(UsageError, match="not a name on the Hub"):
        write_space(model, tmp_path / "space")


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(UsageError, match="already exists"):
        write_space("lab/mammo-swin", tmp_path)
