import pytest
import torch
from dense_swin import dense_attention, dense_logits, dense_rollout, stock_classifier
from torch.nn import functional

from mammo_hf.explainers import explain
from mammo_hf.explainers.attention import attention, attention_rollout, grad_cam_attention, legrad
from mammo_hf.testing import check_explainer, tiny_classifier


@pytest.mark.parametrize("name", ["attention", "attention_rollout", "grad_cam_attention", "legrad"])
def test_keeps_the_contract(name):
    check_explainer(name, depends_on_target=name in ("grad_cam_attention", "legrad"))


# (height, width), blocks, and what is in it: 4 pixels a token, windows of 7 tokens
CUTS = [
    ((112, 56), (1,)),  # rectangle
    ((112, 56), (2,)),  # rectangle, shifted
    ((56, 112), (2,)),  # lying, shifted
    ((64, 36), (1,)),  # 16 x 9 tokens: padded to 21 x 14
    ((64, 36), (2,)),  # padded and shifted
    ((36, 64), (2,)),
    ((56, 28), (2,)),  # one window wide: stock Swin takes the shift back
    ((112, 112), (2, 2)),  # the last of two stages
]


@pytest.mark.parametrize(("size", "depths"), CUTS)
def test_equals_brute_force_over_pairs_of_tokens(size, depths):
    model, pixels = stock_classifier(size, depths), torch.randn(2, 1, *size)
    found = attention.explain_map(model, pixels, [0, 0])
    for index in range(2):
        weights, image, _, _, grid = dense_attention(model, pixels[index : index + 1])
        expected = weights[:, :, image].sum(1) / 49
        torch.testing.assert_close(found[index], expected.unflatten(1, grid), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("stage", "block"), [(0, 0), (0, 1), (1, 0), (-1, -2)])
@pytest.mark.parametrize("size", [(112, 56), (72, 116)])
def test_any_stage_and_block_equals_brute_force(stage, block, size):
    # 72 x 116 pixels: 18 x 29 and 9 x 15 tokens, padded in both stages, and an odd side merged
    model, pixels = stock_classifier(size, (2, 2)), torch.randn(1, 1, *size)
    weights, image, _, _, grid = dense_attention(model, pixels, stage, block)
    found = attention.explain_map(model, pixels, [0], stage=stage, block=block)[0]
    torch.testing.assert_close(found, (weights[:, :, image].sum(1) / 49).unflatten(1, grid), rtol=1e-4, atol=1e-6)


def test_only_the_block_that_is_asked_runs_eagerly():
    model, ran = tiny_classifier(), {}
    for name, module in model.named_modules():
        if name.endswith("attention"):
            module.register_forward_hook(
                lambda module, inputs, output, name=name: ran.update({name: output[1] is not None})
            )
    attention.explain_map(model, torch.randn(1, 1, 112, 56), [0])
    assert [name for name, weights in ran.items() if weights] == ["swin.encoder.layers.1.blocks.1.attention"]
    assert model.swin.encoder.layers[1].blocks[1].attention.config is model.config


def test_windows_are_those_that_the_model_used():
    # one small image changes stock Swin's shift for good; put back by the configuration the map would be shifted
    model, pixels = stock_classifier((112, 112)), torch.randn(1, 1, 112, 112)
    block = model.swin.encoder.layers[-1].blocks[-1]
    assert block.shift_size == 3
    model(torch.randn(1, 1, 56, 28))
    assert block.shift_size == 0
    weights, image, _, _, grid = dense_attention(model, pixels)
    expected = (weights[:, :, image].sum(1) / 49).unflatten(1, grid)
    torch.testing.assert_close(attention.explain_map(model, pixels, [0])[0], expected, rtol=1e-4, atol=1e-6)


