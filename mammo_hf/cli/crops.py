"""Draw contact sheets of a folder: every image with its breast mask and its crop, to look at before training."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, MammoError, UsageError
from .running import Parser, writable_folder

if TYPE_CHECKING:
    from PIL import Image

    from ..processing.breast import Breast
    from ..processing.image_processing_mammo import MammoImageProcessor

SUFFIXES = {".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".pgm", ".tif", ".tiff", ""}
FIELDS = [
    *("number", "file", "sheet", "top", "left", "bottom", "right", "chest_wall", "breast_share", "lesion_cut"),
    *("notes", "error"),
]
Facts = dict[str, object]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    p = Parser("mammo-hf crops", __doc__ or "", "mammo-hf crops data/mini-mias --output_dir crops --lesions")
    p.add_argument("source", metavar="SOURCE", help="images of any kind, in folders of any depth")
    p.add_argument("--output_dir", type=Path, required=True, help="folder for crops_000.png, ... and crops.csv")
    p.add_argument("--lesions", action="store_true", help="SOURCE is a collection: count crops that cut lesions")
    p.add_argument("--processor", help="folder with a preprocessor_config.json (default: our default settings)")
    p.add_argument("--pectoral", action="store_true", help="look for the pectoral muscle, too")
    p.add_argument("--columns", type=int, default=10, help="pictures per row (default %(default)s)")
    p.add_argument("--rows", type=int, default=7, help="rows per sheet (default %(default)s)")
    p.add_argument("--tile", type=int, default=190, help="side of a picture in pixels (default %(default)s)")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf crops``."""
    args = parser().parse_args(arguments)
    if min(args.columns, args.rows) < 1 or args.tile < 16:
        raise UsageError("a sheet needs pictures", remedy="give --columns and --rows from 1, and --tile from 16")
    from ..models.checkpoint import load_processor
    from ..processing.contact_sheet import sheets
    from ..processing.image_processing_mammo import MammoImageProcessor

    processor = load_processor(args.processor) if args.processor else MammoImageProcessor()
    processor.blank_pectoral_muscle = processor.blank_pectoral_muscle or args.pectoral
    folder, images = _annotated(args.source) if args.lesions else _found(Path(args.source))
    out = writable_folder(args.output_dir)
    facts: list[Facts] = []
    tiles = _tiles(images, folder, processor, args.tile, args.columns * args.rows, facts)
    for number, sheet in enumerate(sheets(tiles, args.columns, args.rows)):
        sheet.save(out / _sheet_name(number))
    with (out / "crops.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, restval="")
        writer.writeheader()
        writer.writerows(facts)
    failed, unusual = (sum(bool(fact.get(key)) for fact in facts) for key in ("error", "notes"))
    print(f"{len(facts) - failed} images in {out}, {unusual} with a note, {failed} not read; all in crops.csv")
    if args.lesions:
        print(_cut_lesions(facts))


def _annotated(source: str) -> tuple[Path, dict[Path, list[dict[str, Any]]]]:
    """Return the folder of a collection, and its images with their findings."""
    from ..data.loading import load

    collection = load(source)
    return Path(collection.root or source), {Path(row["path"]): row["findings"] or [] for row in collection}


def _found(folder: Path) -> tuple[Path, dict[Path, list[dict[str, Any]]]]:
    """Return the folder and the files in it that may be images, in the order of their names.

    Raises:
        UsageError: It is not a folder.
        DataError: There is no image in it.
    """
    if not folder.is_dir():
        raise UsageError("is not a folder", source=folder, remedy="give a folder of images")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError("holds no images", source=folder, remedy="give a folder of DICOM, PNG, JPEG, PGM or TIFF files")
    return folder, {path: [] for path in paths}


def _tiles(
    images: Mapping[Path, list[dict[str, Any]]],
    folder: Path,
    processor: MammoImageProcessor,
    side: int,
    page: int,
    facts: list[Facts],
) -> Iterator[Image.Image]:
    from tqdm import tqdm

    from ..data.findings import MOST_CUT, cut_fraction, lesion_masks
    from ..processing.contact_sheet import tile

    number = 0
    for path in tqdm(images, desc="crops", unit="image", leave=False):
        fact: Facts = {"file": str(path.relative_to(folder) if path.is_relative_to(folder) else path)}
        try:
            source = processor.open(path)
            breast = processor.find_breast(source)
            lesions = lesion_masks(images[path], source.size) if images[path] else []
            cut = cut_fraction(lesions, source, breast, processor) if lesions else None
        except MammoError as error:
            facts.append(fact | {"error": error.problem})
            continue
        fact |= {"number": number, "sheet": _sheet_name(number // page), **_described(breast)}
        facts.append(fact | ({"lesion_cut": f"{cut:.3f}"} if cut is not None else {}))
        # unusual images are marked, to be looked at first
        mark = " CUT" if (cut or 0) > MOST_CUT else " !" if breast.notes else ""
        view = source.view(slice(None, None, breast.stride))
        yield tile(view, breast, f"{number}{mark} {path.stem[-side // 7 :]}", side, lesions)
        number += 1


def _described(breast: Breast) -> Facts:
    return {
        **dict(zip(("top", "left", "bottom", "right"), breast.box, strict=True)),
        "chest_wall": breast.chest_wall or "",
        "breast_share": f"{breast.mask.mean():.3f}",
        "notes": "; ".join(breast.notes),
    }


def _sheet_name(number: int) -> str:
    return f"crops_{number:03d}.png"


def _cut_lesions(facts: list[Facts]) -> str:
    from ..data.findings import MOST_CUT

    known = [float(str(fact["lesion_cut"])) for fact in facts if fact.get("lesion_cut")]
    if not known:
        return "no image has a lesion of known location"
    bad = sum(fraction > MOST_CUT for fraction in known)
    return (
        f"{bad} of {len(known)} images with a lesion of known location lose more than {MOST_CUT:.0%} of one "
        f"({bad / len(known):.1%})"
    )
