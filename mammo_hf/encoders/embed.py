"""embed: the features of every image of a collection, computed once by a frozen encoder, for any number of trainings.

It is a run of ``prepare`` with rows of another kind (`mammo_hf.data.prepare`): sharded, resumed after a kill, by one
process, several, those of a launch, or Ray. Each worker loads the encoder once.
"""

from __future__ import annotations

import copy
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from accelerate import PartialState
from PIL import Image, ImageDraw
from scipy import ndimage

from ..data.collection import Collection, Rejected
from ..data.loading import load
from ..data.native_row import source_masks
from ..data.precedence import places_in_views
from ..data.prepare.executors import Launch, ray_executor
from ..data.prepare.folder import LAYOUT, features_folder, folder_of, open_prepared, prepared_processor
from ..data.prepare.row import (
    FEATURES,
    KEYS,
    SETTINGS,
    Preparation,
    Row,
    copied_columns,
    differences,
    digest,
    overridden,
    problem_of,
    stamped_findings,
)
from ..data.prepare.running import SHARD_SIZE, PreparedCollection, RunSummary, run_rows
from ..data.prepared_row import CELL, geometry_of, lesions_of
from ..data.splits import SPLIT_FILE
from ..data.terms import Terms
from ..data.training_data import reading_of
from ..errors import MammoError, UsageError, check_device, check_number, refusing
from ..files import Folder, file_stamp, readable
from ..isolation import read_apart
from ..models.checkpoint import load_processor
from ..plugins import plugin_errors
from ..processing.contact_sheet import sheets
from ..processing.image_processing_mammo import MammoImageProcessor
from .encoder import Encoder, load_encoder
from .encoding import TILE, Bag, bag_of
from .store import COLUMNS, GRID, bag_of_row, read_features
from .views import Drawn, Picture, Views, covered, drawn, findings_covered, read_views

_COMPARED = ("name", "kind", "revision", "weights", "channels", "tile")


