"""A folder of features is a data set on the Hub, if the terms of images and encoder allow weights to be published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest

import mammo_hf
from mammo_hf.data.prepare.folder import features_folder
from mammo_hf.data.terms import Terms, read_terms, write_terms
from mammo_hf.encoders import features_about
from mammo_hf.encoders.units import check_features
from mammo_hf.errors import DataError, UsageError


@pytest.fixture
def features(embedded, tmp_path) -> Path:
    return Path(shutil.copytree(embedded, tmp_path / "features"))


def test_features_come_back_from_the_hub_as_they_were_pushed(features, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    pushed = mammo_hf.push(features, "lab/features")
    assert pushed.pinned.startswith("hub:lab/features@")
    loaded, before = mammo_hf.load(pushed.pinned), mammo_hf.load(features)
    folder = Path(features_folder(loaded))
    for shard in sorted(features.glob("data/*")):
        assert (folder / "data" / shard.name).read_bytes() == shard.read_bytes()
    assert loaded.column("image_id") == before.column("image_id")
    about = features_about(folder)
    made_with = Path(features_about(features)["encoder"]["name"])
    assert made_with.is_absolute()
    assert about["encoder"]["name"] == made_with.name  # and not its folder on this machine
    check = {"weights": about["encoder"]["weights"], "name": "vit"}
    tiles = {name: about[name] for name in ("tiles", "spacing", "overlap", "image_size")}
    config = mammo_hf.MammoBagConfig(feature_size=32, tasks=loaded.tasks[:1], encoder_record=check, tiles=tiles)
    check_features(config, folder)
    text = (folder / "README.md").read_text()
    assert "Features of 12 mammograms" in text
    assert f"SHA-256 {about['encoder']['weights']}" in text
    assert str(features) not in text + json.dumps(about)


def test_the_leak_check_comes_back_from_the_hub_for_the_patients_of_the_features(features, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    table = mammo_hf.load(features)
    seen, other = table.where(split="test").column("patient")[0], "f" * 16
    split = {"salt_name": table.salt_name, "splits": {seen: "train", other: "train"}, "root": "/data/secret"}
    (features / "split.json").write_text(json.dumps(split))
    loaded = mammo_hf.load(mammo_hf.push(features, "lab/features").pinned)
    published = json.loads((Path(features_folder(loaded)) / "split.json").read_text())
    assert published == {"salt_name": table.salt_name, "splits": {seen: "train"}, "seen_before": []}
    with pytest.raises(DataError, match="an earlier stage and test"):
        mammo_hf.finetune(loaded, tmp_path / "head", use_cpu=True, report_to="none")


def test_features_of_images_or_of_an_encoder_with_closed_terms_are_refused_as_weights_are(features, hub):
    write_terms(features, read_terms(features), [Terms("a hospital's images", "by contract")])
    with pytest.raises(UsageError, match=r"a hospital's images: .*ask"):
        mammo_hf.push(features, "lab/features")
    assert not hub.repositories
    mammo_hf.push(features, "lab/features", permission="The board, for research")


def test_features_that_a_clause_forbids_are_refused(features, hub):
    terms = json.loads((features / "terms.json").read_text())
    terms["terms"][0] |= {"weights": "not allowed", "clause": "clause 5"}
    (features / "terms.json").write_text(json.dumps(terms))
    with pytest.raises(UsageError, match="not allowed"):
        mammo_hf.push(features, "lab/features")
    assert not hub.repositories
