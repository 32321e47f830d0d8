"""A head over features is pushed with its encoder if that was trained here, else with its name, commit and hash."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from bag_heads import write_exams, write_head
from families import save_family

import mammo_hf
from mammo_hf.data.terms import PHANTOMS, Terms, write_terms
from mammo_hf.encoders import load_encoder
from mammo_hf.errors import UsageError
from mammo_hf.hub.push import push
from mammo_hf.inference.scoring import load_classifier
from mammo_hf.testing import tiny_classifier


@pytest.fixture
def own(tmp_path):
    """A head over features of a checkpoint of ours."""
    encoder = tmp_path / "cls"
    tiny_classifier().save_pretrained(encoder)
    mammo_hf.MammoImageProcessor(size=(112, 56)).save_pretrained(encoder)
    write_terms(encoder, [PHANTOMS])
    head = write_head(tmp_path / "head", encoder, size=(112, 56))
    write_terms(head, [PHANTOMS])
    return head


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, also for what was imported before."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return str(tmp_path / "cache")


@pytest.mark.slow
def test_our_own_encoder_goes_with_the_head_and_is_loaded_in_a_new_process(own, hub, cache, tmp_path):
    pushed = push(own, "lab/head")
    names = huggingface_hub.HfApi().list_repo_files("lab/head")
    assert {"encoder/config.json", "encoder/model.safetensors", "encoder/terms.json", "config.json"} <= set(names)
    exams = write_exams(tmp_path / "exams")
    mammo_hf.predict(own, exams, tmp_path / "here.csv", num_workers=0)
    shutil.rmtree(tmp_path / "cls")  # as on any other machine
    code = (
        "import mammo_hf\nfrom transformers import pipeline\n"
        f"read = pipeline('mammogram-classification', 'lab/head', revision={pushed.commit!r})\n"
        f"found = read({str(exams)!r}, exams=True)[1]['exam']\n"
        "print(*[f\"{one['score']:.4f}\" for one in found if one['label'] == 'malignant'])\n"
        f"mammo_hf.predict({pushed.pinned!r}, {str(exams)!r}, {str(tmp_path / 'there.csv')!r}, num_workers=0)\n"
    )
    env = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": cache, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    here = [line.split(",") for line in (tmp_path / "here.csv").read_text().splitlines()]
    row = [cells for cells in here if cells[0] == "exam"][1]
    assert float(row[here[0].index("pathology:malignant")]) == pytest.approx(float(done.stdout), abs=1e-4)


def test_an_encoder_of_others_is_named_and_copied_only_if_asked(hub, cache, tmp_path):
    head = write_head(tmp_path / "head")
    write_terms(head, [PHANTOMS, Terms("vit", "apache-2.0", "allowed with attribution", "licence of its card")])
    push(head, "lab/named")
    files = huggingface_hub.HfApi().list_repo_files("lab/named")
    assert not [name for name in files if name.startswith("encoder/")]
    folder = Path(huggingface_hub.snapshot_download("lab/named"))
    record = json.loads((folder / "config.json").read_text())["encoder_record"]
    assert record["name"] == "vit"
    assert record["weights"] == load_encoder(tmp_path / "vit").record["weights"]
    card = (folder / "README.md").read_text()
    assert "encoder, vit, which is not part of it and has the licence apache-2.0" in card
    with pytest.raises(UsageError, match=r"encoder vit, which is not there any more; say where it is now"):
        load_classifier("lab/named")
    load_classifier("lab/named", encoder=tmp_path / "vit")
    push(head, "lab/named", encoder=tmp_path / "vit")
    assert (
        "encoder, vit, which is in the folder `encoder`"
        in Path(huggingface_hub.hf_hub_download("lab/named", "README.md")).read_text()
    )
    load_classifier("lab/named")
    with pytest.raises(UsageError, match="has other weights"):
        push(head, "lab/named", encoder=save_family("dinov2", tmp_path / "dinov2"))


def test_the_terms_of_encoder_and_images_are_refused_as_those_of_weights(own, hub):
    write_terms(own, [PHANTOMS, Terms("a hospital's encoder", "by contract")])
    with pytest.raises(UsageError, match="a hospital's encoder"):
        push(own, "lab/closed")
    assert not hub.repositories


def test_a_head_over_an_encoder_of_the_hub_loads_it_by_its_commit(hub, cache, tmp_path):
    api = huggingface_hub.HfApi()
    api.create_repo("other/vit")
    vit = save_family("vit", tmp_path / "saved")
    commit = api.upload_folder(repo_id="other/vit", folder_path=vit).oid
    head = write_head(tmp_path / "head", "other/vit")
    write_terms(head, [PHANTOMS])
    config = json.loads((head / "config.json").read_text())
    assert config["encoder_record"]["revision"] == commit
    assert load_classifier(head)[0].encoder.record["name"] == "other/vit"
    config["encoder_record"]["revision"] = "0" * 40
    (head / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=f"other/vit has no revision '{'0' * 40}'"):
        load_classifier(head)
