"""What a DICOM file holds: view, spacing, which rule shows its values, what contradicts, or why it is refused.

mammo-hf inspect exam/1-1.dcm --png pictures
mammo-hf inspect /data/archive --json > archive.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw
from tqdm.auto import tqdm

from ..dicom import Mammogram
from ..dicom.display import Display, Slab
from ..dicom.report import file_report, report_text, summary_table
from ..errors import DataError, UsageError
from .running import writable_folder
from .stages import load_processor

if TYPE_CHECKING:
    from ..processing.image_processing_mammo import MammoImageProcessor

_HEIGHT = 720  # of a picture, in pixels
_GAP = 12
_CROP_COLOUR = (255, 190, 0)


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf inspect``."""
    args = parser().parse_args(arguments)
    files, walked = _files(args.paths)
    processor = load_processor(args.processor) if args.png or args.processor else None
    options = asdict(_display(args, processor))
    pictures = _Pictures(Path(args.png), processor) if args.png and processor is not None else None
    reports: list[dict[str, Any]] = []
    for file in tqdm(files, unit="file", disable=None if walked else True, desc="inspect"):
        report, mammogram = file_report(file, **options)
        if pictures is not None and mammogram is not None:
            report["picture"] = pictures.write(mammogram)
        if args.json:
            print(json.dumps(report))
        elif not walked:
            print(report_text(report))
            if "picture" in report:
                print(f"  {'picture':<12}{report['picture']}")
        reports.append(report)
    refused = [report for report in reports if report["refused"] is not None]
    if walked and not args.json:
        print(summary_table(reports))
    if refused and not walked:
        raise DataError(f"refused: {len(refused)} of {len(reports)}")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(
        prog="mammo-hf inspect",
        description=(__doc__ or "").split("\n")[0],
        epilog="A folder is walked, and what was found in it is summed up. Status 1: a file given by name is refused.",
    )
    p.add_argument("paths", nargs="+", metavar="FILE", help="DICOM files, or folders to walk")
    p.add_argument("--json", action="store_true", help="one line of JSON a file, for programs")
    p.add_argument("--png", metavar="FOLDER", help="writes there what the model sees, beside the original")
    p.add_argument("--processor", metavar="MODEL", help="whose preprocessor_config.json says how files are shown")
    p.add_argument("--window", help="of several: its index or explanation (default NORMAL)")
    p.add_argument("--prefer", choices=("lut", "window"), help="where a file has both (default lut)")
    p.add_argument(
        *("--on_missing_window",),
        choices=("robust", "full_range", "raise"),
        help="For Processing, or no window (default robust)",
    )
    return p


def _display(args: argparse.Namespace, processor: MammoImageProcessor | None) -> Display:
    """What is asked for; the processor's own, or the default, where nothing is."""
    display = Display() if processor is None else processor.display
    window = args.window
    if window is not None and window.removeprefix("-").isdecimal():
        window = int(window)
    asked = {"window": window, "prefer": args.prefer, "on_missing_window": args.on_missing_window}
    return replace(display, **{name: value for name, value in asked.items() if value is not None})


def _files(paths: list[str]) -> tuple[list[Path], bool]:
    """All files that are meant, and whether a folder was walked for them."""
    files: list[Path] = []
    walked = False
    for path in map(Path, paths):
        if path.is_dir():
            walked = True
            files += _below(path)
        else:
            files.append(path)
    if not files:
        raise UsageError("there is no file", source=paths[0], remedy="name a folder that holds DICOM files")
    return files, walked


def _below(folder: Path) -> Iterator[Path]:
    """Every file of a folder but hidden ones and DICOM's own table of contents."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.name != "DICOMDIR":
            yield path


class _Pictures:
    """Writes a picture for each mammogram: left the original with the crop drawn, right what the model sees."""

    def __init__(self, folder: Path, processor: MammoImageProcessor) -> None:
        self._folder = writable_folder(folder)
        self._processor = processor
        self._names: set[str] = set()

    def write(self, mammogram: Mammogram) -> str:
        """Writes one and returns its path."""
        stem = Path(mammogram.source).name
        name, number = f"{stem}.png", 1
        while name in self._names:
            number += 1
            name = f"{stem}-{number}.png"
        self._names.add(name)
        self._draw(mammogram).save(self._folder / name)
        return str(self._folder / name)

    def _draw(self, mammogram: Mammogram) -> Image.Image:
        intensity, geometry = self._processor.fit(mammogram)
        original = mammogram.slab(Slab.from_policy(self._processor.tomosynthesis))
        scale = _HEIGHT / original.shape[0]
        left = _picture(original, (max(1, round(original.shape[1] * scale)), _HEIGHT))
        top, start, bottom, end = (round(edge * scale) for edge in geometry.crop)
        ImageDraw.Draw(left).rectangle((start, top, max(start, end - 1), max(top, bottom - 1)), None, _CROP_COLOUR, 2)
        right = _picture(intensity, (max(1, round(intensity.shape[1] * _HEIGHT / intensity.shape[0])), _HEIGHT))
        sheet = Image.new("RGB", (left.width + _GAP + right.width, _HEIGHT), (60, 60, 60))
        sheet.paste(left, (0, 0))
        sheet.paste(right, (left.width + _GAP, 0))
        return sheet


def _picture(intensity: np.ndarray, size: tuple[int, int]) -> Image.Image:
    grey = Image.fromarray(np.rint(np.clip(intensity, 0, 1) * 255).astype(np.uint8))
    return grey.resize(size, Image.Resampling.BOX).convert("RGB")
