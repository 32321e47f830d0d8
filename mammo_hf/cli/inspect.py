"""Report what DICOM files and pictures hold: view, spacing, display, contradictions, or why they are refused.

A folder is searched, and what was found in it is summed up. Exit status 1: a file that was named is refused.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dicom.display import Display
from ..errors import DataError, MammoError, UsageError
from ..files import walk, writable_folder
from ..notes import Note
from .running import Parser, processor_settings

if TYPE_CHECKING:
    from argparse import Namespace

    from ..data.overrides import Override, Overrides
    from ..processing.image_processing_mammo import MammoImageProcessor


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    p = Parser("mammo-hf inspect", __doc__ or "", "mammo-hf inspect exam/1-1.dcm --output_dir pictures")
    p.add_argument(
        "paths", nargs="+", metavar="FILE", help="DICOM files, pictures (PNG, JPEG, TIFF, PGM), folders to search"
    )
    output = p.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print one line of JSON per file, for programs")
    output.add_argument(
        "--output_dir",
        metavar="FOLDER",
        help="write a picture per file: its crop, and what a model sees",
    )
    p.add_argument("--processor", metavar="MODEL", help="model that has the preprocessor_config.json to use")
    p.add_processor_options()
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf inspect``."""
    args = parser().parse_args(arguments)
    # imported here: --help needs none of them
    from tqdm.auto import tqdm

    from ..dicom.report import report_text, summary_table

    # Find the files, and how they are displayed
    searched = any(Path(path).is_dir() for path in args.paths)
    settings = processor_settings(vars(args))
    processor = _processor(args, settings)
    options = _options(processor, settings)
    overrides = _overrides(args)
    folder = writable_folder(Path(args.output_dir)) if args.output_dir else None
    files = tqdm(_files(args.paths), unit="file", disable=None if searched else True, desc="inspect")
    # Report each of them; nothing of a file is kept but its counts
    refused = total = 0
    written: set[str] = set()

    def reports() -> Iterator[dict[str, Any]]:
        nonlocal refused, total
        for file in files:
            override = overrides.get(os.path.realpath(file)) if overrides else None
            report, image = _report(file, options, override)
            if folder is not None and processor is not None and image is not None:
                report["picture"] = _draw(image, processor, _unused(folder, file.name, written), override)
                written.add(report["picture"])
            if args.json:
                print(json.dumps(report))
            elif not searched:
                print(report_text(report))
            refused, total = refused + (report["refused"] is not None), total + 1
            yield report

    # Sum up
    summary = summary_table(reports())
    if not total:
        raise UsageError("there is no file", source=args.paths[0], remedy="name a folder that holds images")
    if searched and not args.json:
        print(summary)
    if refused and not searched:
        raise DataError(f"refused: {refused} of {total}")


def _processor(args: Namespace, settings: Mapping[str, Any]) -> MammoImageProcessor | None:
    """Return the processor that is named or that pictures are drawn with; importing it takes seconds."""
    if not (args.processor or args.output_dir):
        return None
    from ..models.checkpoint import load_processor
    from ..processing.image_processing_mammo import MammoImageProcessor

    named = load_processor(args.processor) if args.processor else MammoImageProcessor()
    return named.with_settings(settings)


def _options(processor: MammoImageProcessor | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return how files are read: as the processor says, or else by those of the settings that reading knows."""
    if processor is not None:
        return asdict(processor.display) | processor.of_headers
    names = [field.name for field in fields(Display)]
    display = Display(**{name: settings[name] for name in names if name in settings})
    return asdict(display) | {name: settings[name] for name in ("use_descriptions", "any_anatomy") if name in settings}


def _files(paths: list[str]) -> Iterator[Path]:
    """Find the files that are named, and those below folders that are neither hidden nor a DICOMDIR."""
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        unlisted: list[str] = []  # reported as what they are, by the reader

        def note(folder: str, reason: str, unlisted: list[str] = unlisted) -> None:
            unlisted.append(folder)

        files = walk(path, note, lambda entry: entry.name != "DICOMDIR")
        for found in map(Path, itertools.chain(files, unlisted)):
            if not any(part.startswith(".") for part in found.relative_to(path).parts):
                yield found


def _overrides(args: Namespace) -> Overrides:
    if "overrides" not in args:
        return {}
    from ..data.overrides import read_overrides

    return read_overrides(args.overrides, [path for path in args.paths if Path(path).is_dir()])


def _report(file: Path, options: dict[str, Any], override: Override | None) -> tuple[dict[str, Any], Any]:
    """Return the report of a DICOM file or picture, and its content; ``None`` if it is refused."""
    from ..dicom.report import file_report
    from ..processing.image_source import is_picture

    if override is not None and override.skip:
        from ..data.overrides import SKIPPED

        return {"file": str(file), "refused": SKIPPED, "remedy": "remove its row to read it", "code": "skipped"}, None
    report, image = _picture_report(file) if is_picture(file) else file_report(file, **options)
    if override is not None and report["refused"] is None and (override.laterality or override.view):
        given = {name: value for name, value in override._asdict().items() if value and name in ("laterality", "view")}
        note = Note("overridden", facts=", ".join(f"{name} {value}" for name, value in given.items()))
        sources = {f"{name}_source": "overrides file" for name in given}
        report |= given | sources | {"contradictions": [*report.get("contradictions", ()), note]}
    return report, image


def _picture_report(file: Path) -> tuple[dict[str, Any], Any]:
    from ..processing.image_source import open_image

    try:
        values = (source := open_image(file)).view(slice(None))
    except MammoError as error:
        return {"file": str(file), "refused": error.problem, "remedy": error.remedy, "code": error.code}, None
    report: dict[str, Any] = {"file": str(file), "refused": None, "format": f"picture ({file.suffix[1:].upper()})"}
    report |= dict(zip(("rows", "columns"), values.shape, strict=True))
    report["stored_range"] = [round(float(values.min()), 4), round(float(values.max()), 4)]
    return report | {"black_fraction": round(float((values == 0).mean()), 4)}, source


def _unused(folder: Path, name: str, written: set[str]) -> Path:
    """Return the path of a picture that no other file of the same name has."""
    paths = (folder / (f"{name}.png" if number == 1 else f"{name}-{number}.png") for number in itertools.count(1))
    return next(path for path in paths if str(path) not in written)


def _draw(image: Any, processor: MammoImageProcessor, path: Path, override: Override | None) -> str:
    from ..plotting import crop_picture  # imports matplotlib

    source = processor.open(image)
    if override is not None:
        source.override(override.laterality, override.view)
    shown, geometry = processor.fit(source)
    crop_picture(source.view(slice(None)), geometry.crop, shown).save(path)
    return str(path)
