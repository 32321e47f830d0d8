"""Prepared rows, a classifier and a Trainer of stage 2 that take no file: for tests, and for processes they start."""

import datasets
import numpy as np
import torch
from transformers import TrainingArguments

from mammo_hf import MammoImageProcessor, MammoSwinConfig, MammoSwinForImageClassification
from mammo_hf.data.torch_datasets import EpochOfDatasets, LabelledImages
from mammo_hf.training.callbacks import WeightAverage
from mammo_hf.training.semi_supervised import ClassThresholds, SemiSupervisedTrainer, TwoViews, WithUnlabelled
from mammo_hf.training.trainer import ClassificationTrainer

SIZE = (112, 56)
TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}, {"name": "density", "labels": ["a", "b", "c"]}]


def prepared(labels, *, places=False, split="train", seed=0):
    """Rows of noise, brighter where the first label is 1; ``places``: the lesion's cells too, of every other row."""
    rows = []
    for number, own in enumerate(labels):
        generator = np.random.default_rng([seed, number])
        pixels = generator.integers(0, 30000, SIZE, dtype=np.uint16)
        cells = np.zeros((SIZE[0] // 4, SIZE[1] // 4), np.uint8)
        if own[0] == 1:
            pixels[40:72, 16:40] += 30000
            cells[10:18, 4:10] = 2
        rows.append(
            {
                **{"image_id": f"{split}{number}", "patient": f"{split}{number}", "split": split, "laterality": "L"},
                **{"view": "CC", "labels": list(own), "size": list(SIZE), "pixels": pixels.tobytes()},
                **{"lesions": cells.tobytes() if places and number % 2 else None, "geometry": "{}"},
            }
        )
    features = datasets.Features(
        {
            **{name: datasets.Value("string") for name in ("image_id", "patient", "split", "laterality", "view")},
            **{"labels": datasets.List(datasets.Value("int64")), "size": datasets.List(datasets.Value("int64"))},
            **{"pixels": datasets.Value("binary"), "lesions": datasets.Value("binary")},
            "geometry": datasets.Value("string"),
        }
    )
    return datasets.Dataset.from_list(rows, features=features)


def classifier(**changes):
    torch.manual_seed(0)
    tiny = {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "image_size": SIZE, "drop_path_rate": 0.0}
    return MammoSwinForImageClassification(MammoSwinConfig(**tiny | {"tasks": TASKS} | changes))


def images(labels, **options):
    grid = options.pop("lesion_grid", None)
    return LabelledImages(prepared(labels, **options), MammoImageProcessor(size=SIZE), lesion_grid=grid)


def trainer(out, model, training, *, unlabelled=None, method="pseudo_label", confidence=0.5, **arguments):
    defaults = {
        **{"use_cpu": True, "max_steps": 3, "learning_rate": 1e-3, "save_strategy": "no", "report_to": "none"},
        **{"remove_unused_columns": False, "logging_steps": 1, "disable_tqdm": True, "label_names": ["labels"]},
        "train_sampling_strategy": "sequential",
    }
    args = TrainingArguments(str(out), **defaults | arguments)
    if unlabelled is None:
        return ClassificationTrainer(model, args, train_dataset=training)
    views = TwoViews(prepared(unlabelled, seed=1, split="unlabelled"), MammoImageProcessor(size=SIZE))
    training = WithUnlabelled(training, views, 2)
    return SemiSupervisedTrainer(
        model,
        args,
        train_dataset=training,
        callbacks=[EpochOfDatasets(training)],
        method=method,
        thresholds=ClassThresholds(model.config, confidence),
        average=WeightAverage(model, 0.9) if method == "mean_teacher" else None,
    )
