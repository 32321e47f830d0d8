"""Encoders from every place: one grid of features, one record, and one sentence for what is none."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers as t
from families import FAMILIES, save_family

from mammo_hf.encoders import load_encoder, pooled
from mammo_hf.errors import MammoError
from mammo_hf.testing import tiny_classifier


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_a_grid_whose_cells_are_where_they_should_be(family, tmp_path):
    _, side, stride, channels = FAMILIES[family]
    encoder = load_encoder(save_family(family, tmp_path / family))
    assert (encoder.tile, encoder.multiple) == (side, stride)
    assert channels in (None, encoder.channels)
    rows, columns = max(2 * side // stride, 8), max(side // stride, 4)
    images = torch.full((2, 1, rows * stride, columns * stride), 0.4)
    images[1, :, -2 * stride : -stride, stride : 2 * stride] = 0.9
    with torch.no_grad():
        grids = encoder(images)
    assert grids.shape == (2, encoder.channels, rows, columns)
    # what changes most is the cell that was changed: rows, columns and the tokens before them are not mixed up
    change = (grids[1] - grids[0]).abs().sum(0)
    off = np.subtract(divmod(int(change.argmax()), columns), (rows - 2, 1))
    assert np.abs(off).max() <= (1 if stride == 32 else 0)  # convolutions of that stride see far around


def test_an_image_has_the_same_features_whatever_was_encoded_before(tmp_path):
    # a stock Swin of transformers remembers the windows of the smallest image that it has seen
    encoder = load_encoder(save_family("swin", tmp_path))
    large, small = torch.rand(1, 1, 112, 112), torch.rand(1, 1, 56, 112)
    with torch.no_grad():
        first = encoder(large)
        encoder(small)
        assert torch.equal(encoder(large), first)


def test_the_network_sees_what_its_own_processor_would_give_it(tmp_path):
    encoder = load_encoder(save_family("vit", tmp_path))
    stock = t.ViTModel.from_pretrained(tmp_path).eval()
    intensity = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.5, 0.4, 0.3])[:, None, None], torch.tensor([0.2, 0.25, 0.3])[:, None, None]
    with torch.no_grad():
        tokens = stock((intensity.expand(-1, 3, -1, -1) - mean) / std).last_hidden_state
        grid = encoder(intensity)
    torch.testing.assert_close(grid.flatten(2).transpose(1, 2), tokens[:, 1:])


def test_own_checkpoints_are_encoders_with_their_own_canvas_and_normalisation(trained, tmp_path):
    encoder = load_encoder(trained)
    facts = json.loads((trained / "preprocessor_config.json").read_text())
    assert encoder.record["kind"] == "checkpoint"
    assert encoder.canvas == (facts["size"]["height"], facts["size"]["width"])
    stock = t.AutoModel.from_pretrained(trained).eval()
    intensity = torch.rand(1, 1, *encoder.canvas, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = stock((intensity - facts["image_mean"][0]) / facts["image_std"][0]).last_hidden_state
        torch.testing.assert_close(encoder(intensity).flatten(2).transpose(1, 2), tokens)


def test_the_record_identifies_weights_and_terms(tmp_path):
    one = load_encoder(save_family("dinov2", tmp_path / "one")).record
    again = load_encoder(shutil.copytree(tmp_path / "one", tmp_path / "two")).record
    assert one["weights"] == again["weights"]
    assert len(one["weights"]) == 64
    assert (one["licence"], one["commercial"], one["channels"], one["tile"]) == ("apache-2.0", "yes", 16, 70)
    assert one["revision"] is None
    model = t.Dinov2Model.from_pretrained(tmp_path / "two")
    with torch.no_grad():
        model.layernorm.weight[0] += 1e-3
    model.save_pretrained(tmp_path / "two")
    assert load_encoder(tmp_path / "two").record["weights"] != one["weights"]


def test_a_pooler_that_the_checkpoint_lacks_changes_neither_features_nor_hash(tmp_path):
    save_family("vit", tmp_path / "with")
    t.ViTModel.from_pretrained(tmp_path / "with", add_pooling_layer=False).save_pretrained(tmp_path / "without")
    shutil.copy(tmp_path / "with" / "preprocessor_config.json", tmp_path / "without")
    records = [load_encoder(tmp_path / "without").record["weights"] for _ in range(2)]
    assert records[0] == records[1]


def test_from_the_hub_a_revision_is_resolved_to_its_commit(hub, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = save_family("convnext", tmp_path / "made")
    api = huggingface_hub.HfApi()
    api.create_repo("lab/convnext")
    first = api.upload_folder(repo_id="lab/convnext", folder_path=folder).oid
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    second = api.upload_folder(repo_id="lab/convnext", folder_path=folder).oid
    record = load_encoder("lab/convnext").record
    assert (record["name"], record["kind"], record["revision"]) == ("lab/convnext", "hub", second)
    assert record["commercial"] == "no"
    pinned = load_encoder(f"lab/convnext@{first}").record
    assert (pinned["revision"], pinned["licence"]) == (first, "apache-2.0")
    assert pinned["weights"] == record["weights"]
    with pytest.raises(MammoError, match="has no revision 'gone'"):
        load_encoder("lab/convnext@gone")
    with pytest.raises(MammoError, match=f"lab/convnext has no revision '{'0' * 40}'"):  # a commit that is gone
        load_encoder(f"lab/convnext@{'0' * 40}")


def test_pooled_is_the_mean_and_maximum_over_the_breast():
    grid = torch.arange(8.0).reshape(1, 2, 2, 2)  # channels 0..3 and 4..7
    inside = torch.zeros(1, 1, 8, 8)
    inside[:, :, :4, :4] = 1  # the first cell wholly
    inside[:, :, :4, 4:6] = 1  # the second by half
    torch.testing.assert_close(pooled(grid, inside), torch.tensor([[1 / 3, 4 + 1 / 3, 1, 5]]))
    torch.testing.assert_close(pooled(grid, torch.zeros(1, 1, 8, 8)), torch.tensor([[1.5, 5.5, 3, 7]]))


def text_model(folder):
    t.BertModel(
        t.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=30)
    ).save_pretrained(folder)


def video_model(folder):
    t.VideoMAEModel(
        t.VideoMAEConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).save_pretrained(folder)


def of_remote_code(folder):
    save_family("vit", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "somebodys", "auto_map": {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}}
    (folder / "config.json").write_text(json.dumps(config))


def unknown_type(folder):
    save_family("vit", folder)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "somebodys"}
    (folder / "config.json").write_text(json.dumps(config))


def without_normalisation(folder):
    save_family("vit", folder)
    (folder / "preprocessor_config.json").unlink()


def without_a_layer(folder):
    save_family("vit", folder)
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 3}
    (folder / "config.json").write_text(json.dumps(config))


def of_one_size(folder):
    t.LevitModel(
        t.LevitConfig(
            image_size=64, hidden_sizes=[16, 16, 16], key_dim=[8, 8, 8], depths=[1, 1, 1], num_attention_heads=[1, 1, 1]
        )
    ).save_pretrained(folder)
    facts = {"size": {"height": 64, "width": 64}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))


def empty(folder):
    folder.mkdir()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (text_model, "is a model of text, not of images"),
        (video_model, "is a model of video, not of images"),
        (of_remote_code, "wants to run code of its own repository"),
        (unknown_type, "is a model of type 'somebodys', which transformers does not know"),
        (without_normalisation, "has no preprocessor_config.json that says how images"),
        (without_a_layer, r"its weights lack .*layers?\.2\..*, which would be random"),
        (of_one_size, "does not take images of 64 x 128 pixels"),
        (empty, "there is no model here"),
    ],
)
def test_what_is_no_encoder_is_refused_in_one_sentence(make, problem, tmp_path):
    folder = tmp_path / "model"
    make(folder)
    with pytest.raises(MammoError, match=problem) as refused:
        load_encoder(folder)
    assert "\n" not in str(refused.value)


def test_a_network_without_a_grid_is_refused():
    from mammo_hf.encoders import Encoder
    from mammo_hf.errors import UsageError

    class Pooling(torch.nn.Module):
        def forward(self, pixels):
            return pixels.mean((2, 3))

    with pytest.raises(UsageError, match="gives no grid of features"):
        Encoder(Pooling(), mean=[0.5], std=[0.5], size=(64, 64), about={"name": "pooling"})


def test_sizes_and_files_are_refused(tmp_path):
    with pytest.raises(MammoError, match="is the name of a size, which has no weights"):
        load_encoder("tiny")
    (tmp_path / "swin.pth").write_bytes(b"")
    with pytest.raises(MammoError, match="is a file"):
        load_encoder(tmp_path / "swin.pth")


def test_sides_that_leave_a_part_of_a_cell_are_refused(tmp_path):
    encoder = load_encoder(save_family("vit", tmp_path))
    with pytest.raises(MammoError, match="multiples of 16, not 64 x 40"):
        encoder(torch.zeros(1, 1, 64, 40))


def test_gradients_pass_through(tmp_path):
    encoder = load_encoder(save_family("swin", tmp_path))
    pixels = torch.rand(1, 1, 56, 112, requires_grad=True)
    encoder(pixels).sum().backward()
    assert np.isfinite(pixels.grad.numpy()).all()
    assert pixels.grad.abs().sum() > 0


def test_tiny_classifier_saved_without_a_processor_is_refused(tmp_path):
    tiny_classifier().save_pretrained(tmp_path)
    with pytest.raises(MammoError, match=r"has no preprocessor_config\.json"):
        load_encoder(tmp_path)
