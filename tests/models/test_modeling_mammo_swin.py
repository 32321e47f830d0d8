import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    SwinForMaskedImageModeling,
)

from mammo_hf.errors import UsageError
from mammo_hf.models.configuration_mammo_swin import MammoSwinConfig
from mammo_hf.models.losses import lesion_evidence_loss, lesion_token_loss
from mammo_hf.models.modeling_mammo_swin import (
    ConvDecoder,
    MammoSwinForImageClassification,
    MammoSwinForMaskedImageModeling,
)

TASKS = [{"name": "pathology", "labels": ["malignant", "benign"]}, {"name": "density", "labels": ["d", "a", "c"]}]
SMALL = {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "image_size": (112, 56), "drop_path_rate": 0.0}


def config(**changes):
    return MammoSwinConfig(**{**SMALL, "tasks": TASKS, "lesion_task": "pathology", **changes})


def masked(batch=2, grid=(28, 14), seed=0):
    return torch.rand(batch, grid[0] * grid[1], generator=torch.Generator().manual_seed(seed)) < 0.5


def test_masked_loss_is_the_mean_over_hidden_pixels_alone():
    model = MammoSwinForMaskedImageModeling(config(num_channels=3)).eval()
    pixels, mask = torch.randn(2, 3, 112, 56), masked()
    output = model(pixels, bool_masked_pos=mask)
    total, count = 0.0, 0
    for image in range(2):
        for row in range(112):
            for column in range(56):
                if mask[image, (row // 4) * 14 + column // 4]:
                    total += (output.reconstruction - pixels)[image, :, row, column].abs().sum().item()
                    count += 3
    assert output.loss.item() == pytest.approx(total / count, rel=1e-4)
    assert output.reconstruction.shape == pixels.shape


def test_visible_pixels_are_not_in_the_loss_and_hidden_ones_not_in_the_input():
    model = MammoSwinForMaskedImageModeling(config()).eval()
    pixels, mask = torch.randn(2, 1, 112, 56), masked()
    hidden = mask.view(2, 1, 28, 14).repeat_interleave(4, 2).repeat_interleave(4, 3)
    changed = torch.where(hidden, pixels + 7, pixels)
    torch.testing.assert_close(
        model(pixels, bool_masked_pos=mask).reconstruction, model(changed, bool_masked_pos=mask).reconstruction
    )


def test_hidden_patches_are_a_token_of_their_own_and_not_the_backgrounds_value():
    model = MammoSwinForMaskedImageModeling(config()).eval()
    pixels, mask = torch.zeros(1, 1, 112, 56), masked(batch=1)
    before = model(pixels, bool_masked_pos=mask).reconstruction
    with torch.no_grad():
        model.deep_mask_token.fill_(2.0)
    after = model(pixels, bool_masked_pos=mask).reconstruction
    assert not torch.allclose(before, after)
    assert not torch.allclose(model(pixels).reconstruction, after)  # black that is shown is not hidden


def test_equals_stock_encoder_on_a_square():
    square = config(image_size=(56, 56))
    ours = MammoSwinForMaskedImageModeling(square).eval()
    stock_config = SwinConfig(**{**SMALL, "image_size": 56, "num_channels": 1, "encoder_stride": 8})
    stock = SwinForMaskedImageModeling(stock_config).eval()
    stock.swin.load_state_dict(ours.swin.state_dict())
    pixels, mask = torch.randn(2, 1, 56, 56), masked(grid=(14, 14))
    torch.testing.assert_close(
        ours.swin(pixels, bool_masked_pos=mask).last_hidden_state,
        stock.swin(pixels, bool_masked_pos=mask).last_hidden_state,
    )


def test_a_smaller_size_in_between_changes_nothing():
    model = MammoSwinForImageClassification(config(image_size=(112, 112))).eval()
    large, small = torch.randn(1, 1, 112, 112), torch.randn(1, 1, 56, 56)
    before = model(large).logits
    model(small)
    torch.testing.assert_close(model(large).logits, before, rtol=0, atol=0)
    with pytest.raises(UsageError):
        model(torch.randn(1, 1, 40, 40))
    torch.testing.assert_close(model(large).logits, before, rtol=0, atol=0)


def test_stock_keeps_the_clamped_windows():
    # the fault that our SwinLayer fixes: if this stops failing upstream, the class can go
    stock = SwinForImageClassification(SwinConfig(**{**SMALL, "image_size": (112, 112), "num_channels": 1})).eval()
    nn.init.normal_(
        stock.swin.encoder.layers[1].blocks[1].attention.relative_position_bias.relative_position_bias_table
    )
    stock(torch.randn(1, 1, 56, 56))
    assert stock.swin.encoder.layers[1].blocks[1].shift_size == 0


@pytest.mark.parametrize(
    ("hidden", "stride", "widths"), [(1024, 32, [512, 256, 128, 64]), (128, 16, [64, 32, 16]), (64, 12, [32, 16])]
)
def test_decoder_widths_and_size(hidden, stride, widths):
    decoder = ConvDecoder(hidden, 1, stride)
    assert [block[0].out_channels for block in decoder.blocks] == widths
    with torch.no_grad():
        assert decoder(torch.randn(1, hidden, 2, 1)).shape == (1, 1, 2 * stride, stride)


def test_a_new_decoder_gives_nothing_that_alternates_from_pixel_to_pixel():
    # through the model, whose own initialisation comes after the decoder's
    config = MammoSwinConfig(embed_dim=8, depths=[2, 2], num_heads=[1, 2], image_size=(112, 56), mim_decoder="conv")
    decoder = MammoSwinForMaskedImageModeling(config).decoder
    rows, columns = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
    with torch.no_grad():
        for alternates in ((rows + columns) % 2, rows % 2, columns % 2):
            image = alternates.float()[None, None]
            assert torch.allclose(decoder.smoothing(image)[..., 1:-1, 1:-1], torch.tensor(0.5))
        assert torch.allclose(decoder.smoothing(torch.ones(1, 1, 9, 9)), torch.tensor(1.0))


def test_decoder_of_swin_b_is_light():
    decoder = ConvDecoder(1024, 1, 32)
    macs: list[int] = []

    def count(module, inputs, output):
        # a transposed convolution applies its weights at each input place, another at each output place
        places = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        macs.append(places[0, 0].numel() * module.weight.numel())

    for module in decoder.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.register_forward_hook(count)
    with torch.no_grad():
        decoder(torch.randn(1, 1024, 7, 7))
    assert 0 < sum(macs) < 0.1 * 15.4e9  # a tenth of Swin-B's encoder at 224 x 224 (Liu et al. 2021, table 1)


def test_no_known_label_gives_an_exact_zero_with_a_gradient():
    model = MammoSwinForImageClassification(config())
    output = model(
        torch.randn(2, 1, 112, 56), labels=torch.full((2, 2), -100), lesion_targets=torch.full((2, 14, 7), -100)
    )
    output.loss.backward()
    assert output.loss.item() == 0.0
    assert model.classifier.weight.grad is not None
    assert not model.classifier.weight.grad.any()


def test_labels_of_one_task_may_be_one_dimensional():
    model = MammoSwinForImageClassification(config(tasks=TASKS[:1], lesion_task=None)).eval()
    pixels = torch.randn(2, 1, 112, 56)
    one = model(pixels, labels=torch.tensor([0, 1])).loss
    torch.testing.assert_close(one, model(pixels, labels=torch.tensor([[0], [1]])).loss)


def test_lesion_head_learns_where_and_gets_its_weight_from_the_config():
    pixels, labels = torch.randn(2, 1, 112, 56), torch.tensor([[0, 1], [1, 2]])
    places = torch.zeros(2, 14, 7, dtype=torch.long)
    places[0, 2, 2] = 1
    model = MammoSwinForImageClassification(config(lesion_loss_weight=2.0)).eval()
    full = model(pixels, labels=labels, lesion_targets=places)
    image_only = model(pixels, labels=labels)
    token = lesion_token_loss(full.lesion_logits, places, 0.05)
    evidence = lesion_evidence_loss(model.classifier(model.swin(pixels).last_hidden_state)[..., :2], places.flatten(1))
    torch.testing.assert_close(full.loss, image_only.loss + 2 * (token + evidence))


def test_probabilities_are_a_softmax_a_task():
    model = MammoSwinForImageClassification(config())
    probabilities = model.probabilities(torch.randn(3, 5))
    assert {name: value.shape for name, value in probabilities.items()} == {"pathology": (3, 2), "density": (3, 3)}
    for value in probabilities.values():
        torch.testing.assert_close(value.sum(-1), torch.ones(3))


def test_encoder_moves_from_masked_modelling_to_classifier_exactly(tmp_path):
    mim = MammoSwinForMaskedImageModeling(config())
    mim.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    classifier, info = MammoSwinForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert all(key.startswith(("classifier.", "lesion_head.")) for key in info["missing_keys"])
    assert not info["unexpected_keys"]  # what only stage 1 has is not worth a warning
    for name, value in classifier.swin.state_dict().items():
        assert torch.equal(value, mim.swin.state_dict()[name]), name
    stock = AutoModel.from_pretrained(tmp_path).eval()
    pixels = torch.randn(1, 1, 112, 56)
    torch.testing.assert_close(
        stock(pixels).last_hidden_state, mim.eval().swin(pixels).last_hidden_state, rtol=1e-5, atol=1e-6
    )


def test_plain_transformers_gives_the_same_logits(tmp_path):
    model = MammoSwinForImageClassification(config()).eval()
    model.save_pretrained(tmp_path)
    pixels = torch.randn(2, 1, 112, 56)
    torch.save({"pixels": pixels, "logits": model(pixels).logits}, tmp_path / "expected.pt")
    code = f"""
import sys
sys.modules["mammo_hf"] = None  # cannot be imported
import torch
from transformers import AutoModelForImageClassification
expected = torch.load({str(tmp_path / "expected.pt")!r})
model = AutoModelForImageClassification.from_pretrained({str(tmp_path)!r}).eval()
assert type(model).__name__ == "SwinForImageClassification"
torch.testing.assert_close(model(expected["pixels"]).logits, expected["logits"], rtol=1e-5, atol=1e-6)
assert model.config.id2label[0] == "pathology:malignant", model.config.id2label
print("same")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "same", done.stderr


def test_each_label_keeps_its_score_after_save_and_load(tmp_path):
    model = MammoSwinForImageClassification(config()).eval()
    pixels = torch.randn(2, 1, 112, 56)
    named = dict(zip(model.config.id2label.values(), model(pixels).logits.unbind(1), strict=True))
    model.save_pretrained(tmp_path)
    again = MammoSwinForImageClassification.from_pretrained(tmp_path).eval()
    for index, name in again.config.id2label.items():
        torch.testing.assert_close(again(pixels).logits[:, index], named[name])


def test_importing_us_leaves_stock_swin_alone(tmp_path):
    stock = SwinForImageClassification(SwinConfig(**{**SMALL, "image_size": 56})).eval()
    stock.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    assert type(again) is SwinForImageClassification
    pixels = torch.randn(1, 3, 56, 56)
    torch.testing.assert_close(again(pixels).logits, stock(pixels).logits)


def test_without_tasks_it_is_stock():
    ours = MammoSwinForImageClassification(config(tasks=None, lesion_task=None)).eval()
    stock = SwinForImageClassification(ours.config).eval()
    stock.load_state_dict(ours.state_dict())
    pixels, labels = torch.randn(2, 1, 112, 56), torch.tensor([0, 1])
    torch.testing.assert_close(ours(pixels, labels=labels).loss, stock(pixels, labels=labels).loss)


def test_bf16_autocast_and_gradient_checkpointing_train():
    model = MammoSwinForImageClassification(config()).train()
    model.gradient_checkpointing_enable()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(torch.randn(2, 1, 112, 56), labels=torch.tensor([[0, 1], [1, 2]]))
    output.loss.backward()
    assert math.isfinite(output.loss.item())
    assert model.swin.embeddings.patch_embeddings.projection.weight.grad.abs().sum() > 0
