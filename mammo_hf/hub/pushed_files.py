"""The files that are pushed of a folder, and no others: of a checkpoint, prepared images, features, or an export.

Not pushed: checkpoints of the optimiser and ``training_args.bin``, which hold paths of this machine; ``rejected.csv``,
which holds paths; the split, the label subset and the records of shards, which hold patients' keys; pictures of images.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ..data.prepare.folder import is_features, is_prepared, prepared_table, pushed_names
from ..data.prepare.row import FEATURES, SETTINGS
from ..data.splits import SPLIT_FILE, read_split
from ..data.terms import TERMS, read_terms
from ..encoders.classifier import check_encoder, encoder_name
from ..encoders.configuration_mammo_bag import MammoBagConfig, public_record
from ..encoders.encoder import load_encoder
from ..errors import DataError, MammoError, UsageError
from ..files import MARKER, Folder
from ..models.checkpoint import (
    BAG,
    CARD,
    CONFIG,
    INDEX,
    INT8,
    MAP_TESTS,
    METRICS,
    OWN_ENCODER,
    PICTURES,
    PROCESSOR,
    TASKS,
    Checkpoint,
    exported_graphs,
    locate,
    read_checkpoint,
    read_json,
)
from ..models.training_statistics import STATISTICS
from ..processing.image_processing_mammo import MammoImageProcessor
from .model_card import ENCODER_ELSEWHERE, ENCODER_HERE, escaped, eval_result_files, export_card, write_card
from .prepare import dataset_card

Files = dict[str, bytes | Path]  # content, or its path, by the name in the repository
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


def kind_of(folder: Path) -> str:
    """Return the kind of repository that a folder is pushed to, "model" or "dataset"."""
    return "dataset" if is_prepared(folder) or is_features(folder) else "model"


def files_to_push(
    folder: Path,
    permission: str | None = None,
    results_dataset: str | None = None,
    encoder: str | None = None,
) -> Files:
    """Return the files to push; the card names the repository as `REPOSITORY` does.

    A card that is there is taken as it is; one that is missing is written into a checkpoint's folder first.

    Args:
        folder: Folder that training, ``prepare`` or ``export`` wrote.
        permission: Permission to publish, for the card.
        results_dataset: Data set on the Hub that a checkpoint's results are of.
        encoder: Encoder that is pushed with a head over features; ``None``: its own if it was trained by mammo_hf.

    Raises:
        UsageError: There are no weights, the data set's name is not one of the Hub, or the encoder is not that of the
            head.
        DataError: The index of the weights names a file elsewhere.
    """
    if kind_of(folder) == "dataset":
        files = _of_prepared(folder)
    elif exported_graphs(folder):
        files = _of_export(folder)
    else:
        checkpoint = read_checkpoint(folder)
        own = _of_encoder(checkpoint, encoder)
        files = own | _of_checkpoint(checkpoint, results_dataset)
        if own:
            files[CARD] = _card_text(files, folder).replace(ENCODER_ELSEWHERE, ENCODER_HERE, 1).encode()
    if permission:
        card = _card_text(files, folder).rstrip()
        files[CARD] = f"{card}\n\n## Permission\n\nPublished with this permission: {escaped(permission)}\n".encode()
    if (folder / TERMS).is_file():
        files[TERMS] = (folder / TERMS).read_bytes()
    return files


def _of_checkpoint(checkpoint: Checkpoint, results_dataset: str | None) -> Files:
    folder = checkpoint.folder
    if not (folder / CARD).is_file():
        write_card(folder)
    files: Files = {CONFIG: _config(checkpoint.config)}
    for name in checkpoint.weights():
        if not WEIGHTS.fullmatch(name):
            raise DataError(f"{INDEX} names the file {name!r}", source=folder, remedy="save the model again")
        files[name] = folder / name
    files |= _processor(checkpoint.processor)
    for name in (STATISTICS, MAP_TESTS):
        if (folder / name).is_file():
            files[name] = folder / name
    if checkpoint.metrics:
        files[METRICS] = (folder / METRICS).read_bytes()
    files |= eval_result_files(checkpoint, results_dataset)
    files[CARD] = (folder / CARD).read_bytes()
    shown = {f"{PICTURES}/{picture.name}": picture for picture in sorted((folder / PICTURES).glob("*.png"))}
    files |= {name: picture.read_bytes() for name, picture in shown.items() if f"({name})" in _card_text(files, folder)}
    return files


def _card_text(files: Files, folder: Path) -> str:
    card = files[CARD]
    try:
        return (card if isinstance(card, bytes) else card.read_bytes()).decode()
    except UnicodeDecodeError as error:
        remedy = "remove it: mammo-hf card writes it again"
        raise DataError("is not text in UTF-8", source=folder / CARD, remedy=remedy) from error


def _of_encoder(checkpoint: Checkpoint, given: str | None) -> Files:
    """Return the files of the encoder that is pushed with a head over features; none of an encoder of others.

    That is named by the head with its commit and the hash of its weights, which is enough to load it.
    """
    if checkpoint.config.get("model_type") != BAG:
        if given is not None:
            raise UsageError("is for a head over features", source="encoder", remedy="leave it out")
        return {}
    config: Any = MammoBagConfig.from_dict(checkpoint.config)
    record = config.encoder_record or {}
    kept = (checkpoint.folder / OWN_ENCODER).is_dir()
    if given is None and not kept and record.get("kind") != "checkpoint":
        return {}
    place = locate(encoder_name(config, checkpoint.folder, given))
    encoder = _ours(place)
    if encoder is None and given is None and not kept:
        return {}  # a folder that somebody else's model was saved to
    check_encoder(config, load_encoder(place).record, str(place))
    encoder = encoder or Checkpoint(place, read_json(place / CONFIG), read_json(place / PROCESSOR))
    files: Files = {CONFIG: _config(encoder.config), PROCESSOR: _json(encoder.processor)}
    files |= {name: place / name for name in encoder.weights() if WEIGHTS.fullmatch(name)}
    if (checkpoint.folder / TERMS).is_file():  # those of the encoder are among them
        files[TERMS] = (checkpoint.folder / TERMS).read_bytes()
    return {f"{OWN_ENCODER}/{name}": content for name, content in files.items()}


def _ours(folder: Path) -> Checkpoint | None:
    """Return the checkpoint of a folder if it was trained by mammo_hf."""
    with suppress(MammoError):
        found = read_checkpoint(folder)
        return found if found.processor.get("image_processor_type") == MammoImageProcessor.__name__ else None
    return None


def _of_export(folder: Path) -> Files:
    processor = read_json(folder / PROCESSOR)
    graphs = {path.name: path for path in exported_graphs(folder)}
    tasks = json.loads((folder / TASKS).read_text(encoding="utf-8"))
    int8 = read_json(folder / INT8) if (folder / INT8).is_file() else None
    facts = {"tasks": tasks, "int8": int8, "openvino": next(iter(graphs)).endswith((".xml", ".bin"))}
    card = folder / CARD
    content = card.read_bytes() if card.is_file() else export_card(facts, processor, read_terms(folder) or ()).encode()
    files: Files = {**graphs, TASKS: (folder / TASKS).read_bytes(), CARD: content}
    if int8 is not None:
        files[INT8] = _json(int8)
    if (folder / CONFIG).is_file():  # of a head over features
        files[CONFIG] = _config(read_json(folder / CONFIG))
    return files | _processor(processor)


def _of_prepared(folder: Path) -> Files:
    card = folder / CARD
    content = card.read_bytes() if card.is_file() else str(dataset_card(Folder(folder))).encode()
    names = [*pushed_names(folder), *([MARKER] if (folder / MARKER).is_file() else [])]
    files: Files = {CARD: content, **{name: folder / name for name in names}}
    for name in {FEATURES, SETTINGS} & set(names):
        about = read_json(folder / name)
        files[name] = _json(about | {"encoder": public_record(about["encoder"])})
    if is_features(folder) and (folder / SPLIT_FILE).is_file():
        files |= _split_of_encoder(folder)
    return files


def _split_of_encoder(folder: Path) -> Files:
    """Return the split that the encoder of features was trained with, of the patients in the folder, who are known.

    Without it a head over the features could be tested on patients of the encoder's training.
    """
    patients, record = set(prepared_table(folder).column("patient")), read_json(folder / SPLIT_FILE)
    splits = {patient: split for patient, split in read_split(folder / SPLIT_FILE).items() if patient in patients}
    earlier = sorted(patients.intersection(record.get("seen_before", [])))
    kept = {"salt_name": record.get("salt_name"), "splits": splits, "seen_before": earlier}
    return {SPLIT_FILE: _json(kept)} if splits else {}


def patients_of_rows(files: Files) -> list[str]:
    """Return the hashes of patients in the split of an encoder, which the rows that are pushed with it hold too."""
    split = files.get(SPLIT_FILE, b"{}")
    content = json.loads(split) if isinstance(split, bytes) else {}
    return [*content.get("splits", {}), *content.get("seen_before", [])]


def _processor(processor: dict[str, Any]) -> Files:
    """Return a processor's file and, if it is ours, its source."""
    if not processor:
        return {}
    code = flat_sources() if processor.get("image_processor_type") == "MammoImageProcessor" else {}
    return {PROCESSOR: _json({**processor, **({"auto_map": AUTO_MAP} if code else {})}), **code}