@dataclass(frozen=True)
class Embedding(Preparation):
    """Encoding of every image of a collection.

    Args:
        encoder_name: Name that `load_encoder` takes, in any process.
        record: Record of the encoder.
        views: Choice of the views.
        encoder_terms: Terms of the encoder.
        prepared_folder: Prepared folder that the images are read from; ``None``: from the source files.
        trust_remote_code: Whether the encoder's own code may be run.
        device: Device of the encoder, such as "cpu" or "cuda:1".
        grid: (rows, columns) of the cells whose features are kept too; ``None``: none are.
    """

    encoder_name: str
    record: dict[str, Any]
    views: Views
    encoder_terms: tuple[Terms, ...]
    prepared_folder: str | None
    trust_remote_code: bool
    device: str
    grid: tuple[int, int] | None = None

    finished: ClassVar[str] = FEATURES
    doing: ClassVar[str] = "embedding"

    def __getstate__(self) -> dict[str, Any]:
        # a worker loads the encoder and opens the prepared rows itself
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @cached_property
    def first_encoder(self) -> Encoder:
        """The encoder in this process."""
        return load_encoder(self.encoder_name, trust_remote_code=self.trust_remote_code).to(self.device)

    @cached_property
    def _spare(self) -> list[Encoder]:
        return [self.first_encoder]

    @cached_property
    def _threads(self) -> threading.local:
        return threading.local()

    @property
    def encoder(self) -> Encoder:
        """A copy of the encoder for this thread: a network may remember, as a Swin its windows, what it has seen."""
        if not hasattr(self._threads, "encoder"):
            with suppress(IndexError):
                self._threads.encoder = self._spare.pop()
        if not hasattr(self._threads, "encoder"):
            self._threads.encoder = copy.deepcopy(self.first_encoder)
        found: Encoder = self._threads.encoder
        return found

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Entries of ``encoder.json`` and ``features.json``: all that the features depend on but the images."""
        grid = {} if self.grid is None else {"grid": list(self.grid)}
        return {"encoder": self.record, **self.views.to_dict(), **grid, "processor": self.fit}

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of a folder of features."""
        kinds = {name: kind for name, kind in self.copied if name not in COLUMNS.names}
        kinds |= {field.name: field.type for field in COLUMNS} | dict.fromkeys(KEYS, pa.string())
        kinds |= {GRID: pa.binary()} if self.grid else {}
        schema: pa.Schema = datasets.Features.from_arrow_schema(pa.schema(list(kinds.items()))).arrow_schema
        return schema

    @property
    def terms(self) -> tuple[Terms, ...]:
        """Terms of the encoder."""
        return self.encoder_terms

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, about: a breast of 20 x 10 cm in tiles."""
        side = self.record["tile"] * self.views.spacing * (1 - self.views.overlap)
        tiles = 0 if self.views.tiles == "whole" else round((200 / side) * (100 / side)) + 1
        cells = 0 if self.grid is None else 2 * self.grid[0] * self.grid[1] * self.record["channels"]
        return (tiles + 1) * (4 * self.record["channels"] + 20) + cells

    def keys(self, row: Row) -> tuple[str, str]:
        """Return the hashes that decide a row's features and its fractions of lesions."""
        if self.prepared_folder is None:
            content: Any = [file_stamp(row["path"]), overridden(row)]
            findings: Any = stamped_findings(row)
        else:
            content, findings = self._stored[row["image_id"]][1:]
        settings = self.settings | {"encoder": _identity(self.record)}
        features = digest([row["image_id"], content, settings])
        return features, digest([features, findings])

    def prepared(self, row: Row, keys: tuple[str, str], before: Row | None) -> tuple[Row, list[Rejected]]:
        """Encode one image, or take from an earlier run whatever its keys allow.

        Raises:
            MammoError: The image cannot be read.
            OSError: The source file cannot be read either.
        """
        made: Row = {name: row.get(name) for name, _ in self.copied} | dict(zip(KEYS, keys, strict=True))
        made["precedence"] = self.precedence.get(row["image_id"])
        if before is not None and before["pixels_key"] == keys[0]:
            arrays = ("features", "boxes", "scales", *((GRID,) if self.grid else ()))
            made |= {name: before[name] for name in (*arrays, "geometry", "notes")}
            if before["lesions_key"] == keys[1]:
                return made | {"lesions": before["lesions"]}, []
        else:
            seen = self._drawn(row)
            with plugin_errors("encoder", self.record["name"]):
                bag = bag_of(seen, self.encoder, self.views, self.grid)
            made |= {name: getattr(bag, name).tobytes() for name in ("features", "boxes", "scales")}
            made |= {"geometry": json.dumps(bag.geometry.to_dict()), "notes": ";".join(bag.notes)}
            made |= {} if bag.grid is None else {GRID: bag.grid.tobytes()}
        try:
            with refusing(row["path"]):
                lesions = self._lesions(row, np.frombuffer(made["boxes"], np.float32).reshape(-1, 4), made)
        except (MammoError, OSError) as error:
            # no key: it is tried again in the next run
            return made | {"lesions": None, "lesions_key": ""}, [problem_of(error, row["path"])]
        return made | {"lesions": None if lesions is None else lesions.tobytes()}, []

    def _drawn(self, row: Row) -> Drawn:
        if self.prepared_folder is not None:
            return drawn(self.picture(row), self.views, self.record["tile"])
        return read_apart(read_views, self.processor, row["path"], overridden(row), self.views, self.record["tile"])

    def picture(self, row: Row) -> Picture:
        """Open the image of a row.

        Raises:
            MammoError: It cannot be read.
            OSError: The source file cannot be read either.
        """
        if self.prepared_folder is not None:
            return Picture.of_prepared(self._prepared_row(row), self.processor)
        with refusing(row["path"]):
            return Picture.of_image(readable(row["path"]), self.processor, **overridden(row))

    def claim(self, folder: Folder) -> None:
        """Refuse a folder that holds other rows; of a new one, write down what its rows are made with.

        Raises:
            UsageError: It holds prepared images, or features of another encoder, other views or another processing.
        """
        there, ours = folder.read_text(SETTINGS), json.dumps(self.settings, indent=2, sort_keys=True) + "\n"
        if there is None and folder.size(LAYOUT) is not None:
            raise UsageError("holds prepared images", source=folder, remedy="name another folder for their features")
        found = differences(_compared(there), _compared(ours)) if there is not None else []
        if found:
            remedy = "name another folder, or use that again"
            raise UsageError(f"holds features made with {found[0]}", source=folder, remedy=remedy)
        if there is None:
            folder.write_text(SETTINGS, ours)
        # a head over these features must not be tested on the patients that the encoder was trained on
        split = Path(self.encoder_name) / SPLIT_FILE
        if self.record["kind"] == "checkpoint" and split.is_file():
            folder.write_text(SPLIT_FILE, split.read_text(encoding="utf-8"))

    def about(self, parts: Callable[[], Iterator[pa.Table]]) -> dict[str, Any]:
        """Return the entries of ``features.json``."""
        vectors = sum(pc.sum(pc.binary_length(part.column("scales"))).as_py() or 0 for part in parts())
        return {**self.settings, "tasks": list(self.tasks), "vectors": vectors}

    def _lesions(self, row: Row, boxes: np.ndarray, made: Row) -> np.ndarray | None:
        if self.prepared_folder is not None:
            stored = self._prepared_row(row)
            if "table" in stored:
                return None if stored["lesions"] is None else covered(source_masks(stored), boxes)
            cells, geometry = lesions_of(stored), geometry_of(stored)
            if cells is None or geometry is None:
                return None
            numbered, count = ndimage.label(cells > 0)
            return covered((numbered == one for one in range(1, count + 1)), geometry.boxes_to_model(boxes) / CELL)
        size = tuple(json.loads(made["geometry"])["source_size"])
        return read_apart(findings_covered, row["findings"], size, boxes) if row["findings"] else None

    def _prepared_row(self, row: Row) -> Row:
        found: Row = self._rows[self._stored[row["image_id"]][0]]
        return found

    @cached_property
    def _rows(self) -> datasets.Dataset:
        assert self.prepared_folder is not None
        return open_prepared(self.prepared_folder).with_format(None)  # a native store's as they are stored

    @cached_property
    def _stored(self) -> dict[str, tuple[int, str, str]]:
        """Index of each image in the prepared folder, and the keys that change with its pixels and its lesions."""
        light = self._rows.select_columns(["image_id", *KEYS])[:]
        rows = zip(light["image_id"], *(light[key] for key in KEYS), strict=True)
        return {image: (index, *keys) for index, (image, *keys) in enumerate(rows)}


