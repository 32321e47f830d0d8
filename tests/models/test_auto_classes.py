"""Auto classes, backbones, tracing and export with our checkpoints, next to stock Swin's where it says more."""

import copy
import io
import json
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForMaskedImageModeling,
    AutoProcessor,
    SwinBackbone,
    SwinConfig,
    SwinForImageClassification,
    SwinForMaskedImageModeling,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from mammo_hf import (
    MammoImageProcessor,
    MammoSwinConfig,
    MammoSwinForImageClassification,
    MammoSwinForMaskedImageModeling,
)
from mammo_hf.errors import UsageError

SMALL = {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2]}
OURS = {**SMALL, "image_size": (112, 56)}
TASKS = {"pathology": ["benign", "malignant"], "density": ["a", "b", "c"]}
PIXELS = torch.randn(2, 1, 112, 56, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A classifier and a masked model, with the folders that they and the processor were saved in."""
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(0)
    models = {
        "classifier": MammoSwinForImageClassification(MammoSwinConfig(**OURS, tasks=TASKS, lesion_task="pathology")),
        "masked": MammoSwinForMaskedImageModeling(MammoSwinConfig(**OURS)),
    }
    for name, model in models.items():
        model.eval().save_pretrained(folder / name)
        MammoImageProcessor(size=OURS["image_size"]).save_pretrained(folder / name)
    return models, folder


@torch.no_grad()
def test_auto_classes_load_stock_models_that_give_our_numbers(saved):
    models, folder = saved
    stock = AutoModelForImageClassification.from_pretrained(folder / "classifier").eval()
    assert type(stock) is SwinForImageClassification
    assert torch.equal(stock(PIXELS).logits, models["classifier"](PIXELS).logits)
    for name, model in models.items():
        encoder = AutoModel.from_pretrained(folder / name).eval()
        assert torch.equal(encoder(PIXELS).last_hidden_state, model.swin(PIXELS).last_hidden_state)
    assert type(AutoModelForMaskedImageModeling.from_pretrained(folder / "masked")) is SwinForMaskedImageModeling


def test_auto_classes_make_our_models_of_our_configuration_and_stock_ones_of_a_stock_one():
    ours, stock = MammoSwinConfig(**OURS, tasks=TASKS), SwinConfig(**SMALL, image_size=56)
    assert type(AutoModelForImageClassification.from_config(ours)) is MammoSwinForImageClassification
    assert type(AutoModelForMaskedImageModeling.from_config(ours)) is MammoSwinForMaskedImageModeling
    assert type(AutoModelForImageClassification.from_config(stock)) is SwinForImageClassification
    assert type(AutoModelForMaskedImageModeling.from_config(stock)) is SwinForMaskedImageModeling


FIRST = [
    "import mammo_hf.models.modeling_mammo_swin",
    "import mammo_hf.encoders.bags",
    "import mammo_hf; from transformers import PreTrainedModel, SwinConfig",
    "import transformers.models.auto.modeling_auto, mammo_hf",
]


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRST)
def test_our_models_are_found_whatever_is_imported_first(first):
    script = f"""
        {first}
        from mammo_hf import MammoSwinConfig
        from mammo_hf.encoders.configuration_mammo_bag import MammoBagConfig
        from transformers import AutoModelForImageClassification
        assert {{MammoBagConfig, MammoSwinConfig}} <= set(AutoModelForImageClassification._model_mapping.keys())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


@torch.no_grad()
def test_a_checkpoint_is_a_backbone(saved):
    _, folder = saved
    backbone = SwinBackbone.from_pretrained(folder / "masked", out_indices=[1, 2]).eval()
    assert [tuple(maps.shape) for maps in backbone(PIXELS).feature_maps] == [(2, 8, 28, 14), (2, 16, 14, 7)]
    settings = {"backbone_config": backbone.config, "use_auxiliary_head": False, "hidden_size": 16}
    segmenter = UperNetForSemanticSegmentation(UperNetConfig(**settings, pool_scales=[1, 2]))
    assert segmenter(PIXELS).logits.shape[-2:] == (112, 56)


@torch.no_grad()
def test_hidden_states_and_attentions_can_be_asked_for_by_configuration(saved):
    _, folder = saved
    load = MammoSwinForImageClassification.from_pretrained
    assert len(load(folder / "classifier", output_hidden_states=True).eval()(PIXELS).hidden_states) == 3
    eager = load(folder / "classifier", attn_implementation="eager").eval()
    assert [one.shape[1] for one in eager(PIXELS, output_attentions=True).attentions] == [1, 2]


@pytest.mark.parametrize("options", [{}, {"use_fast": True}, {"use_fast": False}, {"backend": "pil"}, {"size": 224}])
def test_the_processor_is_ours_whatever_backend_is_asked_for(saved, options):
    _, folder = saved
    for auto in (AutoImageProcessor, AutoProcessor)[: 2 if not options else 1]:
        processor = auto.from_pretrained(folder / "classifier", **options)
        assert type(processor) is MammoImageProcessor
    height, width = (options["size"],) * 2 if "size" in options else OURS["image_size"]
    assert processor.size == {"height": height, "width": width}
    batch = processor(np.zeros((50, 40), np.uint8), return_tensors="pt", return_geometry=True)
    assert batch.to("cpu", torch.bfloat16)["pixel_values"].dtype == torch.bfloat16


@pytest.mark.parametrize("options", [{"size": {"shortest_edge": 224}}, {"do_resize": False}])
def test_a_setting_that_the_processor_lacks_is_refused_by_name(saved, options):
    name = "shortest_edge" if "size" in options else "do_resize"
    with pytest.raises(UsageError, match=name):
        AutoImageProcessor.from_pretrained(saved[1] / "classifier", **options)


def test_a_configuration_survives_copies_and_json(saved):
    config = saved[0]["classifier"].config
    assert MammoSwinConfig.from_pretrained(saved[1] / "classifier").to_dict() == config.to_dict()
    assert MammoSwinConfig(**json.loads(config.to_json_string(use_diff=True))).to_dict() == config.to_dict()
    assert copy.deepcopy(config).to_dict() == config.to_dict()


@torch.no_grad()
def test_stock_checkpoints_start_our_models(tmp_path):
    stock = SwinForImageClassification(SwinConfig(**SMALL, image_size=56, num_labels=10)).eval()
    stock.save_pretrained(tmp_path / "stock")
    image = torch.rand(1, 3, 56, 56)
    load = MammoSwinForImageClassification.from_pretrained
    assert torch.equal(load(tmp_path / "stock").eval()(image).logits, stock(image).logits)
    changes = {"num_channels": 1, "num_labels": 2, "ignore_mismatched_sizes": True}
    assert load(tmp_path / "stock", **changes)(image[:, :1]).logits.shape == (1, 2)
    masked = SwinForMaskedImageModeling(SwinConfig(**SMALL, image_size=56, encoder_stride=8)).eval()
    masked.save_pretrained(tmp_path / "masked")
    ours = MammoSwinForMaskedImageModeling.from_pretrained(tmp_path / "masked", mim_decoder="linear").eval()
    assert torch.equal(ours(image).reconstruction, masked(image).reconstruction)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", ["classifier", "masked"])
def test_a_model_is_traced_exported_and_pickled(saved, name):
    model, key = saved[0][name], "logits" if name == "classifier" else "reconstruction"
    other = torch.randn(5, 1, 112, 56)
    expected = model(other)[key]
    traced = torch.jit.trace(model, (PIXELS,), strict=False, check_trace=False)  # of another number of images
    torch.testing.assert_close(traced(other)[key], expected, rtol=1e-4, atol=1e-5)
    free = {"pixel_values": {0: torch.export.Dim.AUTO}}
    exported = torch.export.export(model, (), {"pixel_values": PIXELS}, dynamic_shapes=free, strict=False).module()
    torch.testing.assert_close(exported(pixel_values=other)[key], expected, rtol=1e-4, atol=1e-5)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(other)[key], expected)
    assert type(pickle.loads(pickle.dumps(model(other)))) is type(model(other))
    assert all(torch.is_tensor(value) for value in model(other, return_dict=False))
