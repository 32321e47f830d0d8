"""The seed's command on real films and digital mammograms, the whole way, on a small part of each set."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from real_collections import cdd_cesm, mini_mias, write_real_collection

from mammo_hf.cli import main

pytestmark = pytest.mark.slow


def some(films, each):
    """The first malignant, benign and normal films of either split."""
    taken: dict[tuple[str, str], list] = {}
    for film in films:
        finding = film.findings[0][0] if film.findings else None
        kind = (finding.split, finding.pathology) if finding else ("train" if "Training" in film.name else "test", "")
        taken.setdefault(kind, []).append(film)
    assert {(split, label) for split in ("train", "test") for label in ("BENIGN", "MALIGNANT")} <= set(taken)
    return [film for found in taken.values() for film in found[:each]]


@pytest.mark.parametrize(("name", "films"), [("mini-mias", mini_mias), ("cdd-cesm", cdd_cesm)])
def test_the_whole_way_on_real_images(real_data, tmp_path, name, films):
    chosen = some(films(real_data / name), 5)
    root = write_real_collection(tmp_path / "cbis", chosen)
    out = tmp_path / "out"
    status = main(
        [
            *("analysis", "--root_dir", str(root), "--output_dir", str(out), "--train_mim", "--train_cls"),
            *("--visualize", "--model", "nano", "--image_size", "224", "112", "--use_cpu", "--num_workers", "0"),
            *("--mim_epochs", "1", "--cls_epochs", "1", "--log_mode", "file"),
        ]
    )
    assert status == 0
    assert (out / "prepared" / "rejected.csv").read_text().splitlines() == ["source,reason,code"]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["classifier"]["train_images_with_places"] > 0
    pathology = metrics["classifier"]["test"]["pathology"]
    assert min(pathology["class_counts"].values()) > 0
    assert 0 <= pathology["auroc"] <= 1
    plots = {path.name for path in out.glob("checkpoints/*/plots/*")}
    assert plots == {
        "report",
        "mim_panels",
        *("mim_loss.png", "mim_reconstruction.png", "classifier_loss.png", "classifier_metrics.png", "roc.png"),
    }
    pictures = sorted((out / "visualizations").glob("*.png"))
    assert len(pictures) == min(pathology["n_images"], 12)
    outline = (0, 255, 220)
    assert outline in {colour for _, colour in Image.open(pictures[0]).convert("RGB").getcolors(1 << 24)}
    assert "validation loss" in (out / "training_log.txt").read_text()
