"""Contact sheets of a folder: every image with its breast mask and its crop, to be looked at before training.

mammo-hf crops data/films --output_dir crops
mammo-hf crops data/mini-mias --output_dir crops --lesions
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ..data.findings import MOST_CUT, Finding, cut_share, lesion_masks
from ..data.loading import load
from ..errors import DataError, MammoError, UsageError
from ..processing.breast import Breast
from ..processing.contact_sheet import sheets, tile
from ..processing.image_processing_mammo import MammoImageProcessor
from .running import writable_folder
from .stages import load_processor

SUFFIXES = {".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".pgm", ".tif", ".tiff", ""}
FIELDS = [
    *("number", "file", "sheet", "top", "left", "bottom", "right", "chest_wall", "breast_share", "lesion_cut"),
    *("notes", "error"),
]
Facts = dict[str, object]


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf crops``."""
    args = parser().parse_args(arguments)
    if min(args.columns, args.rows) < 1 or args.tile < 16:
        raise UsageError("a sheet of no pictures", remedy="--columns and --rows from 1, --tile from 16")
    processor = load_processor(args.processor)
    images = _annotated(args) if args.lesions else {path: [] for path in image_paths(Path(args.folder))}
    out = writable_folder(Path(args.output_dir))
    processor.blank_pectoral_muscle = processor.blank_pectoral_muscle or args.pectoral
    facts: list[Facts] = []
    tiles = _tiles(images, Path(args.folder), processor, args.tile, args.columns * args.rows, facts)
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


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf crops", description=(__doc__ or "").split("\n")[0])
    p.add_argument("folder", help="images of any kind, in folders of any depth")
    p.add_argument("--output_dir", required=True, help="where crops_000.png, ... and crops.csv go")
    p.add_argument("--lesions", action="store_true", help="the folder is a collection: count crops that cut lesions")
    p.add_argument("--source", help="with --lesions: the collection's name, where its files do not tell it")
    p.add_argument("--processor", help="folder with a preprocessor_config.json (default: as it comes)")
    p.add_argument("--pectoral", action="store_true", help="look for the pectoral muscle, too")
    p.add_argument("--columns", type=int, default=10, help="pictures in a row (default %(default)s)")
    p.add_argument("--rows", type=int, default=7, help="rows on a sheet (default %(default)s)")
    p.add_argument("--tile", type=int, default=190, help="side of a picture in pixels (default %(default)s)")
    return p


def _annotated(args: argparse.Namespace) -> dict[Path, list[Finding]]:
    """The images of a collection, with their findings."""
    table = load(args.source, args.folder) if args.source else load(args.folder)
    return {Path(row["path"]): row["findings"] or [] for row in table}


def _cut_lesions(facts: list[Facts]) -> str:
    known = [float(str(fact["lesion_cut"])) for fact in facts if fact.get("lesion_cut")]
    if not known:
        return "no image has a lesion whose place is known"
    bad = sum(share > MOST_CUT for share in known)
    return (
        f"{bad} of {len(known)} images with a lesion of known place lose more than {MOST_CUT:.0%} of one "
        f"({bad / len(known):.1%})"
    )


def image_paths(folder: Path) -> list[Path]:
    """The files of a folder that may be images, by name, in order.

    Raises:
        UsageError: It is no folder.
        DataError: There is none in it.
    """
    if not folder.is_dir():
        raise UsageError("is no folder", source=folder, remedy="give a folder of images")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError("holds no images", source=folder, remedy="give a folder of DICOM, PNG, JPEG, PGM or TIFF files")
    return paths


def _tiles(
    images: Mapping[Path, list[Finding]],
    folder: Path,
    processor: MammoImageProcessor,
    side: int,
    page: int,
    facts: list[Facts],
) -> Iterator[Image.Image]:
    for path in tqdm(images, desc="looking", unit="image", leave=False):
        fact: Facts = {"file": str(path.relative_to(folder) if path.is_relative_to(folder) else path)}
        try:
            source = processor.open(path)
            breast = processor.find_breast(source)
            lesions = lesion_masks(images[path], source.size) if images[path] else []
            cut = cut_share(lesions, source, breast, processor) if lesions else None
        except MammoError as error:
            facts.append(fact | {"error": error.problem})
            continue
        number = sum("number" in other for other in facts)
        fact |= {"number": number, "sheet": _sheet_name(number // page), **_described(breast)}
        facts.append(fact | ({"lesion_cut": f"{cut:.3f}"} if cut is not None else {}))
        # whatever is unusual is marked, to be looked at first
        mark = " CUT" if (cut or 0) > MOST_CUT else " !" if breast.notes else ""
        view = source.view(slice(None, None, breast.stride))
        yield tile(view, breast, f"{number}{mark} {path.stem[-side // 7 :]}", side, lesions)


def _described(breast: Breast) -> Facts:
    top, left, bottom, right = breast.box
    return {
        **{"top": top, "left": left, "bottom": bottom, "right": right},
        "chest_wall": breast.chest_wall or "",
        "breast_share": f"{breast.mask.mean():.3f}",
        "notes": "; ".join(breast.notes),
    }


def _sheet_name(number: int) -> str:
    return f"crops_{number:03d}.png"
