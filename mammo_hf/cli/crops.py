"""Draw contact sheets of a folder: every image with its breast mask and its crop, those with a note first."""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from ..errors import DataError, MammoError, UsageError, refusing
from ..files import safe_cell
from ..notes import Note, codes, counts_text
from .running import Parser, processor_settings, reading_options, writable_folder

if TYPE_CHECKING:
    from PIL import Image

    from ..data.overrides import Overrides
    from ..processing.breast import Breast
    from ..processing.image_processing_mammo import MammoImageProcessor

SUFFIXES = {".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".pgm", ".tif", ".tiff", ""}
FIELDS = [
    *("number", "file", "sheet", "top", "left", "bottom", "right", "chest_wall", "breast_share", "lesion_cut"),
    *("notes", "error"),
]
Facts = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    p = Parser("mammo-hf crops", __doc__ or "", "mammo-hf crops data/mini-mias --output_dir crops --lesions")
    p.add_argument(
        "source", metavar="SOURCE", help="folder of images, in any depth; or a table, NAME:FOLDER, a mapping"
    )
    p.add_argument("--output_dir", type=Path, required=True, help="folder for crops_000.png, ... and crops.csv")
    p.add_argument("--lesions", action="store_true", help="SOURCE is a collection: count crops that cut lesions")
    p.add_argument("--processor", help="folder with a preprocessor_config.json (default: our default settings)")
    p.add_argument("--columns", type=int, default=10, help="pictures per row (default %(default)s)")
    p.add_argument("--rows", type=int, default=7, help="rows per sheet (default %(default)s)")
    p.add_argument("--tile", type=int, default=190, help="side of a picture in pixels (default %(default)s)")
    p.add_reading_options()
    p.add_processor_options()
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf crops``."""
    args = parser().parse_args(arguments)
    if min(args.columns, args.rows) < 1 or args.tile < 16:
        raise UsageError("a sheet needs pictures", remedy="give --columns and --rows from 1, and --tile from 16")
    from ..data.overrides import read_overrides
    from ..models.checkpoint import load_processor
    from ..processing.contact_sheet import LEGEND, LESION_COLOUR, sheets
    from ..processing.image_processing_mammo import MammoImageProcessor

    processor = load_processor(args.processor) if args.processor else MammoImageProcessor()
    processor = processor.with_settings(processor_settings(vars(args)))
    reading = reading_options(vars(args))
    is_collection = args.lesions or not Path(args.source).is_dir()
    if not is_collection and (of_tables := [name for name in reading if name != "overrides"]):
        raise UsageError("needs --lesions, which loads a collection", source=f"--{of_tables[0]}")
    folder, images = _annotated(args.source, processor, reading) if is_collection else _found(Path(args.source))
    overrides = read_overrides(reading.get("overrides"), [folder])
    out = writable_folder(args.output_dir)
    with TemporaryFile() as pictures:
        facts = _drawn(images, folder, processor, args.tile, pictures, overrides)
        shown = _ordered([fact for fact in facts if "error" not in fact], args.columns * args.rows)
        tiles = _tiles(shown, pictures, args.tile)
        legend = {colour: text for colour, text in LEGEND.items() if is_collection or colour != LESION_COLOUR}
        for number, sheet in enumerate(sheets(tiles, args.columns, args.rows, legend)):
            sheet.save(out / _sheet_name(number))
    failed = [fact for fact in facts if "error" in fact]
    with (out / "crops.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, restval="", extrasaction="ignore")
        writer.writeheader()
        for fact in shown + failed:
            cells = fact | {"notes": "; ".join(fact.get("notes", []))}
            writer.writerow({name: safe_cell(value) for name, value in cells.items()})
    noted = sum(bool(fact["notes"]) for fact in shown)
    doubtful = sum(_confidence(fact) == 0 for fact in shown)
    found = f"{noted} with a note, {doubtful} with a mask that may be wrong (first on the sheets)"
    if args.lesions:
        print(_cut_lesions(facts))
    notes = Counter(code for fact in shown for code in codes(fact["notes"]))
    counts = counts_text(notes, Counter(fact["code"] for fact in failed))
    print(f"{len(shown)} images in {out}, {found}, {len(failed)} not read; all in crops.csv{counts}")


def _annotated(
    source: str, processor: MammoImageProcessor, reading: Mapping[str, Any]
) -> tuple[Path, dict[Path, list[dict[str, Any]]]]:
    """Return the folder of a collection, and its images with their findings."""
    from ..data.loading import load
    from ..data.training_data import reading_of

    collection = load(source, **reading_of(source, processor), **reading)
    return Path(collection.root or source), {Path(row["path"]): row["findings"] or [] for row in collection}


def _found(folder: Path) -> tuple[Path, dict[Path, list[dict[str, Any]]]]:
    """Return the folder and the files in it that may be images, in the order of their names.

    Raises:
        DataError: There is no image in it.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir())
    if not paths:
        raise DataError("holds no images", source=folder, remedy="give a folder of DICOM, PNG, JPEG, PGM or TIFF files")
    return folder, {path: [] for path in paths}


