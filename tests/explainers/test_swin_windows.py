import pytest
import torch
from transformers.models.swin.modeling_swin import window_partition

from mammo_hf.configuration_mammo_swin import MammoSwinConfig
from mammo_hf.explainers.swin_windows import Windows, windows_of_last_block
from mammo_hf.testing import tiny_classifier


@pytest.mark.parametrize(("rows", "columns", "shift"), [(14, 7, 0), (14, 14, 3), (21, 14, 3), (16, 9, 3), (9, 16, 0)])
def test_undoes_padding_shift_and_partition(rows, columns, shift):
    plane = torch.arange(2 * rows * columns, dtype=torch.float32).view(2, rows, columns)
    windows = Windows((rows, columns), 7, shift)
    padded = torch.nn.functional.pad(plane, (0, windows.padded[1] - columns, 0, windows.padded[0] - rows))
    shifted = torch.roll(padded, (-shift, -shift), dims=(1, 2))
    cut = window_partition(shifted[..., None], 7).view(-1, 49)
    assert torch.equal(windows.to_plane(cut), plane)
    heads = torch.stack([cut, -cut], dim=1)
    assert torch.equal(windows.to_plane(heads), torch.stack([plane, -plane], dim=1))


def test_equals_dense_attention_over_pairs_of_tokens():
    # the shifted block of stage 1: 28 x 14 tokens in windows of 7, compared with brute force on the image plane
    model = tiny_classifier()
    model.set_attn_implementation("eager")
    pixels = torch.randn(1, 1, 112, 56)
    block = model.swin.encoder.layers[0].blocks[1]
    caught = []
    handle = block.layernorm_before.register_forward_hook(lambda module, inputs, output: caught.append(output))
    weights = model(pixels, output_attentions=True).attentions[0]
    handle.remove()
    tokens = caught[0][0]
    query, key = block.attention.q_proj(tokens), block.attention.k_proj(tokens)
    bias = block.attention.relative_position_bias.relative_position_bias_table[:, 0]
    received = torch.zeros(28, 14)
    shifted = [((r - 3) % 28, (c - 3) % 14) for r in range(28) for c in range(14)]
    for q, (qr, qc) in enumerate(shifted):
        allowed = []
        for k, (kr, kc) in enumerate(shifted):
            same_window = qr // 7 == kr // 7 and qc // 7 == kc // 7
            wrapped = (qr >= 25) == (kr >= 25) and (qc >= 11) == (kc >= 11)
            if same_window and wrapped:
                allowed.append((k, bias[(qr - kr + 6) * 13 + (qc - kc + 6)]))
        places = torch.tensor([k for k, _ in allowed])
        scores = query[q] @ key[places].T / query.shape[1] ** 0.5 + torch.stack([b for _, b in allowed])
        received.view(-1)[places] += scores.softmax(-1).detach() / 49
    windows = windows_of_last_block(model.config, 112, 56, stage=0)
    assert windows.shift == 3
    torch.testing.assert_close(windows.to_plane(weights.mean(2))[0, 0], received, rtol=1e-4, atol=1e-5)


def test_no_shift_where_the_grid_is_one_window_wide():
    config = MammoSwinConfig(embed_dim=8, depths=[2, 2], num_heads=[1, 2], image_size=(112, 56))
    assert windows_of_last_block(config, 112, 56) == Windows((14, 7), 7, 0)
    assert windows_of_last_block(config, 112, 112) == Windows((14, 14), 7, 3)
