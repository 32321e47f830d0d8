import torch
from transformers import TrainerState, TrainingArguments

from mammo_hf.training.callbacks import FILE, WeightAverage


def test_the_average_follows_the_weights_and_goes_through_a_checkpoint(tmp_path):
    network = torch.nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    average, weights = WeightAverage(network, decay=0.9), [network.weight.detach().clone()]
    args, state = TrainingArguments(str(tmp_path), use_cpu=True), TrainerState(is_world_process_zero=True)
    steps, decays = (1, 40, 200), (2 / 11, 41 / 50, 0.9)
    for step in steps:
        with torch.no_grad():
            network.weight.add_(1.0)
        weights.append(network.weight.detach().clone())
        state.global_step = step
        average.on_step_end(args, state, None)
    expected = weights[0]
    for weight, decay in zip(weights[1:], decays, strict=True):
        expected = decay * expected + (1 - decay) * weight
    assert set(average.average) == {"weight"}
    torch.testing.assert_close(average.average["weight"], expected)
    with average.applied():
        torch.testing.assert_close(network.weight.detach(), expected)
    assert torch.equal(network.weight, weights[-1])
    (tmp_path / "checkpoint-3").mkdir()
    average.save(tmp_path / "checkpoint-3")
    assert (tmp_path / "checkpoint-3" / FILE).is_file()
    again = WeightAverage(torch.nn.Linear(2, 2), decay=0.9)
    again.network.bias.requires_grad_(False)
    again.load(tmp_path / "checkpoint-3")
    again.apply()
    torch.testing.assert_close(again.network.weight.detach(), expected)
