"""Tuning can fit 64 images, the first thing to try where a training stays at chance.

A head on frozen features is tried in tests/label_efficiency/test_heads.py.
"""

import numpy as np
import pytest
import torch
from made_labelled import SIZE, classifier, prepared, trainer

from mammo_hf import MammoImageProcessor
from mammo_hf.data.torch_datasets import LabelledImages
from mammo_hf.training.callbacks import freeze

pytestmark = pytest.mark.slow

TASK = [{"name": "pathology", "labels": ["benign", "malignant"]}]


def stripes():
    """64 images of stripes of any width and place under noise; the label is whether they lie or stand."""
    generator = np.random.default_rng(0)
    rows = prepared([[0]] * 64)
    labels = generator.permutation(np.arange(64) % 2)
    pixels = np.empty((64, *SIZE))
    for image, label in zip(pixels, labels, strict=True):
        place = np.arange(SIZE[label])
        wave = np.sin(2 * np.pi * place / generator.uniform(6, 16) + generator.uniform(0, 2 * np.pi))
        image[:] = wave[:, None] if label == 0 else wave
    pixels = 30000 + 8000 * pixels + generator.normal(0, 8000, pixels.shape)
    rows = rows.remove_columns(["pixels", "labels"])
    rows = rows.add_column("pixels", [image.clip(0, 65535).astype(np.uint16).tobytes() for image in pixels])
    return LabelledImages(rows.add_column("labels", [[int(label)] for label in labels]), MammoImageProcessor(size=SIZE))


@pytest.mark.parametrize("tune", ["full", "last_stage"])
def test_sixty_four_images_are_learnt(tmp_path, tune):
    model = classifier(tasks=TASK, embed_dim=16, num_heads=[2, 4])
    freeze(model, tune)
    images = stripes()
    settings = {"max_steps": 150, "learning_rate": 3e-3, "lr_scheduler_type": "cosine", "warmup_steps": 0.1}
    trainer(tmp_path, model, images, per_device_train_batch_size=16, **settings).train()
    pixels = torch.stack([images[index]["pixel_values"] for index in range(64)])
    with torch.no_grad():
        said = model.eval()(pixels).logits.argmax(1)
    assert (said == torch.tensor(images.prepared["labels"])[:, 0]).float().mean() > 0.95
