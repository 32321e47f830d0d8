"""The split of a training, from the command line: made, saved, read again, and checked against earlier stages."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mammo_hf.cli import main
from mammo_hf.data.loading import load
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.data.splits import read_split
from mammo_hf.models.configuration_mammo_swin import SIZES, MammoSwinConfig
from mammo_hf.models.modeling_mammo_swin import MammoSwinForImageClassification
from mammo_hf.processing.image_processing_mammo import MammoImageProcessor

MAPPING = """
name = "ours"
licence = "ours alone"
quirks = []
[images]
table = "films.csv"
path = "{file}"
[columns]
patient = "{patient}"
[tasks.pathology]
from = "{pathology}"
"""
SMALL = ["--image_size", "112", "--use_cpu", "true", "--num_workers", "0"]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Twenty patients with a film each, and no official split."""
    root = tmp_path_factory.mktemp("films")
    (root / "ours.toml").write_text(MAPPING)
    lines = ["file,patient,pathology"]
    for number in range(20):
        pixels = np.zeros((160, 100), np.uint8)
        pixels[10:150, :80] = np.random.default_rng(number).integers(60, 250, (140, 80))
        Image.fromarray(pixels).save(root / f"{number}.png")
        lines.append(f"{number}.png,p{number},{('benign', 'malignant')[number % 2]}")
    (root / "films.csv").write_text("\n".join(lines))
    return root


@pytest.fixture
def untrained(monkeypatch):
    """Commands that do everything but train; gives the prepared images that training would have got."""
    given = []

    def keep(prepared):
        given.append(dict(zip(prepared["image_id"], prepared["split"], strict=True)))

    def fit(prepared, *_, **__):
        keep(prepared)
        trainer = SimpleNamespace(is_world_process_zero=lambda: True)
        return SimpleNamespace(trainer=trainer, figures={"train_images": 0}, images={})

    def masked(prepared, *_):
        keep(prepared)
        return None, None

    metrics = {"train_images": 0, "test": {}}
    made = SimpleNamespace(is_world_process_zero=lambda: True, add_callback=lambda _: None)
    for name, function in (
        ("classification.fit_classifier", fit),
        ("classification._evaluate_and_save", lambda *_, **__: dict(metrics)),
        ("mim._masked_images", masked),
        ("mim._trainer", lambda *_: made),
        ("mim._save", lambda *_: dict(metrics)),
        ("mim.run", lambda *_: None),
        # without a model there is nothing to describe
        ("trainer.finish_checkpoint", lambda *_, **__: None),
    ):
        monkeypatch.setattr(f"mammo_hf.training.{name}", function)
    return given


def save_encoder(folder):
    """What an untrained stage leaves out: the model's configuration."""
    MammoSwinConfig(**SIZES["nano"], image_size=(112, 112)).save_pretrained(folder)


def stage(command, films, out, *more):
    start = () if "--model" in more else ("--model", "nano")
    return main([command, "--dataset", str(films), "--output_dir", str(out), *start, *SMALL, *map(str, more)])


def test_both_stages_make_the_same_test_split_and_leave_it_beside_the_checkpoint(films, untrained, tmp_path, capsys):
    mapping = films / "ours.toml"
    assert stage("pretrain", mapping, tmp_path / "mim") == 0
    log = capsys.readouterr().err
    assert "test: the collection has no split of its own, so 20% of the patients are taken" in log
    assert "test: 4 patients (4 images) taken from training, seed" in log
    assert stage("finetune", mapping, tmp_path / "cls") == 0
    assert untrained[0] == untrained[1]
    assert sorted(untrained[0].values()).count("test") == 4
    assert read_split(tmp_path / "mim" / "split.json") == read_split(tmp_path / "cls" / "split.json")
    assert stage("pretrain", mapping, tmp_path / "all", "--test_fraction", "0") == 0
    assert "test" not in untrained[2].values()


def test_another_seed_after_pre_training_is_refused_and_its_split_file_is_the_remedy(
    films, untrained, tmp_path, capsys
):
    mapping, mim = films / "ours.toml", tmp_path / "mim"
    assert stage("pretrain", mapping, mim) == 0
    save_encoder(mim)
    start = ["--model", mim]
    assert stage("finetune", mapping, tmp_path / "cls", *start, "--seed", "7") == 1
    assert "(an earlier stage and test)" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "cls" / "split.json").exists()
    saved = ["--split_file", mim / "split.json"]
    assert stage("finetune", mapping, tmp_path / "cls", *start, "--seed", "7", *saved) == 0
    assert read_split(tmp_path / "cls" / "split.json") == read_split(mim / "split.json")


