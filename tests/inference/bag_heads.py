"""A head over features of a tiny ViT, with random weights, and an archive of exams of four views."""

from __future__ import annotations

from pathlib import Path

import torch
from families import save_family
from small_archive import write_dicom

from mammo_hf import MammoBagConfig, MammoBagForClassification, MammoImageProcessor
from mammo_hf.encoders import load_encoder

TASKS = [
    {"name": "pathology", "labels": ["benign", "malignant"], "level": "exam"},
    {"name": "density", "labels": ["a", "b", "c", "d"], "level": "exam"},
]
TILES = {"tiles": "both", "spacing": 0.1, "overlap": 0.25, "image_size": [64, 32]}


def write_head(
    folder: Path,
    encoder: Path | str | None = None,
    *,
    tiles: str = "both",
    level: str = "exam",
    size: tuple[int, int] = (64, 32),
) -> Path:
    """Saves a head whose attention and differences matter, with its processor."""
    encoder = encoder or save_family("vit", folder.with_name("vit"))
    record = load_encoder(encoder).record
    tasks = [{**task, "level": level} for task in TASKS]
    made = {"tasks": tasks, "encoder_record": record, "tiles": TILES | {"tiles": tiles, "image_size": list(size)}}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = MammoBagForClassification(MammoBagConfig(feature_size=2 * record["channels"], **made))
        for parameter in (head.tile_attention.score, head.image_attention.score, head.side.weight, head.view.weight):
            torch.nn.init.normal_(parameter)
        torch.nn.init.normal_(head.classifier.weight, std=0.5)
    head.save_pretrained(folder)
    MammoImageProcessor(size=size).save_pretrained(folder)
    return folder


def write_exams(folder: Path) -> Path:
    """Writes two exams whose files alternate, the first with a second left CC, and a file of its own."""
    for number, (side, view) in enumerate([("L", "CC"), ("R", "CC"), ("L", "MLO"), ("R", "MLO")]):
        for exam in range(2):
            study = {"StudyInstanceUID": f"1.2.3.{exam}", "AcquisitionDate": "20200101", "AcquisitionTime": "10"}
            write_dicom(folder / f"{number}-{exam}.dcm", 10 * exam + number, laterality=side, view=view, **study)
    later = {"StudyInstanceUID": "1.2.3.0", "AcquisitionDate": "20200101", "AcquisitionTime": "11"}
    write_dicom(folder / "9-again.dcm", 77, laterality="L", view="CC", **later)
    return folder