def _drawn(
    images: Mapping[Path, list[dict[str, Any]]],
    folder: Path,
    processor: MammoImageProcessor,
    side: int,
    pictures: IO[bytes],
    overrides: Overrides,
) -> list[Facts]:
    """Return the facts of each image, and append the picture of each that is read to a file."""
    from tqdm.auto import tqdm

    from ..data.findings import cut_fraction, lesion_masks
    from ..data.overrides import SKIPPED, override_of
    from ..processing.contact_sheet import tile

    facts: list[Facts] = []
    for path in tqdm(images, desc="crops", unit=" images", leave=False, disable=None):
        fact: Facts = {"file": str(path.relative_to(folder) if path.is_relative_to(folder) else path)}
        facts.append(fact)
        override = override_of(overrides, path)
        try:
            with refusing(path):
                if override.skip:
                    raise DataError(SKIPPED, code="skipped")
                source = processor.open(path)
                source.override(override.laterality, override.view)
                breast = processor.find_breast(source)
                lesions = lesion_masks(images[path], source.size) if images[path] else []
                cut = cut_fraction(lesions, source, breast, processor)
                if cut is not None:  # none is known, or all are in the background
                    fact["lesion_cut"] = f"{cut:.3f}"
        except MammoError as error:
            fact |= {"error": error.problem, "code": error.code}
            continue
        notes = [note for note in source.notes if note.code == "overridden"] + list(breast.notes)
        fact |= {"position": pictures.tell(), "notes": notes, **_described(breast)}
        pictures.write(tile(source.view(slice(None, None, breast.stride)), breast, side, lesions).tobytes())
    return facts


def _ordered(facts: list[Facts], page: int) -> list[Facts]:
    """Note the breasts that are much smaller than the others, and number the images: the most doubtful ones first."""
    from ..processing.breast import much_smaller

    for fact, small in zip(facts, much_smaller([float(fact["breast_share"]) for fact in facts]), strict=True):
        fact["notes"] += [Note("breast_much_smaller")] if small else []
    ordered = sorted(facts, key=_confidence)
    for number, fact in enumerate(ordered):
        fact |= {"number": number, "sheet": _sheet_name(number // page)}
    return ordered


def _confidence(fact: Facts) -> int:
    """Return 0 if the mask may be wrong or cuts a lesion, 1 if there is another note, 2 if there is none."""
    from ..processing.breast import DOUBTS

    return 0 if _cuts(fact) or DOUBTS & set(codes(fact["notes"])) else 1 if fact["notes"] else 2


def _cuts(fact: Facts) -> bool:
    from ..data.findings import MOST_CUT

    return float(fact.get("lesion_cut", 0)) > MOST_CUT


def _tiles(facts: list[Facts], pictures: IO[bytes], side: int) -> Iterator[Image.Image]:
    """Yield the pictures of images with their captions."""
    from ..processing.contact_sheet import captioned

    for fact in facts:
        notes = [*["cuts a lesion"] * _cuts(fact), *codes(fact["notes"])]
        pictures.seek(fact["position"])
        yield captioned(pictures, f"{fact['number']}: {fact['file']}", notes, side)


def _described(breast: Breast) -> Facts:
    return {
        **dict(zip(("top", "left", "bottom", "right"), breast.box, strict=True)),
        "chest_wall": breast.chest_wall or "",
        "breast_share": f"{breast.mask.mean():.3f}",
    }


def _sheet_name(number: int) -> str:
    return f"crops_{number:03d}.png"


def _cut_lesions(facts: list[Facts]) -> str:
    from ..data.findings import MOST_CUT

    known = [float(fact["lesion_cut"]) for fact in facts if fact.get("lesion_cut")]
    if not known:
        return "no image has a lesion of known location"
    bad = sum(fraction > MOST_CUT for fraction in known)
    return (
        f"{bad} of {len(known)} images with a lesion of known location lose more than {MOST_CUT:.0%} of one "
        f"({bad / len(known):.1%})"
    )
