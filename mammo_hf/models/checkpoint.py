"""Checkpoints: the meaning of a model argument, the content of a checkpoint's folder, and training that starts there.

A model argument is the name of a size (`SIZES`), a folder, a ``.pth`` file of the Swin or SimMIM repositories, or a
name on the Hugging Face Hub; `locate` resolves all but the first.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import math
import os
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors import SafetensorError, safe_open
from torch.nn import functional
from transformers import PreTrainedModel

from ..errors import DataError, MammoError, UsageError, check_hub_name, refusing
from ..files import write_whole
from ..processing.image_processing_mammo import MammoImageProcessor
from .configuration_mammo_swin import SIZES, MammoSwinConfig
from .configuration_tasks import CONFIG

logger = logging.getLogger(__name__)
Model = TypeVar("Model", bound=PreTrainedModel)
State = dict[str, torch.Tensor]

PROCESSOR, METRICS, CARD = "preprocessor_config.json", "metrics.json", "README.md"
NO_CLASSIFIER = "is a pre-trained encoder, which has no classifier"  # what a stage 1 checkpoint is refused with
MAP_TESTS = "map_tests.json"  # tests of the model's maps, which mammo-hf evaluate-explanations writes
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
# what an export has in their place: a graph by the format's ending, the scores that it gives, how it was made INT8
GRAPH, TASKS, INT8 = "model", "tasks.json", "int8.json"
ENCODER_GRAPH = "encoder_{}x{}"  # the encoder of an exported head, by height and width of its pictures
GRAPH_ENDINGS = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}  # OpenVINO's weights are in a file of their own
PICTURES = "card"  # the folder of the card's pictures
BAG = "mammo_bag"  # the model type of a head over features of a frozen encoder
OWN_ENCODER = "encoder"  # the folder of an encoder that is kept with its head
STAGES = {
    "MammoSwinForImageClassification": "classifier",
    "MammoBagForClassification": "classifier",
    "MammoSwinForMaskedImageModeling": "mim",
}

# Where a model is.


def exported_graphs(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the files of the graphs of an exported classifier, and of an encoder with it; none if it is not one."""
    for endings in GRAPH_ENDINGS.values():
        if (Path(folder) / f"{GRAPH}{endings[0]}").is_file():
            names = (GRAPH, ENCODER_GRAPH.format("*", "*"))
            return sorted(path for name in names for end in endings for path in Path(folder).glob(name + end))
    return []


# all that is downloaded of a repository: weights in a format that cannot run code, and the records next to them
_DOWNLOADED = [
    *(CONFIG, PROCESSOR, METRICS, CARD, MAP_TESTS, "*.safetensors", INDEX),
    *("split.json", "label_subset.json", "terms.json", "LICENSE*"),
    f"{OWN_ENCODER}/*.json",  # an encoder that is kept with its head; its weights are matched above
]
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def locate(model: str | os.PathLike[str], *, with_code: bool = False) -> Path:
    """Return where a model is on this machine, downloading it from the Hugging Face Hub if it is named there.

    A name that can only be a path makes no request: one that begins with ``.``, ``/`` or ``~``, ends in ``.pth``, has
    more than one slash, or begins with a folder that exists. Any other makes one attempt, and is read from the user's
    cache if the Hub cannot be reached.

    Args:
        model: A folder, a ``.pth`` file of the Swin or SimMIM repositories, or a name on the Hub, ``OWNER/NAME`` or
            ``NAME``, with an optional ``@REVISION`` (a branch, tag or commit). The name of a size is returned as it is.
        with_code: Whether to download the Python files of a model on the Hub too.

    Raises:
        UsageError: There is no such folder or file, and no such model on the Hub, or it cannot be reached.
    """
    text = os.fspath(model)
    path = Path(text).expanduser()
    if path.exists() or text in SIZES:
        return path
    name, _, revision = text.partition("@")
    if isinstance(model, os.PathLike) or _is_path(name):
        raise UsageError("there is no such folder or file", source=text, remedy=f"check the path{_nearest(text)}")
    try:
        wanted = [*_DOWNLOADED, *(["*.py"] if with_code else [])]
        return _snapshot(name, revision or constants.DEFAULT_REVISION, wanted)
    except Exception as error:  # the client's own errors, and those of its transport, which have no common class
        reason, remedy = _why_not(error, name, revision, "model")
        raise UsageError(
            f"there is no such folder here, and from the Hugging Face Hub: {reason}",
            source=text,
            remedy=remedy + _nearest(text),
        ) from error


