"""Contact sheets of a folder: every image with its breast mask and its crop, to be looked at before training.

mammo-hf crops data/films --output_dir crops
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ..breast import Breast
from ..contact_sheet import sheets, tile
from ..errors import DataError, MammoError, UsageError
from ..image_processing_mammo import MammoImageProcessor
from ..image_source import ImageSource, open_image
from .running import writable_folder

SUFFIXES = {".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".pgm", ".tif", ".tiff", ""}
FIELDS = ["number", "file", "sheet", "top", "left", "bottom", "right", "chest_wall", "breast_share", "notes", "error"]


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf crops``."""
    parser = argparse.ArgumentParser(prog="mammo-hf crops", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", help="images of any kind, in folders of any depth")
    parser.add_argument("--output_dir", required=True, help="where crops_000.png, ... and crops.csv go")
    parser.add_argument("--processor", help="folder with a preprocessor_config.json (default: as it comes)")
    parser.add_argument("--pectoral", action="store_true", help="look for the pectoral muscle, too")
    parser.add_argument("--columns", type=int, default=10, help="pictures in a row (default %(default)s)")
    parser.add_argument("--rows", type=int, default=7, help="rows on a sheet (default %(default)s)")
    parser.add_argument("--tile", type=int, default=190, help="side of a picture in pixels (default %(default)s)")
    args = parser.parse_args(arguments)
    if min(args.columns, args.rows) < 1 or args.tile < 16:
        raise UsageError("a sheet of no pictures", remedy="--columns and --rows from 1, --tile from 16")
    paths = image_paths(Path(args.folder))
    out = writable_folder(Path(args.output_dir))
    processor = MammoImageProcessor.from_pretrained(args.processor) if args.processor else MammoImageProcessor()
    processor.blank_pectoral_muscle = processor.blank_pectoral_muscle or args.pectoral
    facts: list[dict[str, object]] = []
    tiles = _tiles(paths, Path(args.folder), processor, args.tile, args.columns * args.rows, facts)
    for number, sheet in enumerate(sheets(tiles, args.columns, args.rows)):
        sheet.save(out / _sheet_name(number))
    with (out / "crops.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, restval="")
        writer.writeheader()
        writer.writerows(facts)
    failed, unusual = (sum(bool(fact.get(key)) for fact in facts) for key in ("error", "notes"))
    print(f"{len(facts) - failed} images in {out}, {unusual} with a note, {failed} not read; all in crops.csv")


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
    paths: list[Path],
    folder: Path,
    processor: MammoImageProcessor,
    side: int,
    page: int,
    facts: list[dict[str, object]],
) -> Iterator[Image.Image]:
    for path in tqdm(paths, desc="looking", unit="image", leave=False):
        fact: dict[str, object] = {"file": str(path.relative_to(folder))}
        try:
            source = open_image(path)
            breast = processor.find_breast(source)
        except MammoError as error:
            facts.append(fact | {"error": error.problem})
            continue
        number = sum("number" in other for other in facts)
        fact |= {"number": number, "sheet": _sheet_name(number // page)}
        facts.append(fact | _described(breast))
        # whatever is unusual is marked, to be looked at first
        mark = " !" if breast.notes else ""
        yield _tile(source, breast, f"{number}{mark} {path.stem[-side // 7 :]}", side)


def _tile(source: ImageSource, breast: Breast, caption: str, side: int) -> Image.Image:
    return tile(source.view(slice(None, None, breast.stride)), breast, caption, side)


def _described(breast: Breast) -> dict[str, object]:
    top, left, bottom, right = breast.box
    return {
        **{"top": top, "left": left, "bottom": bottom, "right": right},
        "chest_wall": breast.chest_wall or "",
        "breast_share": f"{breast.mask.mean():.3f}",
        "notes": "; ".join(breast.notes),
    }


def _sheet_name(number: int) -> str:
    return f"crops_{number:03d}.png"