def test_raw_and_prepared_data_through_the_same_arguments(films, untrained, tmp_path):
    prepare_images(load(films / "ours.toml"), MammoImageProcessor(size=(112, 112)), tmp_path / "prepared")
    for number, dataset in enumerate((films / "ours.toml", tmp_path / "prepared")):
        assert stage("pretrain", dataset, tmp_path / f"mim{number}") == 0
        where = ["--root_dir", str(dataset), "--output_dir", str(tmp_path / f"run{number}"), "--image_size", "112"]
        quick = ["--train_mim", "--train_cls", "--model", "nano", "--use_cpu", "--num_workers", "0"]
        assert main(["analysis", *where, *quick, "--seed", "42"]) == 0
    assert len(untrained) == 6  # three stages each
    assert all(given == untrained[0] for given in untrained)  # Trainer's own seed is 42 too
    splits = [read_split(path) for path in tmp_path.glob("**/split.json")]
    assert len(splits) == 6
    assert all(split == splits[0] for split in splits)


def test_an_earlier_runs_encoder_of_another_seed_is_refused_by_the_one_command(films, untrained, tmp_path, capsys):
    where = ["--root_dir", str(films / "ours.toml"), "--output_dir", str(tmp_path), "--image_size", "112"]
    quick = [*where, "--model", "nano", "--num_workers", "0"]
    assert main(["analysis", *quick, "--train_mim"]) == 0
    save_encoder(tmp_path / "checkpoints" / "mim")
    assert main(["analysis", *quick, "--train_cls", "--seed", "5"]) == 1
    assert "an earlier stage and test" in capsys.readouterr().err
    assert main(["analysis", *quick, "--train_mim", "--train_cls", "--seed", "5", "--overwrite_output_dir"]) == 0


def test_near_duplicates_end_a_training_where_asked(films, untrained, tmp_path, capsys):
    (tmp_path / "copies").mkdir()
    for path in films.iterdir():
        (tmp_path / "copies" / path.name).write_bytes(path.read_bytes())
    mapping = tmp_path / "copies" / "ours.toml"
    assert stage("pretrain", mapping, tmp_path / "mim", "--near_duplicates", "true") == 0
    assert "no near duplicates in two splits" in capsys.readouterr().err
    table = load(films / "ours.toml")
    sides = untrained[0]
    train, test = (next(r for r in table if sides[r["image_id"]] == side) for side in ("train", "test"))
    pixels = np.asarray(Image.open(train["path"]))
    # the same film, darker, under a test patient's name
    Image.fromarray(pixels // 2).save(tmp_path / "copies" / test["path"].rpartition("/")[2])
    assert stage("pretrain", mapping, tmp_path / "mim2") == 0
    assert stage("pretrain", mapping, tmp_path / "mim2", "--near_duplicates", "true") == 1
    assert "1 of near duplicate in two splits" in capsys.readouterr().err


def test_near_duplicates_are_looked_for_in_a_stream_too(films, untrained, tmp_path, capsys):
    processor = MammoImageProcessor(size=(112, 112))
    prepare_images(load(films / "ours.toml"), processor, tmp_path / "prepared", format="parquet", shard_size=8)
    more = ["--streaming", "true", "--near_duplicates", "true"]
    assert stage("pretrain", tmp_path / "prepared", tmp_path / "mim", *more) == 0
    assert "no near duplicates in two splits" in capsys.readouterr().err
    assert set(untrained[0].values()) == {"validation"}
    assert len(json.loads((tmp_path / "mim" / "split.json").read_text())["splits"]) == 20


def test_a_collection_without_labels_is_pre_trained_on_whole(films, untrained, tmp_path, capsys):
    mapping = films / "bare.toml"
    mapping.write_text(MAPPING.partition("[tasks")[0])
    assert stage("pretrain", mapping, tmp_path / "mim") == 0
    assert set(untrained[0].values()) == {"train", "validation"}
    assert "test: none, as no image has a label" in capsys.readouterr().err
    assert stage("finetune", mapping, tmp_path / "cls") == 1
    assert "the collection has no task" in capsys.readouterr().err


def test_what_is_explained_are_the_test_patients_of_the_models_own_split(films, untrained, tmp_path):
    assert stage("finetune", films / "ours.toml", tmp_path / "cls") == 0
    tasks = [{"name": "pathology", "labels": ["benign", "malignant"]}]
    config = MammoSwinConfig(**SIZES["nano"], image_size=(112, 112), tasks=tasks)
    MammoSwinForImageClassification(config).save_pretrained(tmp_path / "cls")
    MammoImageProcessor(size=(112, 112)).save_pretrained(tmp_path / "cls")
    where = [str(tmp_path / "cls"), str(films / "ours.toml"), "--output_dir", str(tmp_path / "pictures")]
    assert main(["explain", *where, "--num_workers", "0"]) == 0
    with (tmp_path / "pictures" / "index.csv").open(encoding="utf-8") as file:
        shown = {row["image"] for row in csv.DictReader(file)}
    assert sorted(shown) == sorted(image for image, split in untrained[0].items() if split == "test")