def locate_dataset(text: str) -> Path:
    """Return where a data set of the Hugging Face Hub is on this machine, downloading what is not in the user's cache.

    Args:
        text: Name on the Hub, ``OWNER/NAME``, with an optional ``@REVISION`` (a branch, tag or commit).

    Raises:
        UsageError: There is no such data set on the Hub, or it cannot be reached and is not in the cache.
    """
    name, _, revision = text.partition("@")
    check_hub_name("hub:", name)
    try:
        return _snapshot(name, revision or constants.DEFAULT_REVISION, None, "dataset")
    except Exception as error:  # as in `locate`
        reason, remedy = _why_not(error, name, revision, "data set")
        raise UsageError(f"from the Hugging Face Hub: {reason}", source=f"hub:{text}", remedy=remedy) from error


def repository_of(folder: Path) -> str | None:
    """Return the Hub's name of a model or data set that was downloaded, or ``None`` for any other folder.

    The folder's own name is the commit.
    """
    *_, cached, snapshots, _ = ("", "", "", *folder.parts)
    kind, _, name = cached.partition("--")
    if snapshots != "snapshots" or kind not in ("models", "datasets"):
        return None
    return name.replace("--", "/")


def name_of(folder: Path) -> str:
    """Return what records and cards call a model: its name on the Hub with its commit, or the name of its folder.

    Args:
        folder: What `locate` has returned: a folder, a ``.pth`` file, or the name of a size.
    """
    repository = repository_of(folder)
    return f"{repository}@{folder.name}" if repository else folder.resolve().name


def _is_path(name: str) -> bool:
    first, _, rest = name.partition("/")
    return not _HUB_NAME.fullmatch(name) or name.endswith(".pth") or bool(rest and Path(first).exists())


def _snapshot(name: str, revision: str, wanted: list[str] | None, kind: str = "model") -> Path:
    about: dict[str, Any] = {"revision": revision, "repo_type": kind}
    if _COMMIT.fullmatch(revision):
        # a commit never changes, so a cached one needs no request
        with contextlib.suppress(OSError, ValueError):
            return Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True, **about))
        # what comes next would be tried six times if the Hub cannot be reached
        HfApi().repo_info(name, **about)
    return Path(snapshot_download(name, allow_patterns=wanted, **about))


def _why_not(error: Exception, name: str, revision: str, kind: str) -> tuple[str, str]:
    """Return the reason why a model or data set did not come from the Hub, and what to do about it."""
    if isinstance(error, GatedRepoError):
        page = f"{constants.ENDPOINT}/{name if kind == 'model' else f'datasets/{name}'}"
        return "its terms have to be accepted first", f"accept them at {page}, then hf auth login"
    if isinstance(error, RevisionNotFoundError):
        return f"{name} has no revision {revision!r}", "check the revision after the @"
    # an answer without the Hub's own code is raised as the cause of a missing cache entry
    status = getattr(getattr(error.__cause__ or error, "response", None), "status_code", None)
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return f"there is no such {kind}, or it is private", "check the name; if it is private: hf auth login"
    if constants.HF_HUB_OFFLINE:
        return f"HF_HUB_OFFLINE is set, and the {kind} is not in the cache", "unset it, or check the name"
    if status is not None:
        return f"it answers with the error {status}", "try again later, or check your token: hf auth login"
    if isinstance(error, OSError) and error.errno is not None:
        return f"the {kind} cannot be stored ({error.strerror})", "check the cache, which HF_HOME names"
    return f"it cannot be reached, and the {kind} is not in the cache", "check the name and the connection"


def _nearest(text: str) -> str:
    """Return a hint at the size or folder with the most similar name, or at the sizes if there is none."""
    parent = Path(text).expanduser().parent
    known = [str(path) for path in parent.glob("*") if path.is_dir()] if parent.is_dir() else []
    found = difflib.get_close_matches(text, [*SIZES, *known], 1)
    sizes = "" if os.sep in text else f" (sizes are {', '.join(SIZES)})"
    return f" (did you mean {found[0]}?)" if found else sizes


