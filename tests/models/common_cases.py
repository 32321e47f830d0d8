"""Cases of transformers' own common tests: stock Swin, and each kind of our models and processor.

`scripts/common_tests.py` copies this module into the ``tests`` package of a source distribution of transformers, whose
mixins it needs; pytest does not collect it here.
"""

from __future__ import annotations

import copy
import unittest

import numpy as np
import torch
from PIL import Image
from transformers import SwinConfig, SwinForImageClassification, SwinForMaskedImageModeling
from transformers.models.swin.modeling_swin import SwinPatchEmbeddings

from mammo_hf import (
    MammoImageProcessor,
    MammoSwinConfig,
    MammoSwinForImageClassification,
    MammoSwinForMaskedImageModeling,
)

from .test_configuration_common import ConfigTester
from .test_image_processing_common import ImageProcessingTestMixin
from .test_modeling_common import ModelTesterMixin

SHAPE = {
    **{"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 2, 1], "num_heads": [2, 2, 4]},
    **{"window_size": 2, "drop_path_rate": 0.1, "encoder_stride": 8},
}
TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}, {"name": "density", "labels": ["a", "b", "c"]}]


class Tester:
    """What the mixins ask of a model: its configuration and inputs."""

    batch_size, seq_length, num_channels, image_size, patch_size, hidden_size = 5, 64, 3, 32, 2, 64
    num_masks, mask_length = 128, 256  # the upper half of the patches
    is_training = True

    def __init__(self, parent, config_class, options):
        self.parent, self.config_class, self.options = parent, config_class, options

    def get_config(self):
        return self.config_class(**SHAPE, num_channels=3, **self.options)

    def prepare_config_and_inputs_for_common(self):
        pixels = torch.rand(self.batch_size, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return self.get_config(), {"pixel_values": pixels}


class Common(ModelTesterMixin):
    """The common tests, with inputs that fit stock Swin's heads and ours, and Swin's own shapes of what is recorded."""

    test_resize_embeddings = False
    config_class, options = MammoSwinConfig, {}

    def setUp(self):
        self.model_tester = Tester(self, self.config_class, self.options)
        self.config_tester = ConfigTester(
            self,
            config_class=self.config_class,
            embed_dim=37,
            has_text_modality=False,
            common_properties=["image_size", "patch_size", "num_channels"],
        )

    def test_config(self):
        self.config_tester.run_common_tests()

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = {name: value for name, value in copy.deepcopy(inputs_dict).items() if name != "labels"}
        images = len(inputs["pixel_values"])
        if "MaskedImageModeling" in model_class.__name__:
            blocks = torch.rand(images, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.5
            inputs["bool_masked_pos"] = blocks.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1)
        elif return_labels:
            tasks = self.options.get("tasks")
            inputs["labels"] = torch.zeros((images, len(tasks)) if tasks else images, dtype=torch.long)
        return inputs

    def test_model_get_set_embeddings(self):
        for model_class in self.all_model_classes:  # Swin embeds patches, not words
            assert isinstance(model_class(self.model_tester.get_config()).get_input_embeddings(), SwinPatchEmbeddings)

    def _recorded(self, name, **changes):
        for model_class in self.all_model_classes:
            config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
            config._attn_implementation = "eager"
            for key, value in changes.items():
                setattr(config, key, value)
            model = model_class(config).eval()
            with torch.no_grad():
                given = self._prepare_for_class(inputs, model_class)
                yield getattr(model(**given, **{f"output_{name}": True}), name)

    def test_attention_outputs(self):
        for attentions in self._recorded("attentions"):
            assert [a.shape[1:] for a in attentions] == [(heads, 4, 4) for heads in SHAPE["num_heads"]]

    def test_hidden_states_output(self):
        for states in self._recorded("hidden_states"):
            shapes = [(256, 16), (64, 32), (16, 64), (16, 64)]
            assert [tuple(state.shape[1:]) for state in states] == shapes


class StockTest(Common, unittest.TestCase):
    config_class = SwinConfig
    all_model_classes = (SwinForImageClassification, SwinForMaskedImageModeling)


class ClassifierTest(Common, unittest.TestCase):
    all_model_classes = (MammoSwinForImageClassification,)
    options = {"tasks": TASKS, "lesion_task": "pathology"}  # noqa: RUF012


class MaskedTest(Common, unittest.TestCase):
    all_model_classes = (MammoSwinForMaskedImageModeling,)


class PlainClassifierTest(Common, unittest.TestCase):
    all_model_classes = (MammoSwinForImageClassification,)


class DenseMaskedTest(Common, unittest.TestCase):
    all_model_classes = (MammoSwinForMaskedImageModeling,)
    options = {"sparse_encoder": False, "mim_decoder": "linear"}  # noqa: RUF012


class PositionsTest(Common, unittest.TestCase):
    all_model_classes = (MammoSwinForImageClassification, MammoSwinForMaskedImageModeling)
    options = {"use_absolute_embeddings": True}  # noqa: RUF012


class ProcessorTester:
    """What the mixin asks of an image processor: its options and images."""

    batch_size, num_channels, min_resolution, max_resolution = 7, 1, 60, 100
    image_processing_classes = {"pil": MammoImageProcessor}  # noqa: RUF012

    def __init__(self, parent):
        self.parent = parent

    def prepare_image_processor_dict(self):
        return {"size": {"height": 64, "width": 32}}

    def expected_output_image_shape(self, images):
        return 1, 64, 32

    def prepare_image_inputs(self, equal_resolution=False, numpify=False, torchify=False):
        draw = np.random.default_rng(0)
        shapes = [(80, 80)] * 7 if equal_resolution else [tuple(draw.integers(60, 100, 2)) for _ in range(7)]
        images = [draw.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
        if numpify:
            return images
        return [torch.from_numpy(image)[None] if torchify else Image.fromarray(image) for image in images]


class ProcessorTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = ProcessorTester