def _identity(record: dict[str, Any]) -> dict[str, Any]:
    """Return what makes two encoders the same; a checkpoint may be moved, its weights tell."""
    wanted = {name: record[name] for name in _COMPARED}
    return wanted | ({"name": ""} if record["kind"] == "checkpoint" else {})


def _compared(text: str) -> dict[str, Any]:
    """Return from the text of ``encoder.json`` what may not differ between two runs into one folder."""
    settings = json.loads(text)
    encoder = {f"encoder {name}": value for name, value in _identity(settings.pop("encoder")).items()}
    return encoder | settings.pop("processor") | settings


def embed(
    images: Collection | str | Path,
    output_dir: str | Path,
    *,
    encoder: str | os.PathLike[str],
    tiles: str = "both",
    spacing: float = 0.1,
    overlap: float = 0.25,
    image_size: tuple[int, int] | None = None,
    grid: tuple[int, int] | None = None,
    processor: MammoImageProcessor | str | os.PathLike[str] | None = None,
    processor_settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    limit: int | None = None,
    num_workers: int = 0,
    format: str | None = None,
    shard_size: int = SHARD_SIZE,
    max_rejected_fraction: float = 0.5,
    ray: bool = False,
    ray_address: str | None = None,
    together: bool = True,
    trust_remote_code: bool = False,
    model_terms: str | None = None,
    **reading: Any,
) -> PreparedCollection:
    """Encode every image of a collection once: a bag of features of the whole breast and of tiles of it.

    Only what is missing or has changed is encoded; a run that was killed at any moment is resumed by the same call, to
    the same bytes. What cannot be read is listed in ``rejected.csv`` with its reason.

    Args:
        images: Collection, a prepared folder, or anything else that `mammo_hf.load` takes. Of a prepared folder the
            prepared pixels are encoded.
        output_dir: Folder, or fsspec URL such as ``s3://bucket/folder``.
        encoder: Encoder as in `load_encoder`: a folder, a plug-in's name, or a name on the Hub.
        tiles: Views that are encoded: "both" the whole breast and tiles, "whole", or "native" for tiles alone.
        spacing: Millimetres per pixel of the tiles.
        overlap: Fraction of its side that a tile shares at least with the next.
        image_size: (height, width) in pixels of the whole view; ``None``: what suits the encoder.
        grid: (rows, columns) of cells of the whole view whose features are kept too, in a column ``grid``. For a
            teacher of stage 1, the grid of its last stage. ``None``: none are.
        processor: Processor, or folder with a ``preprocessor_config.json``: how images are read and cropped.
        processor_settings: Settings of how images are read in place of the processor's own, such as
            ``{"any_anatomy": True}``; see `mammo_hf.processing.image_processing_mammo.SETTINGS`.
        device: "cpu", "cuda", or "auto" for CUDA if it is there. Features of two devices differ by up to 1e-3.
        limit: Number of images of a trial, spread over the collection; it foretells time and size, and draws
            ``tiles.png``. ``None``: all images.
        num_workers: Number of processes in addition to this one, each with the encoder; 0: none. A process uses one
            core, so that results are the same with any number.
        format: "arrow", which is memory-mapped in training, or "parquet"; ``None``: arrow, or parquet with Ray.
        shard_size: Approximate number of images per file.
        max_rejected_fraction: Fraction of unreadable images above which the run ends in an error.
        ray: Whether a Ray cluster encodes the images, or a Ray on this machine.
        ray_address: Address of the cluster, such as "auto" or "ray://head:10001".
        together: Whether the processes of a launch (``accelerate launch``, torchrun), all of which have to call this
            then, divide the images. If not, each process that calls this encodes what is missing.
        trust_remote_code: Whether code of the encoder's own repository may be run.
        model_terms: Terms of the encoder that the user states, if neither its folder nor its card has any.
        reading: Options of `mammo_hf.load` for a collection that is not loaded yet.

    Returns:
        The collection of the folder, as `mammo_hf.load` gives it; its text says what this run did.

    Raises:
        DataError: The collection cannot be read, no image could be, or too many could not.
        UsageError: An argument is wrong, there is no such encoder, the folder cannot be written to, or it holds
            features of another encoder, other views or another processing.
    """
    if ray_address and not ray:
        raise UsageError("is for a run on Ray", source="ray_address", remedy="give `ray` too")
    check_number("limit", limit, limit is None or limit >= 1, "1 or more")
    check_device(device)
    state, where = _launched(device, together and not ray and limit is None)
    made = load_encoder(encoder, trust_remote_code=trust_remote_code, model_terms=model_terms).to(where)
    size = made.canvas if image_size is None else image_size
    check_grid(made, tiles, size, grid)
    read_by = _processor(processor, made, size).with_settings(processor_settings)
    collection = _opened(images, read_by, reading, own_reading=processor is not None or bool(processor_settings))
    if folder_of(collection) is not None:
        read_by = _sized(prepared_processor(str(folder_of(collection))), size)
    preparation = Embedding(
        processor=read_by,
        tasks=tuple(collection.tasks),
        lesion_task={},
        copied=copied_columns(collection),
        precedence=_precedence(collection),
        encoder_name=_name_anywhere(made, encoder),
        record=made.record,
        views=Views(tiles, spacing, overlap, size),
        encoder_terms=made.terms,
        prepared_folder=folder_of(collection),
        trust_remote_code=trust_remote_code,
        device=where,
        grid=None if grid is None else (grid[0], grid[1]),
    )
    preparation.__dict__["first_encoder"] = made  # this process has it already
    some = collection if limit is None else _spread(collection, limit)
    summary = run_rows(
        some,
        preparation,
        output_dir,
        num_workers=0 if limit is not None else num_workers,
        format=format or ("parquet" if ray else "arrow"),
        shard_size=shard_size,
        max_rejected_fraction=max_rejected_fraction,
        executor=ray_executor(ray_address, num_cpus=num_workers or None) if ray and limit is None else None,
        launch=None if state is None else Launch(state),
    )
    embedded = load(output_dir)
    if limit is not None:
        draw_sheet(preparation, some, Folder(output_dir))
        summary = replace(summary, forecast=_forecast(summary, len(collection), max(1, num_workers)))
    return PreparedCollection.of(embedded, summary)