# What a checkpoint's folder holds.


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder and the content of its JSON files.

    Attributes:
        folder: The folder.
        config: Content of ``config.json``.
        processor: Content of ``preprocessor_config.json``; empty if there is none.
        metrics: Content of ``metrics.json``; empty if there is none.
        stage: "classifier", "mim", or "" for a model of another kind.
    """

    folder: Path
    config: dict[str, Any]
    processor: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    stage: str = ""

    @property
    def figures(self) -> dict[str, Any]:
        """The stage's own part of the metrics."""
        found = self.metrics.get(self.stage)
        return found if isinstance(found, dict) else {}

    def weights(self) -> list[str]:
        """Return the names of the files with the weights, and of their index if there are several.

        Raises:
            UsageError: There are no weights in the safetensors format.
            DataError: One of several files is missing.
        """
        if (self.folder / WEIGHTS).is_file():
            return [WEIGHTS]
        if not (self.folder / INDEX).is_file():
            raise UsageError(f"there is no {WEIGHTS} here", source=self.folder, remedy="give the whole model folder")
        shards = sorted(set(read_json(self.folder / INDEX).get("weight_map", {}).values()))
        missing = [name for name in shards if not (self.folder / name).is_file()]
        if missing or not shards:
            named = missing[0] if missing else "no file"
            raise DataError(f"its index names {named}", source=self.folder, remedy="copy the whole folder again")
        return [*shards, INDEX]

    def parameters(self) -> int:
        """Return the number of parameters, from the headers of the weights alone."""
        headers = [safetensors_header(self.folder / name) for name in self.weights() if name != INDEX]
        return sum(math.prod(shape) for _, shapes in headers for shape in shapes.values())


def read_checkpoint(folder: str | os.PathLike[str]) -> Checkpoint:
    """Read a folder that training wrote, with a Swin or a head over features.

    Raises:
        UsageError: The folder holds no model, or one of another architecture.
        DataError: One of its JSON files cannot be read.
    """
    path = Path(folder)
    config = read_config(path, ("swin", BAG))
    found = {name: read_json(path / name) if (path / name).is_file() else {} for name in (PROCESSOR, METRICS)}
    return Checkpoint(path, config, found[PROCESSOR], found[METRICS], _stage(config))


def read_config(folder: str | os.PathLike[str], kinds: Sequence[str] = ("swin",)) -> dict[str, Any]:
    """Return the content of the ``config.json`` of a model.

    Args:
        folder: Folder of the model.
        kinds: Types of models that will do, "swin" and ``BAG``.

    Raises:
        UsageError: The folder holds no model, or one of another architecture.
        DataError: The file cannot be read.
    """
    path = Path(folder)
    if not (path / CONFIG).is_file():
        size = str(folder) in SIZES and not path.is_dir()
        reason = "is the name of a model size, not a trained model" if size else "there is no model here"
        raise UsageError(reason, source=path, remedy="give the folder that training wrote")
    config = read_json(path / CONFIG)
    made_by = config.get("architectures") or []
    if not isinstance(made_by, list) or not all(isinstance(name, str) for name in made_by):
        raise DataError("its architectures are no names", source=path / CONFIG, remedy="copy the file again")
    if config.get("model_type") == BAG and BAG not in kinds:
        raise UsageError("is a head over features, which takes no images", source=path, remedy="give a Swin")
    if config.get("model_type") not in kinds:
        raise UsageError(f"is a model of type {config.get('model_type')!r}", source=path, remedy="give a Swin")
    if config["model_type"] != BAG:
        _check_config(config, path / CONFIG)
    return config


def _check_config(config: Mapping[str, Any], source: Path) -> None:
    """Refuse a configuration that no model can be made of, which a damaged or foreign file may hold."""
    try:
        MammoSwinConfig.from_dict({name: value for name, value in config.items() if name != "transformers_version"})
    except MammoError as error:
        raise DataError(error.problem, source=source, remedy=error.remedy or "copy the file again") from error


