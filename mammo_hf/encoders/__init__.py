"""Encoders: any vision model with a grid of features, and the features of whole views and tiles that it gives.

Read it in the order encoder (what an encoder is and where it comes from), views (of one image), encoding (its bag),
embed (a run over a collection) and store (the folder that it writes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

_PUBLIC = {
    "Bag": "encoding",
    "Encoder": "encoder",
    "EncoderPlugin": "encoder",
    "Picture": "views",
    "Views": "views",
    "bag_of": "encoding",
    "bag_of_row": "store",
    "encoders": "encoder",
    "features_about": "store",
    "lesions_of_row": "store",
    "load_encoder": "encoder",
    "pooled": "encoding",
    "read_features": "store",
    "read_views": "views",
}

if TYPE_CHECKING:
    from .encoder import Encoder, EncoderPlugin, encoders, load_encoder
    from .encoding import Bag, bag_of, pooled
    from .store import bag_of_row, features_about, lesions_of_row, read_features
    from .views import Picture, Views, read_views

__all__ = [
    "Bag",
    "Encoder",
    "EncoderPlugin",
    "Picture",
    "Views",
    "bag_of",
    "bag_of_row",
    "encoders",
    "features_about",
    "lesions_of_row",
    "load_encoder",
    "pooled",
    "read_features",
    "read_views",
]

__getattr__, __dir__ = lazy_names(__name__, _PUBLIC)
