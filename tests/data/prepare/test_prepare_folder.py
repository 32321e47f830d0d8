import json

import datasets
import fsspec
import numpy as np
import pytest

from mammo_hf import MammoImageProcessor
from mammo_hf.data.prepare.folder import (
    check_canvas,
    folder_of,
    for_training,
    is_prepared,
    open_prepared,
    prepared_processor,
    prepared_table,
)
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.errors import UsageError
from mammo_hf.processing.image_processing_mammo import FORMAT_VERSION


@pytest.fixture(scope="module")
def folders(collection, tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    for form in ("arrow", "parquet"):
        prepare_images(collection, MammoImageProcessor(size=(64, 32)), root / form, format=form, shard_size=5)
    return root


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_the_table_comes_back_without_paths(folders, collection, form):
    table = prepared_table(folders / form)
    assert table.tasks == collection.tasks
    assert {row["path"].rpartition("#")[0] for row in table} == {str(folders / form)}
    assert folder_of(table.where(split="train")) == str(folders / form)
    assert folder_of(collection) is None
    before = {row["image_id"]: row for row in collection}
    for row in table:
        given = before[row["image_id"]]
        assert row["findings"] == []
        assert {name: row[name] for name in given if name not in ("path", "findings")} == {
            name: value for name, value in given.items() if name not in ("path", "findings")
        }


def test_no_path_of_the_source_is_in_the_rows(folders, phantom_folder):
    for path in (folders / "arrow" / "data").iterdir():
        assert str(phantom_folder).encode() not in path.read_bytes()


def test_plain_datasets_reads_both_forms_alike(folders, monkeypatch, tmp_path):
    arrow = datasets.load_from_disk(str(folders / "arrow"))
    parquet = datasets.load_dataset(str(folders / "parquet"), split="images", cache_dir=str(tmp_path))
    assert arrow.features == parquet.features
    assert len(arrow) == len(parquet)
    for row, other in zip(arrow, parquet, strict=True):
        assert row == other
    assert MammoImageProcessor.from_pretrained(folders / "arrow").size == {"height": 64, "width": 32}


def test_training_sees_the_tables_rows_order_split_and_labels(folders, collection):
    table = collection.split(validation_fraction=0.3, seed=0)
    chosen = table.where(lambda row: row["view"] == "CC")
    tasks = [
        {"name": "density", "labels": ["d", "c", "b", "a"]},
        {"name": "weather", "labels": ["fair", "foul"]},
        {"name": "pathology", "labels": ["benign", "malignant"]},
    ]
    stored = open_prepared(folders / "arrow")
    rows = for_training(stored, chosen, tasks)
    assert rows["image_id"] == chosen.column("image_id")
    assert rows["split"] == chosen.column("split")
    assert "validation" in rows["split"]
    for row, given in zip(rows, chosen, strict=True):
        names = [None if index < 0 else task["labels"][index] for task, index in zip(tasks, row["labels"], strict=True)]
        assert names == [given["density"], None, given["pathology"]]
    pixels = {row["image_id"]: row["pixels"] for row in stored}
    assert all(row["pixels"] == pixels[row["image_id"]] for row in rows)
    assert any(row["lesions"] for row in rows)
    assert not any(row["lesions"] for row in for_training(stored, chosen, tasks, lesions=False))


def test_another_canvas_is_refused_and_other_numbers_are_not(folders):
    check_canvas(folders / "arrow", MammoImageProcessor(size=(64, 32), image_std=[0.5], mask_ratio=0.75))
    with pytest.raises(UsageError, match="was prepared with size"):
        check_canvas(folders / "arrow", MammoImageProcessor(size=(96, 32)))
    with pytest.raises(UsageError, match="orient"):
        check_canvas(folders / "arrow", MammoImageProcessor(size=(64, 32), orient=False))


def test_a_folder_of_an_earlier_version_is_refused_and_prepared_again(collection, tmp_path):
    processor = MammoImageProcessor(size=(64, 32))
    prepare_images(collection, processor, tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": FORMAT_VERSION - 1}))
    for use in (prepared_processor, lambda folder: check_canvas(folder, processor)):
        with pytest.raises(UsageError, match=rf"{tmp_path}.*another version.*prepare again"):
            use(tmp_path)
    prepare_images(collection, processor, tmp_path)
    check_canvas(tmp_path, processor)


def test_a_folder_that_is_not_finished(tmp_path):
    assert not is_prepared(tmp_path)
    assert not is_prepared(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="not a finished prepared folder"):
        prepared_processor(tmp_path)


def test_an_object_store_holds_the_same_bytes(collection, folders, content):
    memory = "memory://prepared/parquet"
    prepare_images(collection, MammoImageProcessor(size=(64, 32)), memory, format="parquet", shard_size=5)
    again = prepare_images(collection, MammoImageProcessor(size=(64, 32)), memory, format="parquet", shard_size=5)
    assert again.shards_written == 0
    store = fsspec.filesystem("memory")
    found = {name.removeprefix("/prepared/parquet/"): store.cat_file(name) for name in store.find("/prepared/parquet")}
    assert found == content(folders / "parquet")
    assert prepared_table(memory).column("image_id") == prepared_table(folders / "parquet").column("image_id")


def test_pixels_are_uint16_of_the_size_that_is_said(folders):
    for row in open_prepared(folders / "arrow"):
        assert np.frombuffer(row["pixels"], np.uint16).size == row["size"][0] * row["size"][1]