def _launched(device: str, together: bool) -> tuple[PartialState | None, str]:
    """Return the state of the processes that were launched to work together, if there are several, and the device."""
    where = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if not together or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None, where
    state = PartialState(cpu=where == "cpu")
    return (state, str(state.device)) if state.num_processes > 1 else (None, where)


def check_grid(encoder: Encoder, tiles: str, size: tuple[int, int], grid: tuple[int, int] | None) -> None:
    """Refuse a whole view that an encoder does not take, and cells of a view that is not encoded.

    Raises:
        UsageError: Names what to change.
    """
    if grid is None:
        encoder.check_size(size)
        return
    if tiles == "native":
        raise UsageError("is 'native'", source="tiles", remedy="a grid is of the whole view: use whole or both")
    if len(grid) != 2 or min(grid) < 1:
        raise UsageError(f"is {grid}", source="grid", remedy="it must be two numbers of 1 or more, rows and columns")
    encoder.check_size((size[0] + -size[0] % encoder.multiple, size[1] + -size[1] % encoder.multiple))


def _name_anywhere(encoder: Encoder, given: str | os.PathLike[str]) -> str:
    """Return the name by which any process loads the same encoder: a commit of the Hub, or a folder from the root."""
    if encoder.record["kind"] == "hub":
        return f"{encoder.record['name']}@{encoder.record['revision']}"
    return os.fspath(given) if encoder.record["kind"] == "plugin" else os.path.abspath(os.path.expanduser(given))


