"""A folder in which the documents' blocks run: small files of every kind, under the names that the documents use."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from document_blocks import Block
from made_scores import made_scores
from PIL import Image
from small_archive import write_dicom

from mammo_hf import MammoImageProcessor
from mammo_hf.cli import main
from mammo_hf.hub.model_card import write_card
from mammo_hf.hub.pushed_files import files_to_push
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.testing import tiny_classifier

SIZE = (112, 56)
MIAS = 4 * (
    "G CIRC B 535 425 197",
    "G NORM",
    "D CIRC M 313 540 60",
    "D NORM",
    "F CIRC M 338 314 56",
    "F CIRC B 318 359 60",
)


def make_world(world: Path, patients: int = 6, size: tuple[int, int] = (224, 112)) -> Path:
    """Writes the folder: ``data``, ``exam``, ``out/cls`` and ``lab/mammo-swin``, as a user might have them."""
    write_phantom(world / "data/cbis", patients=patients, seed=0, size=size, num_workers=1, progress=False)
    (world / "data/CBIS-DDSM").symlink_to(world / "data/cbis", target_is_directory=True)
    for name in ("mias", "mini-mias"):
        _write_mias(world / "data" / name)
    _write_table_of_our_own(world / "data/ours")
    for number, view in enumerate(("l-cc", "l-mlo", "r-cc", "r-mlo")):
        side, projection = view.upper().split("-")
        for path in (world / f"{view}.dcm", world / f"data/archive/{view}.dcm", world / f"data/films/{view}.dcm"):
            write_dicom(path, number, laterality=side, view=projection)
    write_dicom(world / "exam/1-1.dcm", laterality="L", view="CC")
    (world / "list.txt").write_text("exam/1-1.dcm\nl-cc.dcm\n")
    (world / "list.csv").write_text("path\nexam/1-1.dcm\nl-cc.dcm\n")
    MammoImageProcessor(size=SIZE, tomosynthesis="all").save_pretrained(world / "data/reading")
    _write_checkpoint(world / "out/cls")
    _write_pushed(world / "out/cls", world / "lab/mammo-swin")
    return world


def prepare(world: Path) -> None:
    """What ``mammo-hf prepare`` writes, at a size that takes no time."""
    out = ["--output_dir", str(world / "data/cbis-896"), "--image_size", *map(str, SIZE)]
    assert main(["prepare", str(world / "data/cbis"), *out]) == 0


def here(text: str, world: Path) -> str:
    """A block's text with the documents' absolute folder, /data, below the world's folder."""
    return text.replace("/data/", "\0").replace("plugins\0", "plugins/data/").replace("\0", f"{world}/data/")


def put_file(block: Block, world: Path) -> None:
    """Writes a block that is a file to where its comment says."""
    path = world / block.value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    if path.name == "entry_points.toml":
        _install(path, world)


def given_names() -> dict[str, Any]:
    """What blocks may find without having made it."""
    validation, images = made_scores(60, 0), made_scores(30, 1)
    return {
        "config": tiny_classifier().config,
        "validation_logits": validation.logits,
        "validation_labels": validation.labels,
        "validation_patients": validation.patients,
        "logits": images.logits,
        "labels": images.labels,
        "patients": images.patients,
        "image": Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 150)).astype(np.uint8)),
    }


def _write_checkpoint(folder: Path) -> None:
    tiny_classifier().save_pretrained(folder)
    MammoImageProcessor(size=SIZE).save_pretrained(folder)
    write_card(folder)


def _write_pushed(checkpoint: Path, folder: Path) -> None:
    """The repository as a push would leave it; a folder of its name is loaded in its place."""
    for name, content in files_to_push(checkpoint).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())


def _install(toml: Path, world: Path) -> None:
    """What pip leaves of a package that has these entry points."""
    ((group, entries),) = tomllib.loads(toml.read_text(encoding="utf-8"))["project"]["entry-points"].items()
    info = world / f"{toml.parent.name}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {toml.parent.name}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))


def _write_mias(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "Info.txt").write_text("".join(f"mdb{number:03d} {line}\n" for number, line in enumerate(MIAS, 1)))
    rows, columns = np.mgrid[:1024, :1024]
    for number in range(1, len(MIAS) + 1):
        breast = np.hypot(rows - 512, columns) < 450
        # coarse, so that no film is taken for a near duplicate of another
        coarse = np.random.default_rng(number).integers(40, 200, (16, 16))
        Image.fromarray((breast * np.kron(coarse, np.ones((64, 64)))).astype(np.uint8)).save(
            folder / f"mdb{number:03d}.pgm"
        )


def _write_table_of_our_own(folder: Path) -> None:
    """The tables that the mapping on the page of data describes."""
    columns = "study,pid,side,image,modality,set,type,top,left,bottom,right,to_cancer,followed"
    lines = [
        "s1,p1,L,i1,MG,dev,lump,20,20,60,60,1,6",
        "s1,p1,R,i2,MG,dev,,,,,,100,6",
        "s2,p2,L,i3,MG,eval,,,,,,100,6",
        "s2,p2,R,i4,US,eval,,,,,,100,6",
    ]
    for study, image in (("s1", "i1"), ("s1", "i2"), ("s2", "i3")):
        write_dicom(folder / f"images/{study}/{image}.dcm", int(image[1:]))
    (folder / "exams.csv").write_text("\n".join([columns, *lines, ""]))
    (folder / "biopsies.csv").write_text("pid,breast,result\np1,L,M\np1,R,B\np2,L,pending\n")
