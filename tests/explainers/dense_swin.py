"""Swin's blocks once more, by brute force: every pair of tokens, on the plane, no windows cut and none put back."""

import torch
from transformers import SwinConfig, SwinForImageClassification


def stock_classifier(image_size, depths=(2,), seed=0, num_labels=2):
    """A stock classifier of one stage (or more), on purpose without anything of ours."""
    torch.manual_seed(seed)
    config = SwinConfig(
        image_size=image_size,
        num_channels=1,
        embed_dim=8,
        depths=list(depths),
        num_heads=[2] * len(depths),
        drop_path_rate=0.0,
        num_labels=num_labels,
    )
    model = SwinForImageClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def dense_attention(model, pixels, stage=-1, block=-1):
    """(heads, tokens, padded tokens): what each token looks at in a block; and what that block works with."""
    layer = model.swin.encoder.layers[stage].blocks[block]
    caught = []
    handle = layer.register_forward_pre_hook(lambda module, inputs: caught.append(inputs))
    with torch.no_grad():
        model(pixels)
    handle.remove()
    (tokens, (rows, columns)), window, shift = caught[0][:2], layer.window_size, layer.shift_size
    padded = (-(-rows // window) * window, -(-columns // window) * window)
    normed = torch.zeros(*padded, tokens.shape[-1])
    normed[:rows, :columns] = layer.layernorm_before(tokens[0]).detach().view(rows, columns, -1)
    row, column = (place.flatten() for place in torch.meshgrid(*map(torch.arange, padded), indexing="ij"))
    # where each token lies after the roll; those that the roll carried round the edge may not look at the others
    row, column = (row - shift) % padded[0], (column - shift) % padded[1]
    region = 2 * (row >= padded[0] - shift).long() + (column >= padded[1] - shift).long()
    place = torch.stack([row // window, column // window, region * (shift > 0)], dim=1)
    together = (place[:, None] == place[None]).all(-1)
    offset = lambda where: (where[:, None] % window) - (where[None] % window) + window - 1  # noqa: E731
    attention = layer.attention
    bias = attention.relative_position_bias.relative_position_bias_table
    bias = bias[offset(row) * (2 * window - 1) + offset(column)].permute(2, 0, 1)
    split = lambda states: states.unflatten(-1, (attention.num_attention_heads, -1)).transpose(0, 1)  # noqa: E731
    flat = normed.flatten(0, 1)
    query, key, value = (split(part(flat)) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5 + bias
    weights = scores.masked_fill(~together, -torch.inf).softmax(-1)
    image = torch.zeros(padded, dtype=torch.bool)
    image[:rows, :columns] = True
    image = image.flatten()
    return weights[:, image].detach(), image, value.detach(), tokens[0].detach(), (rows, columns)


def dense_logits(model, weights, value, tokens):
    """The logits that follow from the last block's attention weights (heads, tokens, padded tokens)."""
    layer = model.swin.encoder.layers[-1].blocks[-1]
    mixed = (weights @ value).transpose(0, 1).flatten(1)
    tokens = tokens + layer.attention.o_proj(mixed)
    tokens = tokens + layer.mlp(layer.layernorm_after(tokens))
    return model.classifier(model.swin.layernorm(tokens).mean(0))


def dense_rollout(model, pixels):
    """(rows, columns): the first stage's relevance for the pooled tokens, as a product of whole matrices."""
    steps = []
    for stage, layers in enumerate(model.swin.encoder.layers):
        for block in range(len(layers.blocks)):
            weights, image, _, _, grid = dense_attention(model, pixels, stage, block)
            among_tokens = weights.mean(0)[:, image]
            among_tokens = among_tokens / among_tokens.sum(1, keepdim=True)
            steps.append((among_tokens + torch.eye(len(among_tokens))) / 2)
        if layers.downsample is not None:
            steps.append(_merging(*grid))
        if stage == 0:
            first = grid
    relevance = torch.full((len(steps[-1]),), 1 / len(steps[-1]))
    for step in reversed(steps):
        relevance = relevance @ step
    return relevance.view(first)


def _merging(rows, columns):
    """(merged tokens, tokens): what share of a merged token each token has."""
    merged = torch.zeros((rows + 1) // 2, (columns + 1) // 2, rows, columns)
    for row in range(rows):
        for column in range(columns):
            merged[row // 2, column // 2, row, column] = 1
    merged = merged.flatten(2).flatten(0, 1)
    return merged / merged.sum(1, keepdim=True)
