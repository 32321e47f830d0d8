import csv
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from mammo_hf import MammoImageProcessor, load
from mammo_hf.data.prepare import running
from mammo_hf.data.prepare.folder import open_prepared
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.data.prepared_row import breast_of, intensity_of
from mammo_hf.errors import DataError, UsageError
from mammo_hf.files import Folder


def test_equals_the_processor_within_half_a_step(collection, small, tmp_path):
    summary = prepare_images(collection, small, tmp_path, shard_size=5)
    assert (summary.images, summary.rejected, summary.read) == (len(collection), 0, len(collection))
    rows = {row["image_id"]: row for row in collection}
    prepared = open_prepared(tmp_path)
    assert len(prepared) == len(rows) == len(set(prepared["image_id"]))
    for stored in prepared:
        intensity, geometry, breast = small.fit_breast(rows[stored["image_id"]]["path"])
        pixels = intensity_of(stored)
        assert np.abs(pixels - intensity).max() <= 0.5 / 65535 + 1e-7
        found = breast_of(stored)
        assert np.array_equal(found, breast.on_canvas(geometry, cell=4))
        assert 0.2 < found.mean() < 0.95


def test_a_second_run_touches_nothing(collection, small, tmp_path):
    prepare_images(collection, small, tmp_path, shard_size=5)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    summary = prepare_images(collection, small, tmp_path, shard_size=5, num_workers=2)
    assert (summary.read, summary.shards_written) == (0, 0)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_normalisation_and_masks_change_no_pixels(collection, small, tmp_path):
    prepare_images(collection, small, tmp_path, shard_size=5)
    other = MammoImageProcessor(size=(64, 32), image_mean=[0.5], mask_ratio=0.75, num_channels=3)
    assert prepare_images(collection, other, tmp_path, shard_size=5).shards_written == 0
    assert MammoImageProcessor.from_pretrained(tmp_path).image_mean == [0.5]


def test_one_changed_file_is_read_again_alone(own_folder, small, tmp_path):
    table = load(own_folder)
    prepare_images(table, small, tmp_path / "out", shard_size=5)
    os.utime(table[3]["path"])
    summary = prepare_images(table, small, tmp_path / "out", shard_size=5)
    assert (summary.read, summary.shards_written) == (1, 1)


def test_another_split_copies_what_is_there(collection, small, tmp_path):
    prepare_images(collection, small, tmp_path, shard_size=5)
    split = collection.split(validation_fraction=0.3, seed=1)
    summary = prepare_images(split, small, tmp_path, shard_size=5)
    assert summary.read == 0
    assert sorted(open_prepared(tmp_path)["split"]) == sorted(split.column("split"))


def test_an_image_more_touches_one_shard(collection, small, tmp_path, content):
    fewer = collection.where(lambda row: row["image_id"] != collection[7]["image_id"])
    prepare_images(fewer, small, tmp_path / "grown", shard_size=8)
    summary = prepare_images(collection, small, tmp_path / "grown", shard_size=8)
    assert (summary.read, summary.shards_written) == (1, 1)
    prepare_images(collection, small, tmp_path / "new", shard_size=8)
    assert content(tmp_path / "grown") == content(tmp_path / "new")


def test_the_format_may_change_later(collection, small, tmp_path, content):
    prepare_images(collection, small, tmp_path / "changed", format="arrow", shard_size=5)
    prepare_images(collection, small, tmp_path / "changed", format="parquet", shard_size=5)
    assert {path.suffix for path in (tmp_path / "changed" / "data").iterdir()} == {".parquet"}
    prepare_images(collection, small, tmp_path / "new", format="parquet", shard_size=5)
    assert content(tmp_path / "changed") == content(tmp_path / "new")


