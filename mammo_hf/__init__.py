"""mammo_hf: from a folder of mammograms to a trained, explainable model, with few labels.

Importing this package loads nothing heavy. Its public names are imported on first use, and what has to be known to
transformers (the image processor, the pipeline task) and `datasets` (`MammogramImage`) is registered when their own
registries are loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy_names
from ._registration import register_when_loaded

__version__ = "0.1.0"
_PUBLIC = {
    "BlockwiseMasking": "processing.masking",
    "Explanation": "explainers",
    "Geometry": "processing.geometry",
    "MammoError": "errors",
    "MammoBagConfig": "encoders.configuration_mammo_bag",
    "MammoBagForClassification": "encoders.bags",
    "MammoImageProcessor": "processing.image_processing_mammo",
    "MammoSwinConfig": "models.configuration_mammo_swin",
    "MammoSwinForImageClassification": "models.modeling_mammo_swin",
    "MammoSwinForMaskedImageModeling": "models.modeling_mammo_swin",
    "Collection": "data",
    "Mammogram": "dicom",
    "MammogramClassificationPipeline": "inference.pipeline",
    "MammogramError": "dicom",
    "MammogramImage": "data.mammogram_image",
    "embed": "encoders.embed",
    "evaluate": "evaluation.evaluate",
    "explain": "inference.explain",
    "finetune": "training.classification",
    "load": "data",
    "predict": "inference.predict",
    "prepare": "hub.prepare",
    "pretrain": "training.mim",
    "push": "hub.push",
    "read_mammogram": "dicom",
}

if TYPE_CHECKING:
    from .data.collection import Collection
    from .data.loading import load
    from .data.mammogram_image import MammogramImage
    from .dicom import Mammogram, MammogramError, read_mammogram
    from .encoders.bags import MammoBagForClassification
    from .encoders.configuration_mammo_bag import MammoBagConfig
    from .encoders.embed import embed
    from .errors import MammoError
    from .evaluation.evaluate import evaluate
    from .explainers.explanation import Explanation
    from .hub.prepare import prepare
    from .hub.push import push
    from .inference.explain import explain
    from .inference.pipeline import MammogramClassificationPipeline
    from .inference.predict import predict
    from .models.configuration_mammo_swin import MammoSwinConfig
    from .models.modeling_mammo_swin import MammoSwinForImageClassification, MammoSwinForMaskedImageModeling
    from .processing.geometry import Geometry
    from .processing.image_processing_mammo import MammoImageProcessor
    from .processing.masking import BlockwiseMasking
    from .training.classification import finetune
    from .training.mim import pretrain

__all__ = [
    "BlockwiseMasking",
    "Collection",
    "Explanation",
    "Geometry",
    "MammoBagConfig",
    "MammoBagForClassification",
    "MammoError",
    "MammoImageProcessor",
    "MammoSwinConfig",
    "MammoSwinForImageClassification",
    "MammoSwinForMaskedImageModeling",
    "Mammogram",
    "MammogramClassificationPipeline",
    "MammogramError",
    "MammogramImage",
    "embed",
    "evaluate",
    "explain",
    "finetune",
    "load",
    "predict",
    "prepare",
    "pretrain",
    "push",
    "read_mammogram",
]


__getattr__, __dir__ = lazy_names(__name__, _PUBLIC)


register_when_loaded()
