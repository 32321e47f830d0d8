"""Registration with transformers (processor, models, pipeline) and `datasets` (a feature), without importing them.

Importing their registries takes seconds, and a library should cost nothing at import. So each registration waits for
the module that holds its registry: it runs at once if that module is loaded, and otherwise right after somebody loads
it. Nothing that they already register is replaced.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


def _register_image_processor(module: ModuleType) -> None:
    from .models.configuration_mammo_swin import MammoSwinConfig
    from .processing.image_processing_mammo import MammoImageProcessor

    module.AutoImageProcessor.register(
        MammoSwinConfig, image_processor_classes={"pil": MammoImageProcessor}, exist_ok=True
    )


def _register_bag_config(module: ModuleType) -> None:
    from .encoders.configuration_mammo_bag import MammoBagConfig

    module.AutoConfig.register(MammoBagConfig.model_type, MammoBagConfig, exist_ok=True)


def _register_models(module: ModuleType) -> None:
    # each module registers its models itself: if it is the one that loads transformers' registry, it is not whole yet
    importlib.import_module(".encoders.bags", __package__)
    # transformers may load the registry in the middle of its own Swin: then after our configuration, without which
    # nobody asks for our model
    with contextlib.suppress(ImportError):
        importlib.import_module(".models.modeling_mammo_swin", __package__)


def _register_swin(module: ModuleType) -> None:
    if _MODELS in sys.modules:
        importlib.import_module(".models.modeling_mammo_swin", __package__)


def _register_pipeline(module: ModuleType) -> None:
    # the module registers its task itself: where it is the one that loads transformers' registry, it is not whole yet
    importlib.import_module(".inference.pipeline", __package__)


def _register_feature(module: ModuleType) -> None:
    # as above: if this module is the one that loads `datasets`, it is not whole yet
    importlib.import_module(".data.mammogram_image", __package__)


_MODELS = "transformers.models.auto.modeling_auto"
_WAITING: dict[str, Callable[[ModuleType], None]] = {
    "transformers.models.auto.configuration_auto": _register_bag_config,
    _MODELS: _register_models,
    f"{__package__}.models.configuration_mammo_swin": _register_swin,
    "transformers.models.auto.image_processing_auto": _register_image_processor,
    "transformers.pipelines": _register_pipeline,
    "datasets.features.features": _register_feature,
}


class _AfterLoading(Loader):
    """Loader that runs the registry's own loader, then our registration."""

    def __init__(self, loader: Loader, then: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # hand the module back to its own loader first: whoever looks at it later finds nothing of ours on it
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then(module)


class _RegistryFinder(MetaPathFinder):
    """Finder of the modules that are waited for, once each; every other import is left alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _WAITING:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _AfterLoading(spec.loader, _WAITING.pop(fullname))
            if not _WAITING:
                sys.meta_path.remove(self)
        return spec


def register_when_loaded() -> None:
    """Register with the registries that are loaded, and with the others when they are."""
    for name in [name for name in _WAITING if name in sys.modules]:
        _WAITING.pop(name)(sys.modules[name])
    if _WAITING and not any(isinstance(finder, _RegistryFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegistryFinder())