def _opened(
    images: Collection | str | Path, processor: MammoImageProcessor, reading: Mapping[str, Any], own_reading: bool
) -> Collection:
    """Load the images unless they are loaded.

    Raises:
        UsageError: They are features, or options of reading were given for images that are loaded or prepared.
    """
    if isinstance(images, Collection) and reading:
        problem = "adds nothing to a collection that is loaded"
        raise UsageError(problem, source=next(iter(reading)), remedy="give it to load")
    collection = (
        images if isinstance(images, Collection) else load(images, **{**reading_of(images, processor), **reading})
    )
    if features_folder(collection) is not None:
        raise UsageError("holds features already", source=collection.root, remedy="name what they were made from")
    if own_reading and folder_of(collection) is not None:
        remedy = "leave it out, or embed the collection that was prepared"
        raise UsageError("has no effect on prepared images", source="processor", remedy=remedy)
    return collection


def _processor(
    given: MammoImageProcessor | str | os.PathLike[str] | None, encoder: Encoder, size: tuple[int, int]
) -> MammoImageProcessor:
    """Return the processor on the canvas of the whole view: the one given, or else the encoder's own."""
    if given is None:
        given = encoder.processor or MammoImageProcessor()
    elif not isinstance(given, MammoImageProcessor):
        given = load_processor(Path(given))
    return _sized(given, size)


def _sized(processor: MammoImageProcessor, size: tuple[int, int]) -> MammoImageProcessor:
    return MammoImageProcessor.from_dict(processor.to_dict() | {"size": size, "num_channels": 1})


def _precedence(collection: Collection) -> dict[str, int]:
    """Return the place of each image that shares its view with others; a prepared folder holds it."""
    folder = folder_of(collection)
    if folder is None:
        return places_in_views(collection)
    light = open_prepared(folder).select_columns(["image_id", "precedence"])[:]
    return {image_id: place for image_id, place in zip(*light.values(), strict=True) if place is not None}


# A trial: some images, what all of them will take, and a look at the tiles.


def _spread(collection: Collection, count: int) -> Collection:
    """Return some images of a collection, spread evenly over its rows."""
    rows = np.linspace(0, len(collection) - 1, min(count, len(collection))).round().astype(int)
    chosen = set(np.array(collection.column("image_id"))[rows])
    return collection.where(lambda row: row["image_id"] in chosen)


def _forecast(summary: RunSummary, total: int, processes: int) -> str:
    size = total * summary.size / max(summary.images, 1)
    text = f"all {total} images will take {size / 1e6:.1f} MB"
    if summary.read:
        seconds = total * summary.seconds / summary.read / processes
        time = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
        text += f" and about {time} with {processes} process{'es' if processes > 1 else ''} (--num_workers)"
    return f"{text}; look at the tiles in {summary.folder}/{SHEET}"


SHEET = "tiles.png"
_SHOWN = 32  # images on the sheet at most
_CELL = (480, 240)  # (height, width) in pixels of one image on it
_COLOURS = ((255, 210, 40), (60, 200, 255), (255, 90, 255), (60, 230, 90), (255, 120, 60))


def draw_sheet(embedding: Embedding, images: Collection, folder: Folder) -> None:
    """Draw the first images of a trial with their tiles into ``tiles.png``."""
    bags = {row["image_id"]: bag_of_row(row) for row in read_features(folder.url)}
    shown = [row for row in islice(images, _SHOWN) if row["image_id"] in bags]
    cells = [_drawn(embedding.picture(row), bags[row["image_id"]]) for row in shown]
    (sheet,) = sheets(cells, min(8, len(cells)), _SHOWN)
    with folder.whole_file(SHEET) as part:
        sheet.save(part, format="png")


def _drawn(picture: Picture, bag: Bag) -> Image.Image:
    """Draw an image with the outlines of its tiles; neighbours have different colours."""
    geometry = picture.whole(_CELL)
    tone = np.sqrt(picture.draw(geometry))  # the dark end lifted: faint skin is what may be cut off
    drawn = Image.fromarray((255 * tone).astype(np.uint8)).convert("RGB")
    draw = ImageDraw.Draw(drawn)
    tiles = geometry.boxes_to_model(bag.boxes[bag.scales == TILE]).round().astype(int)
    for number, (top, left, bottom, right) in enumerate(tiles):
        draw.rectangle((left, top, right - 1, bottom - 1), outline=_COLOURS[number % len(_COLOURS)])
    draw.text((_CELL[1] - 60, _CELL[0] - 12), f"{len(tiles)} tiles", fill=(255, 255, 255))
    return drawn
