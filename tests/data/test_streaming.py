import json
from pathlib import Path

import pytest
import torch
from two_processes import END, launch

from mammo_hf import MammoImageProcessor, load
from mammo_hf.data.augmentation import Augmentation
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.data.torch_datasets import StreamedMaskedImages, StreamLoader
from mammo_hf.errors import UsageError
from mammo_hf.phantom.writing import write_phantom

ROOT = Path(__file__).resolve().parents[2]
PROCESSOR = MammoImageProcessor(size=(64, 32))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=12, seed=0, size=(224, 112), num_workers=1, progress=False)
    return load(root)


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared")
    prepare_images(table, PROCESSOR, out, format="parquet", shard_size=8)
    return out


class Named(StreamedMaskedImages):
    """Gives the images' names, to count them."""

    def __iter__(self):
        for row in self._stream:
            yield row["image_id"]


def names(folder, wanted, *, ranks, workers, epoch=0, batch_size=4):
    """The names in each rank's batches of one epoch."""
    seen = []
    for rank in range(ranks):
        stream = Named(folder, wanted, PROCESSOR, rank=rank, world_size=ranks, seed=3, shuffle_buffer=5)
        loader = StreamLoader(stream, batch_size=batch_size, num_workers=workers, collate_fn=list)
        loader.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader)
        seen.append(batches)
    return seen


def flat(batches):
    return [name for batch in batches for name in batch]


@pytest.mark.slow
def test_one_process_sees_each_wanted_image_once_in_a_new_order_each_epoch(folder, table):
    wanted = table.where(split="train").column("image_id")
    first, second = (flat(names(folder, wanted, ranks=1, workers=0, epoch=epoch)[0]) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == sorted(wanted)
    assert first != second
    assert flat(names(folder, wanted, ranks=1, workers=0, epoch=1)[0]) == second


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "workers"), [(2, 0), (2, 2), (4, 0)])
def test_no_image_twice_and_as_many_steps_on_every_rank(folder, table, ranks, workers):
    wanted = table.where(split="train").column("image_id")
    seen = names(folder, wanted, ranks=ranks, workers=workers)
    together = [name for batches in seen for name in flat(batches)]
    assert len(together) == len(set(together))
    assert set(together) <= set(wanted)
    assert len(together) > 0.6 * len(wanted)
    assert len({len(batches) for batches in seen}) == 1


@pytest.mark.slow
def test_an_example_depends_on_seed_epoch_and_image_alone(folder, table):
    wanted = table.where(split="train").column("image_id")[:6]

    def examples(epoch, buffer):
        stream = StreamedMaskedImages(
            folder, wanted, PROCESSOR, augmentation=Augmentation(), seed=1, shuffle_buffer=buffer
        )
        stream.epoch = epoch
        return {tuple(example["bool_masked_pos"].tolist()): example["pixel_values"] for example in stream}

    one, other, later = examples(0, 1), examples(0, 100), examples(1, 1)
    assert one.keys() == other.keys()
    assert len(one) == 6
    assert all(torch.equal(one[mask], other[mask]) for mask in one)
    assert len(one.keys() & later.keys()) < 6  # of 70 masks that eight blocks can have


def test_too_few_shards_and_the_wrong_format(folder, table, tmp_path):
    wanted = table.column("image_id")
    with pytest.raises(UsageError, match="for 50 processes"):
        StreamedMaskedImages(folder, wanted, PROCESSOR, rank=0, world_size=50)
    prepare_images(table.where(view="CC"), PROCESSOR, tmp_path, shard_size=8)
    with pytest.raises(UsageError, match="format arrow"):
        StreamedMaskedImages(tmp_path, wanted, PROCESSOR)


SPY = """
import json, os, sys
from accelerate import PartialState
from mammo_hf import MammoImageProcessor
from mammo_hf.data.prepare.folder import prepared_table
from mammo_hf.data.torch_datasets import StreamedMaskedImages, StreamLoader

class Named(StreamedMaskedImages):
    def __iter__(self):
        for row in self._stream:
            yield row["image_id"]

state = PartialState(cpu=True)
table = prepared_table(sys.argv[1])
stream = Named(sys.argv[1], table.column("image_id"), MammoImageProcessor(size=(64, 32)))
loader = StreamLoader(stream, batch_size=4, num_workers=1, collate_fn=list)
epochs = []
for epoch in range(2):
    loader.set_epoch(epoch)
    epochs.append([name for batch in loader for name in batch])
with open(f"{sys.argv[2]}/{state.process_index}.json", "w") as file:
    json.dump({"processes": state.num_processes, "epochs": epochs}, file)
"""


@pytest.mark.slow
def test_two_processes_see_no_image_twice_in_an_epoch(folder, table, tmp_path):
    (tmp_path / "spy.py").write_text(SPY + END)
    launch(tmp_path / "spy.py", folder, tmp_path)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [rank["processes"] for rank in ranks] == [2, 2]
    for epoch in (0, 1):
        seen = ranks[0]["epochs"][epoch] + ranks[1]["epochs"][epoch]
        assert len(seen) == len(set(seen)) > 0.6 * len(table)


@pytest.mark.slow
def test_two_processes_pre_train_on_a_stream(table, tmp_path):
    prepare_images(table, MammoImageProcessor(size=(112, 112)), tmp_path / "prepared", format="parquet", shard_size=8)
    arguments = ["--dataset", tmp_path / "prepared", "--streaming", "true", "--output_dir", tmp_path / "mim"]
    arguments += ["--model", "nano", "--use_cpu", "true", "--per_device_train_batch_size", "4", "--report_to", "none"]
    launch(ROOT / "scripts" / "run_mim.py", *arguments, "--num_train_epochs", "2", "--save_strategy", "epoch")
    figures = json.loads((tmp_path / "mim" / "metrics.json").read_text())["mim"]
    assert figures["processes"] == 2
    assert figures["train_images"] == len(table.where(split="train")) - figures["validation_images"]
    assert figures["validation_loss"] > 0