def _config(config: dict[str, Any]) -> bytes:
    # Keys that begin with an underscore record where it was loaded from. A pipeline of ours in the configuration would
    # make a plain call demand remote code.
    kept = {key: value for key, value in config.items() if not key.startswith("_") and key != "custom_pipelines"}
    if kept.get("encoder_record"):
        kept["encoder_record"] = public_record(kept["encoder_record"])
    return _json(kept)


def _json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


# The processor's source as flat sibling files, which transformers takes from a repository that is trusted. With them
# AutoImageProcessor.from_pretrained(name, trust_remote_code=True) works without mammo_hf, for arrays and PIL images.

MODULE = "image_processing_mammo"
AUTO_MAP = {"AutoImageProcessor": f"{MODULE}.MammoImageProcessor"}


@cache
def flat_sources(module: str = f"processing.{MODULE}") -> dict[str, bytes]:
    """Return a module of this package and all that it imports from the package, as files of one flat folder.

    Args:
        module: Dotted name below ``mammo_hf``.

    Returns:
        Source by file name; relative imports are rewritten to siblings, which is all that transformers follows.

    Raises:
        ValueError: Two of the modules have the same file name, or one imports a whole package.
    """
    folder = resources.files("mammo_hf")
    found: dict[str, tuple[str, bytes]] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = f"{name.rpartition('.')[2]}.py"
        if file in found:
            if found[file][0] != name:
                raise ValueError(f"{name} and {found[file][0]} would both be {file}")
            continue
        if folder.joinpath(*name.split(".")).is_dir():
            raise ValueError(f"the package {name} is imported, which is not a flat sibling")
        source, siblings = _flattened(folder.joinpath(*name.split(".")[:-1], file).read_text(encoding="utf-8"), name)
        found[file] = (name, source.encode())
        waiting += siblings
    return {file: source for file, (_, source) in sorted(found.items())}


def _flattened(source: str, name: str) -> tuple[str, list[str]]:
    """Return the source with imports from siblings, and the dotted names of the modules that it imports."""
    lines, imported = source.split("\n"), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            target = importlib.util.resolve_name(
                "." * node.level + (node.module or ""), f"mammo_hf.{name}".rpartition(".")[0]
            )
            imported.append(target.removeprefix("mammo_hf").lstrip("."))
            here = lines[node.lineno - 1]
            lines[node.lineno - 1] = here.replace(
                f"from {'.' * node.level}{node.module or ''} ", f"from .{target.rpartition('.')[2]} ", 1
            )
    return "\n".join(lines), imported