def test_a_broken_file_is_rejected_until_it_is_mended(own_folder, small, tmp_path):
    table, out = load(own_folder), tmp_path / "out"
    broken = table[0]["path"]
    shutil.copy2(broken, tmp_path / "whole")
    os.truncate(broken, 2000)
    assert prepare_images(table, small, out).images == len(table) - 1
    with (out / "rejected.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == [broken]
    assert rows[0]["reason"]
    assert prepare_images(table, small, out).shards_written == 0
    shutil.copy2(tmp_path / "whole", broken)
    summary = prepare_images(table, small, out)
    assert (summary.images, summary.read) == (len(table), 1)
    assert len((out / "rejected.csv").read_text().splitlines()) == 1


def test_a_broken_mask_is_named_and_keeps_its_film(own_folder, small, tmp_path):
    table, out = load(own_folder), tmp_path / "out"
    mask = next(row["findings"][0]["mask_path"] for row in table if row["findings"])
    whole = Path(mask).read_bytes()
    os.truncate(mask, 2000)
    assert prepare_images(table, small, out).images == len(table)
    assert mask in (out / "rejected.csv").read_text()
    assert prepare_images(table, small, out).shards_written == 0
    places = sum(lesions is not None for lesions in open_prepared(out)["lesions"])
    Path(mask).write_bytes(whole)
    assert prepare_images(table, small, out).rejected == 0
    assert sum(lesions is not None for lesions in open_prepared(out)["lesions"]) == places + 1


def test_what_a_new_codec_can_read_is_rejected_no_longer(collection, small, tmp_path, monkeypatch):
    def no_codec(self, image):
        raise DataError("needs a decoder that is not installed", source=image)

    with monkeypatch.context() as patch:
        fit = MammoImageProcessor.fit_breast
        missing = collection[2]["path"]
        patch.setattr(
            MammoImageProcessor, "fit_breast", lambda self, of: (no_codec if of.name == missing else fit)(self, of)
        )
        assert prepare_images(collection, small, tmp_path).rejected == 1
    assert prepare_images(collection, small, tmp_path).rejected == 0


def test_too_many_missing_files_stop_the_run(own_folder, small, tmp_path):
    table = load(own_folder)
    for row in table.dataset.select(range(4)):
        os.remove(row["path"])
    with pytest.raises(DataError, match=r"could not be read, more than 10%"):
        prepare_images(table, small, tmp_path / "out", shard_size=100, max_rejected_fraction=0.1)
    with pytest.raises(UsageError, match="not a finished prepared folder"):
        open_prepared(tmp_path / "out")
    assert prepare_images(table, small, tmp_path / "out", shard_size=100).rejected == 4


def test_nothing_readable_is_an_error(own_folder, small, tmp_path):
    table = load(own_folder)
    for row in table:
        open(row["path"], "w").close()
    with pytest.raises(DataError, match="none of 16 images"):
        prepare_images(table, small, tmp_path / "out", max_rejected_fraction=1.0)


def test_an_empty_table_is_an_error(collection, small, tmp_path):
    with pytest.raises(DataError, match="no image to prepare"):
        prepare_images(collection.where(view="none"), small, tmp_path)


def test_a_folder_that_cannot_be_made(collection, small, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        prepare_images(collection, small, tmp_path / "file")


def test_a_disk_too_small_is_said_at_once(collection, small, tmp_path, monkeypatch):
    monkeypatch.setattr(running.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UsageError, match=r" are needed and [\d.]+ .B are free"):
        prepare_images(collection, small, tmp_path)
    assert not (tmp_path / "data").exists()


def test_an_unknown_format_or_task(collection, small, tmp_path):
    with pytest.raises(UsageError, match="arrow, parquet"):
        prepare_images(collection, small, tmp_path, format="png")
    with pytest.raises(UsageError, match="weather"):
        prepare_images(collection, small, tmp_path, lesion_task="weather")


class Killed(BaseException):
    pass


class Dying(Folder):
    """A folder whose process dies before one of the steps that change it."""

    def __init__(self, url, steps):
        super().__init__(url)
        self.steps = steps

    def _step(self):
        if self.steps == 0:
            raise Killed
        self.steps -= 1

    def remove(self, name):
        self._step()
        super().remove(name)

    @contextmanager
    def whole_file(self, name):
        self._step()
        with super().whole_file(name) as part:
            yield part
            self._step()
        self._step()


@pytest.fixture
def without_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # power does not fail here; waiting for it takes seconds


@pytest.mark.usefixtures("without_fsync")
@pytest.mark.parametrize("goes_on_with", ["the same processor", pytest.param("the one before", marks=pytest.mark.slow)])
def test_a_death_at_any_step_loses_and_doubles_nothing(collection, small, tmp_path, monkeypatch, content, goes_on_with):
    table, out, sizes = collection.where(view="CC", laterality="L"), tmp_path / "out", {(64, 32), (32, 16)}
    other = MammoImageProcessor(size=(32, 16))
    # back to the first processor: a record that was left behind must not speak for the other's rows
    next_one = other if goes_on_with == "the same processor" else small
    prepare_images(table, next_one, tmp_path / "whole", shard_size=2)
    expected = content(tmp_path / "whole")
    steps, died = 0, True
    while died:
        prepare_images(table, small, out, shard_size=2)
        with monkeypatch.context() as patch:
            patch.setattr(running, "Folder", lambda url, steps=steps: Dying(url, steps))
            try:
                prepare_images(table, other, out, shard_size=2)
                died = False
            except Killed:
                pass
        if (out / "prepared.json").exists():  # what counts as finished is never a mixture
            assert len({tuple(size) for size in open_prepared(out)["size"]} & sizes) == 1
        prepare_images(table, next_one, out, shard_size=2)
        assert content(out) == expected, f"died at step {steps}"
        steps += 1
    assert steps > 15


def test_a_killed_run_leaves_parts_that_the_next_one_sweeps(collection, small, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".part-of-a-dead-run").write_bytes(b"half")
    prepare_images(collection, small, tmp_path)
    assert not list(tmp_path.rglob(".part*"))
