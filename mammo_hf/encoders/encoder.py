"""Encoders: vision models that turn the intensity of an image into a grid of features, from wherever they come.

`load_encoder` takes the folder of a checkpoint (one of ours, or any that transformers' ``AutoModel`` loads), the name
of a plug-in, or a name on the Hugging Face Hub. What a model's output looks like is measured, not assumed: two images
of different widths show the stride of the grid, where it is in the output, and how many tokens come before it.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoConfig, AutoModel

from ..data.terms import Terms, terms_of_model, terms_of_source
from ..errors import DataError, UsageError
from ..models.checkpoint import (
    CONFIG,
    PROCESSOR,
    load_model,
    load_processor,
    locate,
    normalization,
    read_json,
    repository_of,
)
from ..models.configuration_mammo_swin import SIZES
from ..plugins import Plugin, find_plugin, offered, plugin_errors, plugins
from ..processing.image_processing_mammo import MammoImageProcessor

GROUP = "mammo_hf.encoders"
NAMES = ("NAME", "TILE", "MEAN", "STD", "LICENCE", "CITATION", "load")
PROBE = 32  # pixels that the sides of a probing image are a multiple of, if the model's own input gives no even grid
_SPARE = ("pooler", "head", "mask_token")  # parts of a model that its grid of features does not depend on


class EncoderPlugin(Protocol):
    """Encoder of another package: a module, or any object, with these names.

    It may also have ``REQUIRES`` and ``available``, as an explainer has, and ``TERMS``, as a source of images has: what
    its licence says of weights that are made with it, and of commercial use (`mammo_hf.data.terms.Terms`).

    Attributes:
        NAME: Name of the encoder, as in its entry point.
        TILE: Side in pixels of the square that it was trained on.
        MEAN: Mean of the intensity in [0, 1] that is subtracted, one number for each channel of its input.
        STD: Deviation that the difference is divided by, one number for each channel.
        LICENCE: Licence of its weights, such as "apache-2.0".
        CITATION: What to cite.
    """

    NAME: str
    TILE: int
    MEAN: Sequence[float]
    STD: Sequence[float]
    LICENCE: str
    CITATION: str

    def load(self) -> nn.Module:
        """Return the network, from normalised (batch, channels, height, width) to (batch, features, rows, columns)."""
        ...


@dataclass(frozen=True)
class KnownEncoder:
    """An encoder on the Hub that is known to work; its card there is what counts.

    Attributes:
        licence: Licence that its card names.
        commercial: Whether the licence allows commercial use: "yes", "no", or "" if it has conditions of its own.
        gated: Whether the Hub asks for an account and consent before it can be downloaded.
    """

    licence: str
    commercial: str
    gated: bool = False


_DINOV3 = KnownEncoder("dinov3-license", "", gated=True)
_APACHE = KnownEncoder("apache-2.0", "yes")
KNOWN: Mapping[str, KnownEncoder] = {
    "facebook/dinov2-small": _APACHE,
    "facebook/dinov2-base": _APACHE,
    "facebook/dinov2-large": _APACHE,
    "facebook/dinov2-with-registers-base": _APACHE,
    "facebook/dinov3-vits16-pretrain-lvd1689m": _DINOV3,
    "facebook/dinov3-vitb16-pretrain-lvd1689m": _DINOV3,
    "facebook/convnext-tiny-224": _APACHE,
    "google/siglip-base-patch16-224": _APACHE,
    "google/vit-base-patch16-224-in21k": _APACHE,
    "microsoft/resnet-50": _APACHE,
}


class Encoder(nn.Module):
    """A vision model as a grid of features over the intensity of an image; in evaluation mode.

    Args:
        tower: Network on normalised images.
        mean: Mean that is subtracted from the intensity in [0, 1], by channel of the network's input; a network of
            three channels gets the one channel three times.
        std: Deviation that the difference is divided by, by channel.
        size: (height, width) in pixels of the network's own input.
        about: Entries of `record` that are known already: name, kind, revision, licence, commercial, trust_remote_code
            and citation.
        terms: Terms of what it was trained on, or of its weights.
        unused: Names of parameters that the features do not depend on.
        processor: Processor of the images that it was trained on, if those were mammograms.

    Attributes:
        tile: Side in pixels of the square that it encodes best, its own input.
        multiple: Number of pixels that the sides of an image must be a multiple of.
        channels: Number of channels of the grid.
        canvas: (height, width) in pixels of a whole view: its own input if that is a rectangle, else twice as high as
            wide.

    Raises:
        UsageError: The network gives no grid of features, or takes images of one size alone.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        tower: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size: tuple[int, int],
        about: Mapping[str, Any],
        terms: Sequence[Terms] = (),
        unused: Sequence[str] = (),
        processor: MammoImageProcessor | None = None,
    ) -> None:
        super().__init__()
        self.tower = tower
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32)[:, None, None], persistent=False)
        self.about, self.terms, self.size, self.processor = dict(about), tuple(terms), size, processor
        self._unused = set(unused)
        names = inspect.signature(tower.forward).parameters
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in names else {}
        # a Swin of transformers clamps its windows to the image, and keeps them so for all that follow
        windows = [module for module in tower.modules() if hasattr(module, "set_shift_and_window_size")]
        self._windows = [(module, module.window_size, module.shift_size) for module in windows]
        self.eval()
        self.grid = _probed(self, min(size), about["name"])
        self.tile, self.multiple, self.channels = self.grid.probe, self.grid.stride, self.grid.channels
        self.canvas = self._canvas()

    def _canvas(self) -> tuple[int, int]:
        if self.size[0] != self.size[1]:
            height, width = (-(-side // self.multiple) * self.multiple for side in self.size)
            return height, width
        canvas = self.tile, -(-self.tile // (2 * self.multiple)) * self.multiple
        try:
            self.check_size(canvas)
        except UsageError:  # a stock Swin takes no side of fewer tokens than its window has
            canvas = 2 * self.tile, self.tile
            self.check_size(canvas)
        return canvas

    @torch.no_grad()
    def check_size(self, size: tuple[int, int]) -> None:
        """Refuse a size that the network does not take.

        Args:
            size: (height, width) of an image in pixels.

        Raises:
            UsageError: It does not.
        """
        try:
            self(torch.zeros(1, 1, *size, device=self.mean.device))
        except UsageError:
            raise
        except Exception as error:  # whatever another maker's network raises
            raise _refused(error, size, self.about["name"]) from error

    @cached_property
    def record(self) -> dict[str, Any]:
        """What identifies the encoder and its terms of use, for ``features.json``, configurations and cards.

        ``weights`` is the SHA-256 of the parameters that the features depend on; ``kind`` is "checkpoint", "plugin" or
        "hub"; ``revision`` is the commit of a model of the Hub.
        """
        return {**self.about, "weights": self._digest(), "channels": self.channels, "tile": self.tile}

    def forward(self, intensity: torch.Tensor) -> torch.Tensor:
        """Encode images.

        Args:
            intensity: Intensity in [0, 1], float (batch, 1, height, width); the sides are multiples of ``multiple``.

        Returns:
            Grid of features (batch, channels, rows, columns): a cell for each ``multiple`` x ``multiple`` pixels.

        Raises:
            UsageError: A side is not a multiple of ``multiple``.
        """
        if any(side % self.multiple for side in intensity.shape[-2:]):
            height, width = intensity.shape[-2:]
            problem = f"takes images whose sides are multiples of {self.multiple}, not {height} x {width}"
            raise UsageError(problem, source=self.about["name"], remedy="choose another image_size")
        return self.grid.of(self.output(intensity), intensity.shape[-2:])

    def output(self, intensity: torch.Tensor) -> torch.Tensor:
        """Return what the network itself gives: tokens (batch, tokens, channels), or a map of four dimensions."""
        found = self._raw(intensity)
        if isinstance(found, torch.Tensor):
            return found
        last: Any = getattr(found, "last_hidden_state", None)
        maps = getattr(found, "feature_maps", None)
        return maps[-1] if last is None and maps else last

    def attentions(self, intensity: torch.Tensor) -> list[torch.Tensor]:
        """Return the attention of a vision transformer, (batch, heads, tokens, tokens) for each layer, the first first.

        Args:
            intensity: Intensity in [0, 1], float (batch, 1, height, width).

        Returns:
            Weights that sum to 1 over the last axis; an empty list if not every layer has one over the tokens of
            `output`: a convolutional network, or a Swin with its windows.
        """
        config: Any = getattr(self.tower, "config", None)
        if self.grid.layout != "tokens" or not hasattr(config, "_attn_implementation"):
            return []
        usual = config._attn_implementation
        config._attn_implementation = "eager"  # the others do not keep the weights
        try:
            found: Any = self._raw(intensity, output_attentions=True)
        except TypeError:  # code of another maker does not know the option
            return []
        finally:
            config._attn_implementation = usual
        layers = list(getattr(found, "attentions", None) or [])
        tokens = found.last_hidden_state.shape[1] if layers else 0
        whole = all(
            one is not None and (*one.shape[:1], *one.shape[2:]) == (len(intensity), tokens, tokens) for one in layers
        )
        return layers if whole else []

    def _raw(self, intensity: torch.Tensor, **options: Any) -> Any:
        for module, window, shift in self._windows:
            module.window_size, module.shift_size = window, shift
        return self.tower((intensity - self.mean) / self.std, **self._options, **options)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for name, value in sorted(self.tower.state_dict().items()):
            if name not in self._unused:
                digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
                digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


@dataclass(frozen=True)
class Grid:
    """Place of the grid of features in a network's output.

    Attributes:
        layout: "tokens" for (batch, tokens, channels), row by row; "channels_first" or "channels_last" for a map.
        stride: Pixels per side of a cell.
        before: Number of tokens before the grid: class and register tokens.
        channels: Number of channels.
        probe: Side in pixels of the square that this was measured on.
    """

    layout: str
    stride: int
    before: int
    channels: int
    probe: int

    def of(self, output: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """Return the grid (batch, channels, rows, columns) of an output for an image of (height, width)."""
        if self.layout == "channels_last":
            return output.permute(0, 3, 1, 2)
        if self.layout == "tokens":
            rows, columns = size[0] // self.stride, size[1] // self.stride
            return output[:, self.before :].transpose(1, 2).unflatten(2, (rows, columns))
        return output


@torch.no_grad()
def _probed(encoder: Encoder, side: int, name: str) -> Grid:
    """Find the grid by encoding a square and a rectangle that is twice as wide."""
    patch = _patch_of(encoder.tower)
    sides = [max(side - side % patch, patch), -(-side // PROBE) * PROBE, -(-side // (2 * PROBE)) * 2 * PROBE]
    for probe in dict.fromkeys(sides):
        try:
            square, wide = (encoder.output(torch.zeros(1, 1, probe, width)) for width in (probe, 2 * probe))
        except Exception as error:  # whatever another maker's network raises on an image that it does not take
            raise _refused(error, (probe, 2 * probe), name) from error
        found = _grid(square, wide, probe)
        if found is not None:
            return found
    raise UsageError(
        "gives no grid of features", source=name, remedy="use a vision model with a feature map or patch tokens"
    )


def _refused(error: Exception, size: tuple[int, int], name: str) -> UsageError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:150]
    problem = f"its network does not take images of {size[0]} x {size[1]} pixels ({reason})"
    return UsageError(problem, source=name, remedy="use another size, or an encoder that takes rectangles of any size")


def _patch_of(tower: nn.Module) -> int:
    patch = getattr(getattr(tower, "config", None), "patch_size", 1)
    return max(patch) if isinstance(patch, list | tuple) else int(patch or 1)


def _grid(square: Any, wide: Any, probe: int) -> Grid | None:
    """Return the grid that two outputs show, or ``None`` if they show none."""
    if not (isinstance(square, torch.Tensor) and isinstance(wide, torch.Tensor)) or square.ndim != wide.ndim:
        return None
    if square.ndim == 3:
        cells = wide.shape[1] - square.shape[1]
        rows, before = round(max(cells, 0) ** 0.5), square.shape[1] - cells
        layout, even = "tokens", rows > 0 and rows * rows == cells and before >= 0
    elif square.ndim == 4:
        axis = next((axis for axis in (2, 3) if wide.shape[axis] == 2 * square.shape[axis]), 0)
        layout, rows, before = "channels_last" if axis == 2 else "channels_first", square.shape[axis], 0
        even = axis > 0 and square.shape[axis - 1] == rows
    else:
        return None
    if not even or probe % rows:
        return None
    channels = square.shape[1] if layout == "channels_first" else square.shape[-1]
    return Grid(layout, probe // rows, before, channels, probe)


# Where an encoder comes from.


def encoders() -> dict[str, Plugin]:
    """Return the encoders of installed packages by name, those that cannot be used with their reason."""
    return plugins(GROUP, NAMES)


def load_encoder(
    name: str | os.PathLike[str], *, trust_remote_code: bool = False, model_terms: str | None = None
) -> Encoder:
    """Load an encoder.

    Args:
        name: A folder with a checkpoint, the name of a plug-in, or a name on the Hub, ``OWNER/NAME``, with an optional
            ``@REVISION``; in that order.
        trust_remote_code: Whether code of the model's own repository may be run.
        model_terms: Terms of the encoder that the user states, such as "allowed: its licence, section 2", if it has no
            ``terms.json`` and its card no licence.

    Raises:
        UsageError: There is no such encoder; it is not one of images; it gives no grid of features; or it wants to run
            its own code and was not allowed to.
        DataError: Its files are damaged, or say nothing of how its images are normalised.
    """
    text = os.fspath(name)
    if not Path(text).expanduser().exists() and text in offered(GROUP):
        return of_plugin(find_plugin(GROUP, text, NAMES, kind="encoder"))
    if text in SIZES and not Path(text).exists():
        raise UsageError("is the name of a size, which has no weights", source=text, remedy="give a trained model")
    folder = locate(text, with_code=trust_remote_code)
    if folder.is_file():
        remedy = "start a training from it, and give the checkpoint that the training wrote"
        raise UsageError("is a file, not the folder of a model", source=text, remedy=remedy)
    return _of_folder(folder, text, trust_remote_code, model_terms)


def of_plugin(plugin: EncoderPlugin) -> Encoder:
    """Return the encoder of a plug-in.

    Raises:
        PluginError: It has raised something.
        UsageError: It gives no grid of features.
    """
    name = plugin.NAME
    terms = terms_of_source(name, plugin.LICENCE, getattr(plugin, "TERMS", None))
    about = {
        **{"name": name, "kind": "plugin", "revision": None, "trust_remote_code": False},
        **{"licence": plugin.LICENCE, "commercial": terms.commercial, "citation": plugin.CITATION},
    }
    with plugin_errors("encoder", name):
        tower, size = plugin.load(), (int(plugin.TILE),) * 2
        return Encoder(tower, mean=plugin.MEAN, std=plugin.STD, size=size, about=about, terms=[terms])


def _of_folder(folder: Path, text: str, trust_remote_code: bool, model_terms: str | None) -> Encoder:
    config = _config_of(folder, text, trust_remote_code)
    tower, unused = _tower_of(folder, config, text, trust_remote_code)
    repository = repository_of(folder)
    name = repository or text
    terms = terms_of_model(folder, repository, model_terms)
    mean, std, size = _pixels_of(folder, config, tower, name)
    own_code = trust_remote_code and "AutoModel" in (getattr(config, "auto_map", None) or {})
    about = {
        **{"name": name, "kind": "hub" if repository else "checkpoint", "trust_remote_code": own_code},
        "revision": folder.name if repository else None,
        "licence": "; ".join(dict.fromkeys(one.images for one in terms if one.images)),
        "commercial": _commercial(terms),
        "citation": "; ".join(dict.fromkeys(one.citation for one in terms if one.citation)),
    }
    facts = read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    ours = load_processor(folder) if facts.get("image_processor_type") == MammoImageProcessor.__name__ else None
    return Encoder(tower, mean=mean, std=std, size=size, about=about, terms=terms, unused=unused, processor=ours)


def _commercial(terms: Sequence[Terms]) -> str:
    stated = {one.commercial for one in terms}
    return "no" if "no" in stated else "yes" if stated == {"yes"} else ""


def _config_of(folder: Path, text: str, trust_remote_code: bool) -> Any:
    """Return the configuration of a model of images.

    Raises:
        UsageError: There is no model, transformers does not know it, or it is not one of images.
    """
    if not (folder / CONFIG).is_file():
        raise UsageError("there is no model here", source=text, remedy="give the folder that holds its config.json")
    stored = read_json(folder / CONFIG)
    kind = stored.get("model_type")
    own_code = "AutoModel" in (stored.get("auto_map") or {})
    if own_code and not trust_remote_code and kind not in CONFIG_MAPPING:
        remedy = "read that code; if you trust it, say `trust_remote_code=True`"
        raise UsageError("wants to run code of its own repository", source=text, remedy=remedy)
    if not own_code and kind not in CONFIG_MAPPING:
        problem = f"is a model of type {kind!r}, which transformers does not know"
        raise UsageError(problem, source=text, remedy="upgrade transformers, or use a plug-in that loads it")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if type(config) in MODEL_MAPPING:
        kind_of_model: Any = MODEL_MAPPING[type(config)]
        modalities = kind_of_model.input_modalities
        modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
        if "image" not in modalities:
            problem = f"is a model of {' and '.join(modalities)}, not of images"
            raise UsageError(problem, source=text, remedy="give a vision model, as facebook/dinov2-base")
    elif not own_code:
        raise UsageError(f"is a model of type {kind!r}, which is not an encoder", source=text, remedy="give an encoder")
    return config


def _tower_of(folder: Path, config: Any, text: str, trust_remote_code: bool) -> tuple[nn.Module, list[str]]:
    """Return the vision tower of a model, and the names of its parameters that the checkpoint lacks and nobody needs.

    Raises:
        DataError: The checkpoint cannot be loaded, or lacks others.
    """
    options: dict[str, Any] = {"config": config, "dtype": torch.float32, "trust_remote_code": trust_remote_code}
    try:
        loaded: Any = load_model(AutoModel, folder, **options, output_loading_info=True)  # type: ignore[type-var]
    except ImportError as error:  # a model of timm, for example
        reason = next((line for line in str(error).splitlines() if line.strip()), "a package is missing").strip()
        raise UsageError(f"cannot be loaded here: {reason}", source=text, remedy="install that package") from error
    model, info = loaded
    tower = model.get_encoder(modality="image") if hasattr(model, "get_encoder") else model
    prefix = next(f"{name}." if name else "" for name, module in model.named_modules() if module is tower)
    missing = [key.removeprefix(prefix) for key in info["missing_keys"] if key.startswith(prefix)]
    needed = [key for key in missing if not any(part in key for part in _SPARE)]
    if needed:
        problem = f"its weights lack {needed[0]}, which would be random"
        raise DataError(problem, source=text, remedy="give the whole model")
    return tower, missing


def _pixels_of(
    folder: Path, config: Any, tower: nn.Module, name: str
) -> tuple[list[float], list[float], tuple[int, int]]:
    """Return mean and deviation of the intensity by channel, and (height, width) of the model's own input.

    Raises:
        DataError: No file says how its images are normalised.
    """
    own = getattr(tower, "config", config)
    timm = getattr(config, "pretrained_cfg", None) or {}
    channels = getattr(own, "num_channels", None) or (timm.get("input_size") or [3])[0]
    found = read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    if found and (found.get("image_mean") or not found.get("do_normalize", True)):
        stated = normalization(folder, channels)
        if stated is not None:
            mean, std = (list(map(float, values.expand(channels))) for values in stated)
            return mean, std, _side_of(found) or _side_of({"size": getattr(own, "image_size", None)}) or (224, 224)
    elif timm.get("mean") and timm.get("std"):
        return list(timm["mean"]), list(timm["std"]), tuple(timm.get("input_size", (3, 224, 224))[-2:])
    problem = f"has no {PROCESSOR} that says how images of {channels} channels are normalised"
    raise DataError(problem, source=name, remedy="put the file of the model's author there")


def _side_of(found: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (height, width) of what an image processor's file gives: its crop, or else its size."""
    cropped = found.get("do_center_crop", True) and found.get("crop_size")
    size = cropped or found.get("size")
    if isinstance(size, Mapping):
        size = [size.get(side, size.get("shortest_edge")) for side in ("height", "width")]
    size = [size] * 2 if isinstance(size, int) else size
    return (int(size[0]), int(size[1])) if size and all(size) else None
