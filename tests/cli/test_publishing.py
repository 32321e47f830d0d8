"""What ends a training, and what can be done later: card and push, from the command line."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hub_fixtures import checkpoint, hub, trained
from made_checkpoint import made_checkpoint

from mammo_hf.cli import main
from mammo_hf.phantom.writing import write_phantom

__all__ = ["checkpoint", "hub", "trained"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=8, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


@pytest.fixture
def stage(collection, monkeypatch, tmp_path):
    """Stage 2 without its training: a checkpoint appears, and its figures."""

    def fit(prepared, processor, config, **_):
        assert not config.push_to_hub
        assert config.hub_token is None
        trainer = SimpleNamespace(is_world_process_zero=lambda: True)
        return SimpleNamespace(trainer=trainer, figures={"train_images": 0}, images={})

    def save(fitted, processor, config, figures, **_):
        made_checkpoint(Path(config.output_dir))
        (Path(config.output_dir) / "README.md").unlink()
        metrics = json.loads((Path(config.output_dir) / "metrics.json").read_text())
        (Path(config.output_dir) / "metrics.json").unlink()
        return metrics["classifier"] | {"collection": figures["collection"], "train_images": 0}

    monkeypatch.setattr("mammo_hf.training.classification.fit_classifier", fit)
    monkeypatch.setattr("mammo_hf.training.classification._evaluate_and_save", save)

    def run(*more):
        where = ["--dataset", str(collection), "--output_dir", str(tmp_path / "cls"), "--model", "nano"]
        return main(["finetune", *where, "--image_size", "112", "--use_cpu", "--num_workers", "0", *more])

    return run


def test_a_training_ends_with_a_card_of_its_own_collection_and_asks_the_hub_nothing(stage, hub, tmp_path):
    assert stage("--license", "apache-2.0") == 0
    assert hub.asked == []
    text = (tmp_path / "cls" / "README.md").read_text()
    assert "license: apache-2.0" in text
    assert "mammo\\_hf phantoms, split by patient" in text
    assert "| train | " in text
    assert json.loads((tmp_path / "cls" / "metrics.json").read_text())["card"] == {"license": "apache-2.0"}


def test_a_training_is_pushed_once_at_its_end(stage, hub, tmp_path, capsys):
    assert (
        stage("--push_to_hub", "--hub_model_id", "lab/mammo", "--hub_private_repo", "true", "--hub_revision", "v1") == 0
    )
    assert "pushed to " in capsys.readouterr().err
    repository = hub.repositories["lab/mammo"]
    assert repository.private
    assert set(repository.branches) == {"main", "v1"}
    assert len(repository.commits) == 2
    sent = b"".join([*hub.received, *hub.objects.values()])
    assert str(tmp_path).encode() not in sent
    assert os.fsencode(str(tmp_path.name)) not in sent
    note = json.loads((tmp_path / "cls" / "pushed.json").read_text())
    assert note == {"repository": "lab/mammo", "commit": repository.branches["v1"]}


def test_a_token_that_may_not_write_is_found_before_an_image_is_read(stage, hub, tmp_path, capsys):
    hub.fail("POST /api/repos/create", 403)
    assert stage("--push_to_hub", "--hub_model_id", "other/mammo") == 1
    assert "error: other/mammo: the token has no write access there (403)" in capsys.readouterr().err
    assert not (tmp_path / "cls").exists()


def test_a_push_that_fails_loses_nothing_and_says_how_to_go_on(stage, hub, tmp_path, capsys):
    hub.fail("POST .*/commit/", 500)
    assert stage("--push_to_hub", "--hub_model_id", "lab/mammo") == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    folder = tmp_path / "cls"
    assert error.endswith(f"or push it later with mammo-hf push {folder} lab/mammo")
    hub.faults.clear()
    assert main(["push", str(folder), "lab/mammo"]) == 0
    assert "config.json" in hub.files("lab/mammo")


def test_the_next_stage_names_the_model_that_it_started_from(checkpoint, tmp_path):
    from mammo_hf.hub.push import finish_checkpoint

    (tmp_path / "mim").mkdir()
    (tmp_path / "mim" / "pushed.json").write_text('{"repository": "lab/mim", "commit": "1"}')
    finish_checkpoint(checkpoint, "classifier", {}, plots=tmp_path / "none", start=str(tmp_path / "mim"))
    text = (checkpoint / "README.md").read_text()
    assert "base_model: lab/mim\n" in text
    assert "Started from lab/mim@1." in text


def test_push_says_where_and_which_commit(checkpoint, hub, capsys):
    assert main(["push", str(checkpoint), "lab/mammo", "--private", "--revision", "v1", "--message", "First"]) == 0
    out = capsys.readouterr().out
    assert f"{hub.url}/lab/mammo/commit/" in out
    commit = hub.repositories["lab/mammo"].branches["v1"]
    assert f'lab/mammo@{commit}, or revision="{commit}"' in out
    # the next stage's card names it
    assert json.loads((checkpoint / "pushed.json").read_text()) == {"repository": "lab/mammo", "commit": commit}


def test_a_card_that_somebody_has_written_is_pushed_as_it_is(checkpoint, hub):
    own = (checkpoint / "README.md").read_text() + "\nOurs: your-name/your-model.\n"
    (checkpoint / "README.md").write_text(own)
    assert main(["push", str(checkpoint), "lab/mammo"]) == 0
    assert hub.files("lab/mammo")["README.md"].decode().endswith("\nOurs: lab/mammo.\n")
    assert (checkpoint / "README.md").read_text() == own


def test_a_card_is_made_where_there_is_none(checkpoint, hub):
    (checkpoint / "README.md").unlink()
    assert main(["push", str(checkpoint), "lab/mammo"]) == 0
    assert hub.files("lab/mammo")["README.md"].decode().count("# lab/mammo\n") == 1


def test_card_takes_in_what_was_measured_later(checkpoint, tmp_path, capsys):
    row = {"arm": "ours", "tune": "head", "baseline": False, "percentage": 10.0, "auroc": 0.7, "interval": None}
    (tmp_path / "summary.json").write_text(json.dumps({"rows": [row]}))
    given = ["--label_efficiency", str(tmp_path / "summary.json"), "--license", "mit", "--base_model", "lab/mim"]
    assert main(["card", str(checkpoint), *given]) == 0
    assert "written: " in capsys.readouterr().out
    assert main(["card", str(checkpoint)]) == 0  # what was said stays said
    text = (checkpoint / "README.md").read_text()
    assert "license: mit\n" in text
    assert "base_model: lab/mim\n" in text
    assert "| ours | 0.700 |" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["push", "nowhere", "lab/mammo"], "nowhere: there is no model here"),
        (["push", "CHECKPOINT", "a b"], "is not a valid name of a repository"),
        (["card", "nowhere"], "nowhere: there is no model here"),
        (["card", "CHECKPOINT", "--plots", "nowhere"], "nowhere: is not a folder"),
        (["card", "CHECKPOINT", "--label_efficiency", "CHECKPOINT/config.json"], "mammo-hf label-efficiency"),
        (["card", "CHECKPOINT", "--explanations", "CHECKPOINT/config.json"], "mammo-hf evaluate-explanations"),
    ],
)
def test_wrong_use_is_one_line_and_status_two(checkpoint, tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert main([argument.replace("CHECKPOINT", str(checkpoint)) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("error: ")
    assert says in error[-1]
