"""Tuning can learn 64 images by heart, the first thing to try where a training stays at chance.

A head on frozen features is tried in tests/label_efficiency/test_heads.py.
"""

import numpy as np
import pytest
import torch
from made_labelled import SIZE, classifier, prepared, trainer

from mammo_hf import MammoImageProcessor
from mammo_hf.training.datasets import LabelledImages
from mammo_hf.training.tuning import freeze

pytestmark = pytest.mark.slow

TASK = [{"name": "pathology", "labels": ["benign", "malignant"]}]


def clouds():
    """64 images of smooth noise, with labels that have nothing to do with them."""
    generator = np.random.default_rng(0)
    rows = prepared([[0]] * 64)
    coarse = generator.integers(0, 65535, (64, SIZE[0] // 28, SIZE[1] // 28))
    pixels = coarse.repeat(28, 1).repeat(28, 2).astype(np.uint16)
    labels = generator.permutation(np.arange(64) % 2)
    rows = rows.remove_columns(["pixels", "labels"])
    rows = rows.add_column("pixels", [image.tobytes() for image in pixels])
    return LabelledImages(rows.add_column("labels", [[int(label)] for label in labels]), MammoImageProcessor(size=SIZE))


@pytest.mark.parametrize("tune", ["full", "last_stage"])
def test_sixty_four_images_are_learnt_by_heart(tmp_path, tune):
    model = classifier(tasks=TASK, embed_dim=32)
    freeze(model, tune)
    images = clouds()
    trainer(
        tmp_path, model, images, max_steps=200, learning_rate=1e-3, per_device_train_batch_size=16, logging_steps=50
    ).train()
    pixels = torch.stack([images[index]["pixel_values"] for index in range(64)])
    with torch.no_grad():
        said = model.eval()(pixels).logits.argmax(1)
    assert (said == torch.tensor(images.prepared["labels"])[:, 0]).float().mean() > 0.95
