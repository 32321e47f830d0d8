"""Labels dealt out anew among images: a model that is trained on them can have learnt nothing true.

Where its explanations look like the model's own, they show the image and not what was learnt (Adebayo et al. 2018,
arXiv 1810.03292, section 4: the data randomisation test).
"""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import numpy as np

from ..data.prepare import UNKNOWN_PATHOLOGY


def permuted_labels(prepared: datasets.Dataset, rows: Sequence[int], seed: int) -> datasets.Dataset:
    """The same images with the labels of some rows dealt out anew among them, each task by itself.

    How often each label occurs stays. Lesions stay where they are and take their image's new label of the first task.

    Args:
        prepared: Prepared images, with ``labels`` and ``lesions``.
        rows: Those that are trained on; all others keep their labels.
        seed: Of the permutation.
    """
    generator = np.random.default_rng(seed)
    labels = np.array(prepared["labels"], dtype=np.int64)
    chosen = np.asarray(rows)
    for task in range(labels.shape[1]):
        known = chosen[labels[chosen, task] >= 0]
        labels[known, task] = labels[generator.permutation(known), task]
    lesions = list(prepared["lesions"])
    for row in rows:
        if lesions[row] is not None:
            lesions[row] = _relabelled(lesions[row], int(labels[row, 0]))
    kinds = prepared.features
    changed = prepared.remove_columns(["labels", "lesions"])
    changed = changed.add_column("labels", labels.tolist(), feature=kinds["labels"])
    return changed.add_column("lesions", lesions, feature=kinds["lesions"])


def _relabelled(cells: bytes, label: int) -> bytes:
    found = np.frombuffer(cells, np.uint8).copy()
    found[found > 0] = UNKNOWN_PATHOLOGY if label < 0 else label + 1
    return found.tobytes()
