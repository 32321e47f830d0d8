import threading

import pytest
import torch

from mammo_hf.inference.reading import MOST_REPLICAS, SideBySide, replicas
from mammo_hf.testing import tiny_classifier

SIZES = ((112, 56), (56, 56), (224, 112))  # with the tiny window of 7 some clamp it and some do not


@torch.inference_mode()
def logits(model, pixels):
    return model(pixels).logits


def all_of(scoring, batches):
    with scoring.started():
        found = [one for batch in batches for one in scoring.put(batch)]
        return found + list(scoring.rest())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_batch_has_its_own_logits_in_order_whatever_sizes_run_beside_it(count):
    model = tiny_classifier().eval()
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(1, 1, *SIZES[i % 3], generator=generator) for i in range(24)]
    found = all_of(SideBySide(logits, replicas(model, count)), batches)
    assert len(found) == len(batches)
    for one, batch in zip(found, batches, strict=True):
        torch.testing.assert_close(one, logits(model, batch), rtol=1e-5, atol=1e-6)


def test_replicas_share_the_weights_and_nothing_else():
    model = tiny_classifier()
    first, second = replicas(model, 2)
    for one in (first, second):
        assert all(own is shared for own, shared in zip(one.parameters(), model.parameters(), strict=True))
    modules = [set(map(id, one.modules())) for one in (model, first, second)]
    assert len(set.union(*modules)) == sum(map(len, modules))


def test_a_slow_batch_does_not_change_the_order():
    second = threading.Event()

    def score(model, batch):
        if batch == 0:
            assert second.wait(60)  # only a batch beside it can end the wait
        elif batch == 1:
            second.set()
        return batch

    assert all_of(SideBySide(score, ["a", "b"]), range(6)) == list(range(6))


def test_no_two_batches_have_one_model_at_once():
    inside = {"a": threading.Lock(), "b": threading.Lock()}

    def score(model, batch):
        assert inside[model].acquire(blocking=False)
        threading.Event().wait(0.002)
        inside[model].release()
        return model

    assert set(all_of(SideBySide(score, ["a", "b"]), range(40))) == {"a", "b"}


def test_operations_have_one_thread_within_and_as_many_as_before_afterwards():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert all_of(SideBySide(lambda model, batch: torch.get_num_threads(), ["a", "b"]), range(4)) == [1] * 4
        assert torch.get_num_threads() == 3
        assert all_of(SideBySide(lambda model, batch: torch.get_num_threads(), ["a"]), range(2)) == [3, 3]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2])
def test_a_fault_comes_out_and_the_threads_end(count):
    def score(model, batch):
        if batch == 2:
            raise ValueError("that one")
        return batch

    running, threads = threading.active_count(), torch.get_num_threads()
    with pytest.raises(ValueError, match="that one"):
        all_of(SideBySide(score, list(range(count))), range(9))
    assert (threading.active_count(), torch.get_num_threads()) == (running, threads)


def test_many_cores_are_shared_by_few_replicas(monkeypatch):
    model = tiny_classifier()
    models = replicas(model, 3 * MOST_REPLICAS + 1)
    assert len(models) == MOST_REPLICAS
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3 * MOST_REPLICAS + 1)
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert all_of(SideBySide(lambda _, batch: batch, models), range(2 * MOST_REPLICAS)) == list(
        range(2 * MOST_REPLICAS)
    )
    assert set(asked[:-1]) == {3}
    assert asked[-1] == 3 * MOST_REPLICAS + 1  # as it was
