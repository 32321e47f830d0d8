import pytest
import torch

from mammo_hf import MammoSwinConfig, MammoSwinForMaskedImageModeling
from mammo_hf.training.trainer import layer_depth, parameter_groups

DEPTHS = [2, 1]


def test_depth_counts_blocks_from_the_pixels_up():
    names = {
        "swin.embeddings.patch_embeddings.projection.weight": 0,
        "swin.encoder.layers.0.blocks.0.mlp.fc1.weight": 1,
        "swin.encoder.layers.0.blocks.1.mlp.fc1.weight": 2,
        "swin.encoder.layers.0.downsample.reduction.weight": 2,
        "swin.encoder.layers.1.blocks.0.attention.q_proj.bias": 3,
        "swin.layernorm.weight": 4,
        "decoder.blocks.0.0.weight": 4,
        "deep_mask_token": 4,
    }
    assert {name: layer_depth(name, DEPTHS) for name in names} == names


def test_groups_hold_each_trained_parameter_once_with_its_rate():
    config = MammoSwinConfig(embed_dim=8, depths=DEPTHS, num_heads=[1, 2], image_size=(112, 56))
    model = MammoSwinForMaskedImageModeling(config)
    groups = parameter_groups(model, DEPTHS, learning_rate=1.0, weight_decay=0.05, layer_decay=0.5)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters() if parameter.requires_grad)
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    block = model.swin.encoder.layers[0].blocks[0]
    assert rate[id(block.mlp.fc1.weight)] == pytest.approx(0.5**3)
    assert rate[id(model.swin.embeddings.norm.weight)] == pytest.approx(0.5**4)
    assert rate[id(model.deep_mask_token)] == 1.0
    assert decay[id(block.mlp.fc1.weight)] == 0.05
    table = block.attention.relative_position_bias.relative_position_bias_table
    for spared in (block.mlp.fc1.bias, block.layernorm_before.weight, table, model.deep_mask_token):
        assert decay[id(spared)] == 0.0
    torch.optim.AdamW(groups)