def test_is_not_a_norm_of_features():
    # with all keys alike every token of a window is looked at equally, however large its features are
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    last = model.swin.encoder.layers[-1].blocks[-1].attention
    with torch.no_grad():
        last.k_proj.weight.zero_()
        last.k_proj.bias.zero_()
        last.relative_position_bias.relative_position_bias_table.zero_()
        norm = model.swin(pixels).last_hidden_state.norm(dim=-1)
    assert norm.std() > 0.01
    torch.testing.assert_close(attention.explain_map(model, pixels, [0]), torch.full((1, 2, 14, 7), 1 / 49))
    assert explain(model, pixels, explainer="attention").flat == (True,)


def let_keys_see_brightness(model):
    """Blocks that leave tokens alone, and a last one in which each token's key says how bright its patch is."""
    first, last = model.swin.encoder.layers[-1].blocks
    embeddings = model.swin.embeddings
    with torch.no_grad():
        for part in (first.attention.o_proj, first.mlp.fc2, embeddings.patch_embeddings.projection):
            part.weight.zero_()
            part.bias.zero_()
        # a bright patch turns the token from (0, 1, 0, ...) towards (1, 0, 0, ...)
        embeddings.patch_embeddings.projection.weight[0] = 1.0
        embeddings.patch_embeddings.projection.bias[1] = 1.0
        for norm in (embeddings.norm, last.layernorm_before):
            norm.weight.fill_(1.0)
            norm.bias.zero_()
        last.attention.relative_position_bias.relative_position_bias_table.zero_()
        for part in (last.attention.q_proj, last.attention.k_proj):
            part.weight.zero_()
            part.bias.zero_()
        last.attention.q_proj.bias.fill_(1.0)
        last.attention.k_proj.weight[:, 0] = 1.0


@pytest.mark.parametrize("token", [(0, 0), (2, 13), (10, 4), (27, 1), (25, 12), (15, 7)])
def test_finds_the_one_token_that_the_keys_single_out(token):
    # (row, column) of 28 x 14 tokens in shifted windows: corners that the roll carries round the edge among them
    model, pixels = stock_classifier((112, 56)), torch.zeros(1, 1, 112, 56)
    let_keys_see_brightness(model)
    row, column = (4 * place for place in token)
    pixels[..., row : row + 4, column : column + 4] = 3.0
    explanation = explain(model, pixels, explainer="attention")
    assert explanation.map[0, row : row + 4, column : column + 4].max() == 1
    assert explanation.map[0].argmax() // 56 // 4 == token[0]
    assert explanation.map[0].argmax() % 56 // 4 == token[1]


@pytest.mark.parametrize(
    ("size", "depths"),
    [
        ((112, 56), (2, 2)),  # rectangle, shifted in the first stage
        ((112, 112), (1, 2, 1)),  # three stages, of 28, 14 and 7 tokens a side
        ((72, 116), (2, 1)),  # 18 x 29 and 9 x 15 tokens: padded in both stages, an odd side merged
        ((64, 36), (2,)),  # one stage, padded and shifted
    ],
)
def test_rollout_equals_the_product_of_whole_matrices(size, depths):
    model, pixels = stock_classifier(size, depths), torch.randn(2, 1, *size)
    found = attention_rollout.explain_map(model, pixels, [0, 0])
    for index in range(2):
        expected = dense_rollout(model, pixels[index : index + 1])
        torch.testing.assert_close(found[index], expected, rtol=1e-4, atol=1e-7)


def test_rollout_nothing_of_the_relevance_is_lost():
    found = attention_rollout.explain_map(stock_classifier((72, 116), (2, 2)), torch.randn(1, 1, 72, 116), [0])
    torch.testing.assert_close(found.sum(), torch.tensor(1.0))
    assert (found >= 0).all()


def test_rollout_can_end_at_a_later_stage():
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    late = attention_rollout.explain_map(model, pixels, [0], stage=-1)
    assert late.shape == (1, 14, 7)
    torch.testing.assert_close(late.sum(), torch.tensor(1.0))


