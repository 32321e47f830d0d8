"""Report what DICOM files hold: view, spacing, how their values are displayed, contradictions, or why they are refused.

A folder is searched, and what was found in it is summed up. Exit status 1: a file that was named is refused.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dicom.display import Display, Slab
from ..errors import DataError, UsageError
from ..files import writable_folder
from .running import Parser

if TYPE_CHECKING:
    from argparse import Namespace

    from ..dicom import Mammogram
    from ..processing.image_processing_mammo import MammoImageProcessor


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    p = Parser("mammo-hf inspect", __doc__ or "", "mammo-hf inspect exam/1-1.dcm --output_dir pictures")
    p.add_argument("paths", nargs="+", metavar="FILE", help="DICOM files, or folders to search")
    output = p.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print one line of JSON per file, for programs")
    output.add_argument(
        "--output_dir",
        metavar="FOLDER",
        help="write a picture per file: its crop, and what a model sees",
    )
    display = p.add_argument_group("display")
    display.add_argument("--processor", metavar="MODEL", help="model that has the preprocessor_config.json to use")
    display.add_argument(
        "--window", help="which of several windows or VOI LUTs: its index or explanation (default: NORMAL)"
    )
    display.add_argument(
        "--prefer", choices=("lut", "window"), help="what is used if a file has a VOI LUT and a window (default: lut)"
    )
    display.add_argument(
        "--on_missing_window",
        choices=("robust", "full_range", "raise"),
        help="what is done with For Processing images and files without a window (default: robust)",
    )
    display.add_argument(
        "--on_missing_end",
        choices=("raise", "note"),
        help="what is done with compressed frames without end marker: refused, or read and noted (default: raise)",
    )
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf inspect``."""
    args = parser().parse_args(arguments)
    # imported here: --help needs none of them
    from tqdm.auto import tqdm

    from ..dicom.report import file_report, report_text, summary_table
    from ..models.checkpoint import load_processor
    from ..processing.image_processing_mammo import MammoImageProcessor

    # Find the files, and how they are displayed
    files, searched = _files(args.paths)
    processor = load_processor(args.processor) if args.processor else MammoImageProcessor() if args.output_dir else None
    options = asdict(_display(args, processor))
    folder = writable_folder(Path(args.output_dir)) if args.output_dir else None
    # Report each of them
    reports: list[dict[str, Any]] = []
    for file in tqdm(files, unit="file", disable=None if searched else True, desc="inspect"):
        report, mammogram = file_report(file, **options)
        if folder is not None and processor is not None and mammogram is not None:
            written = {earlier.get("picture") for earlier in reports}
            report["picture"] = _draw(mammogram, processor, _unused(folder, Path(mammogram.source).name, written))
        if args.json:
            print(json.dumps(report))
        elif not searched:
            print(report_text(report))
        reports.append(report)
    # Sum up
    if searched and not args.json:
        print(summary_table(reports))
    refused = [report for report in reports if report["refused"] is not None]
    if refused and not searched:
        raise DataError(f"refused: {len(refused)} of {len(reports)}")


def _files(paths: list[str]) -> tuple[list[Path], bool]:
    """Return all files that are meant, and whether a folder was searched for them."""
    files: list[Path] = []
    for path in map(Path, paths):
        files += _below(path) if path.is_dir() else [path]
    if not files:
        raise UsageError("there is no file", source=paths[0], remedy="name a folder that holds DICOM files")
    return files, any(Path(path).is_dir() for path in paths)


def _below(folder: Path) -> Iterator[Path]:
    """Find every file of a folder except hidden ones and DICOM's own table of contents."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.name != "DICOMDIR":
            yield path


def _display(args: Namespace, processor: MammoImageProcessor | None) -> Display:
    """Return what is asked for; everything else as the processor has it, or by default."""
    display = Display() if processor is None else processor.display
    window = args.window
    if window is not None and window.removeprefix("-").isdecimal():
        window = int(window)
    asked = {"window": window} | {
        name: getattr(args, name) for name in ("prefer", "on_missing_window", "on_missing_end")
    }
    return replace(display, **{name: value for name, value in asked.items() if value is not None})


def _unused(folder: Path, name: str, written: set[str | None]) -> Path:
    """Return the path of a picture that no other file of the same name has."""
    paths = (folder / (f"{name}.png" if number == 1 else f"{name}-{number}.png") for number in itertools.count(1))
    return next(path for path in paths if str(path) not in written)


def _draw(mammogram: Mammogram, processor: MammoImageProcessor, path: Path) -> str:
    from ..plotting import crop_picture  # imports matplotlib

    shown, geometry = processor.fit(mammogram)
    original = mammogram.slab(Slab.from_policy(processor.tomosynthesis))
    crop_picture(original, geometry.crop, shown).save(path)
    return str(path)
