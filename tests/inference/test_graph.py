import pytest
import torch

from mammo_hf.inference.exported import ScoreLogits, export_program
from mammo_hf.testing import tiny_classifier


@pytest.mark.parametrize("score_from", ["pooled", "mean"])
def test_the_exported_program_gives_the_model_s_logits_for_any_batch(score_from):
    model = tiny_classifier(lesion_task="pathology").train()
    model.config.score_from = score_from
    attention = model.config._attn_implementation
    program = export_program(model).module()
    assert model.training
    assert model.config._attn_implementation == attention
    graph = ScoreLogits(model.eval())
    for count in (1, 2, 5):
        pixels = torch.randn(count, 1, 112, 56)
        with torch.no_grad():
            assert torch.allclose(program(pixels), graph(pixels), atol=1e-4)