def is_bag(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds a head over features of a frozen encoder."""
    path = Path(folder) / CONFIG
    return path.is_file() and read_json(path).get("model_type") == BAG


def read_classifier_config(folder: str | os.PathLike[str], kinds: Sequence[str] = ("swin",)) -> dict[str, Any]:
    """Return the content of the ``config.json`` of a classifier of some kinds, ours or stock Swin's.

    Raises:
        UsageError: The folder holds no model, or one that does not classify.
        DataError: The file cannot be read.
    """
    config = read_config(folder, kinds)
    made_by = " ".join(config.get("architectures") or ())
    if "ForImageClassification" in made_by or config["model_type"] == BAG:
        return config
    if "ForMaskedImageModeling" in made_by:
        raise UsageError(NO_CLASSIFIER, source=folder, remedy=f"train one first: mammo-hf finetune --model {folder}")
    raise UsageError(f"is not a classifier ({made_by or 'a Swin'})", source=folder, remedy="give what finetune wrote")


def read_tasks(folder: str | os.PathLike[str], kinds: Sequence[str] = ("swin",)) -> list[dict[str, Any]]:
    """Return the tasks of a classifier of some kinds, as in `read_config`.

    Raises:
        UsageError: The folder holds no model, or one that is not a classifier of ours.
        DataError: Its configuration cannot be read.
    """
    tasks: list[dict[str, Any]] = read_classifier_config(folder, kinds).get("tasks") or []
    if not tasks:
        raise UsageError("is a classifier without named tasks", source=folder, remedy="give what finetune wrote")
    return tasks


def _stage(config: dict[str, Any]) -> str:
    made_by = config.get("architectures") or ()
    return next((stage for kind, stage in STAGES.items() if kind in made_by), "")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        DataError: The file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("cannot be read as JSON", source=path, remedy="copy the file again") from error
    if not isinstance(content, dict):
        raise DataError("is not a JSON object", source=path, remedy="copy the file again")
    return content


def read_metrics(out: Path) -> dict[str, Any]:
    """Return what ``metrics.json`` of a folder holds of earlier stages; empty if there is none yet.

    Raises:
        UsageError: The file is something else.
    """
    path = out / METRICS
    if not path.exists():
        return {}
    try:
        return read_json(path)
    except DataError as error:
        problem, remedy = "does not hold metrics", "move it away or name another folder"
        raise UsageError(problem, source=path, remedy=remedy) from error


def write_metrics(out: Path, stage: str, figures: dict[str, Any] | list[Any]) -> None:
    """Put a stage's figures into ``metrics.json`` and keep those of other stages."""
    metrics = {**read_metrics(out), stage: figures}
    write_whole(out / METRICS, (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())


def safetensors_header(path: Path) -> tuple[dict[str, str], dict[str, list[int]]]:
    """Return the metadata of a safetensors file, and the shape of each tensor by its name.

    Raises:
        DataError: The file is damaged or cut off.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError("is damaged or cut off", source=path, remedy="copy the file again") from error


def load_model(kind: type[Model], folder: str | os.PathLike[str], **options: Any) -> Model:
    """Load a model as ``kind.from_pretrained(folder, **options)`` does.

    Raises:
        DataError: The weights are missing, damaged, or of other sizes than the configuration's.
    """
    try:
        model: Model = kind.from_pretrained(folder, **options)
    except MammoError:
        raise
    except Exception as error:  # weights or a configuration of a stranger make transformers raise almost anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        if "ignore_mismatched_sizes" in reason:
            reason = "its weights have other sizes than this model's"
        raise DataError(
            f"its model cannot be loaded ({reason})", source=folder, remedy="give its own model, or train it again"
        ) from error
    return model


def load_processor(model: str | os.PathLike[str]) -> MammoImageProcessor:
    """Load the processor that was saved with a model.

    Args:
        model: Model as in `locate`; a folder that holds only a processor will do.

    Raises:
        UsageError: There is no such model, or its processor is not one of mammograms.
        DataError: It has none, or one that cannot be read.
    """
    folder = locate(model)
    remedy = f"put the {PROCESSOR} there that the model was trained with"
    try:
        found, _ = MammoImageProcessor.get_image_processor_dict(folder)
    except Exception as error:  # a file that is no JSON, or no object
        raise DataError(f"has no {PROCESSOR} that can be read", source=folder, remedy=remedy) from error
    kind = str(found.get("image_processor_type"))
    if kind != MammoImageProcessor.__name__:
        raise UsageError(f"its {PROCESSOR} is of a {kind}, which reads no mammograms", source=folder, remedy=remedy)
    with refusing(folder / PROCESSOR):
        processor: MammoImageProcessor = MammoImageProcessor.from_pretrained(folder)
    return processor


def check_processor(processor: MammoImageProcessor, config: MammoSwinConfig, source: str | os.PathLike[str]) -> None:
    """Refuse a processor that gives other images than the model was trained on.

    Args:
        processor: Image processor.
        config: Configuration of the model, ours or stock Swin's.
        source: What the message names.

    Raises:
        UsageError: Its images have another size or number of channels.
    """
    size = config.image_size if isinstance(config.image_size, list | tuple) else (config.image_size,) * 2
    given = (*processor.canvas, processor.num_channels)
    wanted = (*size, config.num_channels)
    if given != wanted:
        raise UsageError(
            "its processor gives images of {} x {} with {} channels, its model takes {} x {} with {}".format(
                *given, *wanted
            ),
            source=source,
            remedy="put the processor there that the model was trained with",
        )


# Where training starts: any Swin, of other channels, another image size, window or normalisation.

_HEADS = ("classifier.", "lesion_head.")
# (mean, deviation) by channel of what the Swin and SimMIM repositories train on: intensities in [0, 1] of ImageNet
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def starting_config(
    model: str | os.PathLike[str], image_size: tuple[int, int], *, window_size: int | None = None, **changes: Any
) -> MammoSwinConfig:
    """Return the configuration that training starts from.

    Args:
        model: The name of a size, or a model as in `locate`.
        image_size: (height, width) of the input in pixels.
        window_size: Side of the attention windows in tokens; ``None`` keeps the model's own.
        **changes: Other values of the configuration to change.

    Raises:
        UsageError: There is no such size or model, or it is not a Swin.
    """
    known = SIZES[str(model)] if str(model) in SIZES else _known_config(locate(model))
    if window_size is not None:
        changes["window_size"] = window_size
    config: MammoSwinConfig = MammoSwinConfig.from_dict(known, **changes, image_size=image_size)
    return config


def check_model(
    model: str | os.PathLike[str], image_size: tuple[int, int], *, crops: bool = False, **changes: Any
) -> None:
    """Refuse a model that is not there, or with windows that do not fit the image, before an image is read.

    Args:
        model: The name of a size, or a model as in `locate`.
        image_size: (height, width) of the input in pixels.
        crops: Whether the input is crops, whose size can be chosen so that no window is padded, and has to be.
        **changes: Values of the configuration to change, as in `starting_config`.

    Raises:
        UsageError: There is no such model, or the image does not fit its windows; the nearest size that does is named.
    """
    config = starting_config(model, image_size, **changes)
    config.check_image_size(*image_size)
    grid = config.stage_grids(*image_size)[-1]
    if crops and any(extent % config.window_size for extent in grid):
        problem = "crops of {} x {} are not of whole windows".format(*image_size)
        sides = [config.window_size * side // extent for side, extent in zip(image_size, grid, strict=True)]
        raise UsageError(problem, source="crop", remedy="give multiples of {} and {}".format(*sides))


def kind_of_start(model: str | os.PathLike[str]) -> str:
    """Return what training starts from: "masked_image_modeling", "classifier" or "checkpoint", which is any other."""
    path = locate(model)
    made_by = "" if path.is_file() else " ".join(read_config(path).get("architectures") or ())
    if "ForMaskedImageModeling" in made_by:
        return "masked_image_modeling"
    return "classifier" if "MammoSwinForImageClassification" in made_by else "checkpoint"


def load_starting_weights(
    network: PreTrainedModel, model: str | os.PathLike[str], processor: MammoImageProcessor
) -> list[str]:
    """Load a checkpoint's weights into a network, adapted to its channels, image size, window and normalisation.

    Args:
        network: One of our models, of the checkpoint's widths and depths.
        model: Model with the weights, as in `locate`.
        processor: Processor of the images that the network will see.

    Returns:
        The names of the parameters that are not in the checkpoint; also logged.

    Raises:
        UsageError: The checkpoint is of another width, depth or architecture.
        DataError: The checkpoint is damaged.
    """
    path = locate(model)
    config = MammoSwinConfig(**_known_config(path))
    state = simmim_state(path) if path.is_file() else _state_of_folder(path, type(network), config)
    _take_in_normalization(state, normalization(path, config.num_channels), processor)
    if config.tasks != network.config.tasks:
        # rows of a head of the same shape would be of other labels
        state = {name: value for name, value in state.items() if not name.startswith(_HEADS)}
    target = network.state_dict()
    grids = [one.stage_grids(*one.image_size)[0] for one in (config, network.config)]
    adapted = {name: _adapted(name, state[name], target[name], grids) for name in target if name in state}
    fitting = {name: value for name, value in adapted.items() if value is not None}
    wrong = [name for name in adapted if name not in fitting and name.startswith("swin.")]
    if wrong:
        raise UsageError(
            f"{wrong[0]} has shape {tuple(state[wrong[0]].shape)}, the model's {tuple(target[wrong[0]].shape)}",
            source=model,
            remedy="give a model of the checkpoint's widths and depths",
        )
    network.load_state_dict(fitting, strict=False)
    new = [name for name in target if name not in fitting]
    logger.info("%s: %d tensors loaded, new: %s", name_of(path), len(fitting), ", ".join(new) or "nothing")
    return new


def _known_config(path: Path) -> dict[str, Any]:
    return simmim_config(path) if path.is_file() else read_config(path)


def _state_of_folder(folder: Path, kind: type[PreTrainedModel], config: MammoSwinConfig) -> State:
    # transformers knows both the names that it saves and those that it has in memory
    loaded: Any = load_model(kind, folder, config=config, output_loading_info=True)
    network, info = loaded
    return {name: value for name, value in network.state_dict().items() if name not in info["missing_keys"]}


def normalization(path: Path, channels: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return by channel the mean and deviation that a checkpoint's images had, as intensities in [0, 1].

    ``None`` if nothing says so.
    """
    if path.is_file():
        mean, deviation = _IMAGENET
    elif (path / PROCESSOR).is_file():
        found = read_json(path / PROCESSOR)
        mean, deviation = found.get("image_mean"), found.get("image_std")
        if not found.get("do_normalize", True) or not mean or not deviation:
            mean, deviation = [0.0], [1.0]
        # transformers' processors divide stored values of 0 to 255 before they normalise; ours starts from intensities
        if found.get("image_processor_type") != MammoImageProcessor.__name__:
            top = 255 * (found.get("rescale_factor", 1 / 255) if found.get("do_rescale", True) else 1)
            mean, deviation = [value / top for value in mean], [value / top for value in deviation]
    else:
        return None
    if len(mean) not in (1, channels) or len(deviation) not in (1, channels):
        return None
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(deviation, dtype=torch.float64)


def _take_in_normalization(
    state: State, theirs: tuple[torch.Tensor, torch.Tensor] | None, processor: MammoImageProcessor
) -> None:
    """Change the patch embedding so that images as our processor normalises them give the embeddings of theirs.

    The intensity s x + m of a pixel x of ours is the pixel (s x + m - mean) / deviation of theirs, by channel, so the
    weights are multiplied by s / deviation, and what (m - mean) / deviation adds goes into the bias.
    """
    weight_name, bias_name = (f"swin.embeddings.patch_embeddings.projection.{kind}" for kind in ("weight", "bias"))
    mean, deviation = processor.image_mean[0], processor.image_std[0]
    if theirs is None or (bool((theirs[0] == mean).all()) and bool((theirs[1] == deviation).all())):
        return
    scale, shift = deviation / theirs[1], (mean - theirs[0]) / theirs[1]
    weight, bias = state[weight_name], state[bias_name]
    added = (weight.double() * shift[:, None, None]).sum((1, 2, 3))
    state[bias_name] = (bias.double() + added).to(bias.dtype)
    state[weight_name] = (weight.double() * scale[:, None, None]).to(weight.dtype)


def _adapted(name: str, value: torch.Tensor, target: torch.Tensor, grids: list[tuple[int, int]]) -> torch.Tensor | None:
    """Return a tensor in the target's shape, or ``None`` if there is no sensible way there.

    Args:
        name: Name of the parameter.
        value: The checkpoint's tensor.
        target: The model's tensor.
        grids: (rows, columns) of patches of the checkpoint's image size and of the model's.
    """
    if name.endswith("embeddings.position_embeddings") and value.shape[2] == target.shape[2]:
        return value if grids[0] == grids[1] else _resized(value.transpose(1, 2), *grids).transpose(1, 2)
    if value.shape == target.shape:
        return value
    if name.endswith("patch_embeddings.projection.weight") and value.shape[2:] == target.shape[2:]:
        return _other_channels(value, target.shape[1]) if value.shape[0] == target.shape[0] else None
    if name.endswith("relative_position_bias_table") and value.shape[1] == target.shape[1]:
        sides = [(math.isqrt(len(table)),) * 2 for table in (value, target)]
        return _resized(value.t()[None], *sides)[0].t()
    return None


def _other_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Return the weights summed over the channels and divided equally, so that a grey image gives equal features."""
    return (weight.sum(1, keepdim=True) / channels).expand(-1, channels, -1, -1).clone()


def _resized(values: torch.Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> torch.Tensor:
    """Return (1, channels, cells of a grid) on another grid, bicubic as the Swin repository does it."""
    square = values.float().unflatten(2, old)
    return functional.interpolate(square, size=new, mode="bicubic", align_corners=True).flatten(2)


# Checkpoints of the Swin and SimMIM repositories: their weights under transformers' names, and their configuration.

_TRANSFORMERS_NAMES = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.norm\.", "embeddings.norm."),
    (r"^mask_token$", "embeddings.mask_token"),
    (r"^absolute_pos_embed$", "embeddings.position_embeddings"),
    (r"^norm\.", "layernorm."),
    (r"^layers\.", "encoder.layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.relative_position_bias_table$", ".attention.relative_position_bias.relative_position_bias_table"),
)


def simmim_state(path: Path) -> State:
    """Return the weights of a checkpoint of the Swin or SimMIM repositories, under the names of our stage 1 model.

    Raises:
        UsageError: The file is not such a checkpoint.
    """
    try:
        # SimMIM saves its settings with the weights, a dictionary of a class that need not be installed here
        with torch.serialization.safe_globals([(OrderedDict, "yacs.config.CfgNode")]):
            stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UsageError("cannot be read as a PyTorch checkpoint", source=path) from error
    stored = stored.get("model", stored) if isinstance(stored, dict) else {}
    if not any(key.endswith("patch_embed.proj.weight") for key in stored):
        raise UsageError("has no parameters of a Swin", source=path, remedy="give a Swin or SimMIM checkpoint")
    state: State = {}
    for key, value in stored.items():
        name = key.removeprefix("encoder.")
        if re.search(r"relative_position_index|attn_mask|^head\.|relative_coords_table", name):
            continue
        if name.startswith("decoder."):
            state[name] = value
        elif ".attn.qkv." in name:
            # one matrix for query, key and value there, three here
            block, kind = name.split(".attn.qkv.")
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                state[f"swin.encoder.{block}.attention.{letter}_proj.{kind}"] = part
        else:
            for pattern, replacement in _TRANSFORMERS_NAMES:
                name = re.sub(pattern, replacement, name)
            state[f"swin.{name}"] = value
    return state


def simmim_config(path: Path) -> dict[str, Any]:
    """Return the configuration that follows from the shapes of a Swin or SimMIM checkpoint."""
    state = simmim_state(path)
    found = [re.match(r"swin\.encoder\.layers\.(\d+)\.blocks\.(\d+)\.layernorm_before\.weight", key) for key in state]
    blocks = [(int(match[1]), int(match[2])) for match in found if match]
    stages = 1 + max(stage for stage, _ in blocks)
    tables = [
        state[f"swin.encoder.layers.{stage}.blocks.0.attention.relative_position_bias.relative_position_bias_table"]
        for stage in range(stages)
    ]
    projection = state["swin.embeddings.patch_embeddings.projection.weight"]
    config = {
        "embed_dim": projection.shape[0],
        "num_channels": projection.shape[1],
        "patch_size": projection.shape[2],
        "depths": [1 + max(block for stage, block in blocks if stage == wanted) for wanted in range(stages)],
        "num_heads": [table.shape[1] for table in tables],
        "window_size": (math.isqrt(len(tables[0])) + 1) // 2,
        "use_absolute_embeddings": "swin.embeddings.position_embeddings" in state,
    }
    # only a table of absolute positions, which was square, depends on the image's size
    positions = state.get("swin.embeddings.position_embeddings")
    side = config["window_size"] * 2 ** (stages - 1) if positions is None else math.isqrt(positions.shape[1])
    return config | {"image_size": (side * projection.shape[2],) * 2}