@pytest.mark.parametrize(
    ("size", "depths"), [((112, 56), (2,)), ((64, 36), (2,)), ((36, 64), (1,)), ((112, 112), (2, 2))]
)
def test_grad_cam_attention_equals_brute_force_over_pairs_of_tokens(size, depths):
    model, pixels = stock_classifier(size, depths), torch.randn(1, 1, *size)
    weights, image, value, tokens, grid = dense_attention(model, pixels)
    weights.requires_grad_(True)
    logits = dense_logits(model, weights, value, tokens)
    torch.testing.assert_close(logits, model(pixels).logits[0], rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(logits[1] - logits[0], weights)
    expected = (gradient * weights).relu().detach()[:, :, image].sum(1) / 49
    found = grad_cam_attention.explain_map(model, pixels, [1])[0]
    torch.testing.assert_close(found, expected.unflatten(1, grid), rtol=1e-3, atol=1e-7)


def test_grad_cam_attention_a_head_that_is_not_heard_is_nothing():
    model, pixels = tiny_classifier(), torch.randn(1, 1, 112, 56)
    last = model.swin.encoder.layers[-1].blocks[-1].attention
    with torch.no_grad():
        last.o_proj.weight[:, :8] = 0  # what the first head says is not heard
    heads = grad_cam_attention.explain_map(model, pixels, [1])[0]
    assert not heads[0].any()
    assert heads[1].any()
    assert attention.explain_map(model, pixels, [1])[0, 0].any()


@pytest.mark.parametrize(("size", "depths"), [((112, 56), (1,)), ((64, 36), (1,)), ((112, 112), (2, 1))])
def test_legrad_of_the_last_block_equals_brute_force_over_pairs_of_tokens(size, depths):
    model, pixels = stock_classifier(size, depths), torch.randn(1, 1, *size)
    weights, image, value, tokens, grid = dense_attention(model, pixels)
    weights.requires_grad_(True)
    logits = dense_logits(model, weights, value, tokens)
    (gradient,) = torch.autograd.grad(logits[1] - logits[0], weights)
    # a pair in different windows has weight 0, whatever its gradient
    expected = (gradient.relu() * (weights > 0))[:, :, image].sum(1).mean(0) / 49
    found = legrad.explain_map(model, pixels, [1], stage=-1)[0]
    torch.testing.assert_close(found, expected.view(grid), rtol=1e-3, atol=1e-7)


def test_legrad_sums_over_blocks_and_stages_and_each_stage_counts_by_its_sum():
    model, pixels = stock_classifier((112, 56), (2, 2)), torch.randn(1, 1, 112, 56)
    model.set_attn_implementation("eager")
    weights = []
    for stage in model.swin.encoder.layers:
        for block in stage.blocks:
            block.attention.register_forward_hook(lambda module, inputs, output: weights.append(output[1]))
    logits = model(pixels).logits
    gradients = torch.autograd.grad(logits[0, 1] - logits[0, 0], weights)
    # without regard to places: the whole of each block
    whole = sum(float(gradient.relu().mean(1).sum()) / 49 for gradient in gradients)
    for stage in model.swin.encoder.layers:
        for block in stage.blocks:
            block.attention._forward_hooks.clear()
    found = legrad.explain_map(model, pixels, [1])
    assert found.shape == (1, 28, 14)
    assert float(found.sum()) == pytest.approx(whole, rel=1e-3)
    assert all("forward" not in block.__dict__ for stage in model.swin.encoder.layers for block in stage.blocks)
    late = legrad.explain_map(model, pixels, [1], stage=-1)
    spread = functional.interpolate(late[:, None], size=(28, 14), mode="bilinear")[:, 0] / 4
    assert (found - spread).min() > -1e-7


def test_legrad_a_head_that_is_not_heard_is_nothing():
    model = tiny_classifier()
    with torch.no_grad():
        for stage in model.swin.encoder.layers:
            for block in stage.blocks:
                block.attention.o_proj.weight.zero_()
    assert explain(model, torch.randn(1, 1, 112, 56), 1, "legrad").flat == (True,)
