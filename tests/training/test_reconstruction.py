"""Panels and figures of reconstructions: what is pasted where, and that the picture reaches every tracker."""

import json
import sys
from types import ModuleType
from unittest.mock import MagicMock

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import TrainingArguments
from transformers.integrations import integration_utils

from mammo_hf import BlockwiseMasking, MammoImageProcessor, MammoSwinConfig, MammoSwinForMaskedImageModeling
from mammo_hf.data.torch_datasets import MaskedCollator, MaskedImages
from mammo_hf.processing.geometry import Geometry
from mammo_hf.training.mim import MimTrainer, ReconstructionPanel, reconstruct, reconstruction_quality

SIZE = (112, 56)
PROCESSOR = MammoImageProcessor(size=SIZE)
PADDED = 40  # columns that show the film; the others are padding


def network(**changes):
    torch.manual_seed(0)
    tiny = {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "image_size": SIZE, "drop_path_rate": 0.0}
    return MammoSwinForMaskedImageModeling(MammoSwinConfig(**tiny | changes))


def images(count=6):
    breast = np.zeros((28, 14), bool)
    breast[4:24, :8] = True
    geometry = Geometry((112, PADDED), (0, 0, 112, PADDED), "identity", (112, PADDED), (0, 0), SIZE)
    rows = []
    for index in range(count):
        pixels = np.random.default_rng(index).integers(20000, 40000, SIZE, dtype=np.uint16)
        pixels[:, PADDED:] = 0
        rows.append(
            {
                **{"image_id": str(index), "view": "CC", "size": list(SIZE), "pixels": pixels.tobytes()},
                **{"geometry": json.dumps(geometry.to_dict()), "breast": np.packbits(breast).tobytes()},
            }
        )
    return MaskedImages(datasets.Dataset.from_list(rows), PROCESSOR, masking=BlockwiseMasking(8, 0.5), fresh=False)


@pytest.mark.parametrize("changes", [{}, {"normalized_patch": 8}, {"sparse_encoder": False}])
def test_inputs_come_back_and_padding_stays_as_it_is(changes):
    shown = images()
    inputs, masks, rebuilt = reconstruct(network(**changes), shown, count=3)
    assert inputs.shape == masks.shape == rebuilt.shape == (3, *SIZE)
    first = np.frombuffer(shown.prepared[0]["pixels"], np.uint16).reshape(SIZE) / 65535
    np.testing.assert_allclose(inputs[0], first, atol=1e-5)
    assert masks.mean() == 0.5
    assert masks.dtype == bool
    np.testing.assert_array_equal(rebuilt[:, :, PADDED:], inputs[:, :, PADDED:])
    assert np.abs(rebuilt - inputs)[:, :, :PADDED].mean() > 0.01
    assert rebuilt.min() >= 0
    assert rebuilt.max() <= 1


def test_the_model_is_left_in_the_mode_that_it_had():
    model = network().train()
    reconstruct(model, images(), count=1)
    assert model.training


def test_quality_counts_hidden_pixels_inside_the_breast_alone():
    model, shown = network().eval(), images()
    figures = reconstruction_quality(model, shown, batch_size=2, limit=4)
    assert figures["images"] == 4
    by_hand = []
    for index in np.linspace(0, 5, 4).astype(int):
        example = shown[int(index)]
        with torch.no_grad():
            output = model(example["pixel_values"][None], bool_masked_pos=example["bool_masked_pos"][None])
        error = PROCESSOR.denormalize(output.reconstruction[0].numpy()) - PROCESSOR.denormalize(
            example["pixel_values"].numpy()
        )
        hidden = example["bool_masked_pos"].reshape(28, 14).numpy().repeat(4, 0).repeat(4, 1)
        counted = hidden.copy()
        counted[:16], counted[96:], counted[:, 32:] = False, False, False
        by_hand.append(-10 * np.log10((error[counted] ** 2).mean()))
    assert figures["psnr"] == pytest.approx(np.mean(by_hand), rel=1e-4)
    assert -1 < figures["ssim"] < 1


def trained(folder, **arguments):
    """Two steps with an evaluation after each, and the panel's folder."""
    model = network()
    args = TrainingArguments(
        str(folder / "trainer"),
        use_cpu=True,
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["bool_masked_pos"],
        prediction_loss_only=True,
        **arguments,
    )
    trainer = MimTrainer(
        model, args, train_dataset=images(), eval_dataset=images(2), data_collator=MaskedCollator(model.config)
    )
    trainer.add_callback(ReconstructionPanel(trainer, model, images(), folder / "panels"))
    trainer.train()
    trainer.evaluate()  # as stage 1 does when it has ended, with the trackers' runs closed
    return folder / "panels"


def test_each_evaluation_writes_a_panel_without_any_tracker(tmp_path):
    panels = trained(tmp_path, report_to="none")
    assert sorted(path.name for path in panels.iterdir()) == ["step-1.png", "step-2.png"]
    with Image.open(panels / "step-2.png") as picture:
        assert min(picture.size) > 200


@pytest.mark.slow
def test_the_panel_reaches_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    panels = trained(tmp_path, report_to="tensorboard")
    # Trainer's callback closes its file when training ends and begins another for what is logged after
    folder = next((tmp_path / "trainer" / "runs").rglob("events.*")).parent
    log = accumulator.EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    logged = log.Images("reconstruction")
    assert {image.step for image in logged} == {1, 2}
    with Image.open(panels / "step-1.png") as picture:
        assert (logged[0].width, logged[0].height) == picture.size
    assert log.Scalars("eval/loss")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_the_panel_reaches_trackers_through_their_own_callbacks(name, tmp_path, monkeypatch):
    tracker = MagicMock(__version__="0")
    tracker.context_vars.current_space_id.get.return_value = None
    errors = ModuleType("wandb.sdk.lib.config_util")
    errors.ConfigError = KeyError
    monkeypatch.setitem(sys.modules, name, tracker)
    monkeypatch.setitem(sys.modules, errors.__name__, errors)
    monkeypatch.setattr(integration_utils, f"is_{name}_available", lambda: True)
    panels = trained(tmp_path, report_to=name)
    logged = [call.args[0] for call in tracker.log.call_args_list]
    sent = [entry["train/global_step"] for entry in logged if "reconstruction" in entry]
    assert sent[:2] == [1, 2]
    assert tracker.Image.call_args_list[0].args == (str(panels / "step-1.png"),)
    assert any("eval/loss" in entry for entry in logged)  # the callback itself was there
