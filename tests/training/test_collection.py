import pytest

from mammo_hf import Collection, MammoImageProcessor, load
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.data.splits import save_subset
from mammo_hf.data.training_data import (
    check_labels,
    labelled_patients,
    open_collection,
    prepared_images,
    streamed_images,
    training_processor,
    usable_tasks,
)
from mammo_hf.errors import DataError, UsageError
from mammo_hf.phantom.writing import write_phantom

PROCESSOR = MammoImageProcessor(size=(64, 32))


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=8, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


@pytest.fixture(scope="module", params=["arrow", "parquet"])
def prepared(request, raw, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param)
    prepare_images(load(raw), PROCESSOR, out, format=request.param, shard_size=8)
    return out


def test_raw_and_prepared_data_train_alike_through_one_argument(raw, prepared, tmp_path):
    rows = {}
    for name, dataset in (("raw", raw), ("prepared", prepared)):
        table = open_collection(dataset, validation_fraction=0.3, seed=5)
        tasks = usable_tasks(table)
        images = prepared_images(table, PROCESSOR, tmp_path / "below", tasks=tasks)
        rows[name] = {row["image_id"]: row for row in images}
    assert rows["raw"] == rows["prepared"]
    assert {row["split"] for row in rows["raw"].values()} == {"train", "validation", "test"}


def test_another_seed_moves_patients_and_leaves_the_folder_alone(prepared):
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*") if path.is_file()}
    splits = []
    for seed in range(4):
        table = open_collection(prepared, seed=seed, validation_fraction=0.3)
        images = prepared_images(table, PROCESSOR, prepared, tasks=usable_tasks(table))
        splits.append(tuple(images["split"]))
    assert len(set(splits)) > 1
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_lesion_maps_of_another_task_are_left_out(prepared):
    table = open_collection(prepared)
    tasks = {task["name"]: task for task in table.tasks}
    images = prepared_images(table, PROCESSOR, prepared, tasks=[tasks["density"], tasks["pathology"]])
    assert not any(images["lesions"])


def test_the_size_of_a_prepared_folder_is_the_default(raw, prepared):
    for dataset, asked, size in ((prepared, None, (64, 32)), (raw, None, (448, 224)), (prepared, [96], (96, 96))):
        for images in (dataset, load(dataset)):
            assert training_processor(images, start="nano", size=asked).canvas == size


def test_another_size_than_the_folders_is_refused(prepared):
    table = open_collection(prepared)
    with pytest.raises(UsageError, match="was prepared with size"):
        prepared_images(table, MammoImageProcessor(size=(96, 32)), prepared, tasks=usable_tasks(table))


def test_an_unfinished_folder_is_said_to_be_one(prepared, tmp_path):
    (tmp_path / "layout.json").write_text((prepared / "layout.json").read_text())
    with pytest.raises(UsageError, match="not a finished prepared folder"):
        open_collection(tmp_path)
    with pytest.raises(UsageError, match="dicom_path: has no effect on prepared images"):
        open_collection(prepared, reading={"dicom_path": "paths.txt"})


def test_source_files_are_no_stream(raw):
    with pytest.raises(UsageError, match="`format=parquet`"):
        streamed_images(open_collection(raw), PROCESSOR, seed=0)


def test_the_very_same_patients_keep_their_labels_by_a_file(prepared, tmp_path):
    table = open_collection(prepared)
    chosen = labelled_patients(table, "pathology", percentage=50, seed=1)
    save_subset(chosen, tmp_path / "labels.json", percentage=50)
    others = labelled_patients(table, "pathology", percentage=100, seed=2, saved=tmp_path / "labels.json")
    assert others == chosen
    save_subset([*chosen, "0123456789abcdef"], tmp_path / "labels.json")
    assert labelled_patients(table, "pathology", percentage=100, seed=2, saved=tmp_path / "labels.json") == chosen
    save_subset(["0123456789abcdef"], tmp_path / "labels.json")
    with pytest.raises(DataError, match="names no training patient"):
        labelled_patients(table, "pathology", percentage=100, seed=2, saved=tmp_path / "labels.json")


def test_a_percentage_below_one_is_a_percentage(prepared, caplog):
    table = open_collection(prepared)
    with pytest.raises(DataError, match=r"leaves a class without a patient .* 25 is that fraction in percent"):
        labelled_patients(table, "pathology", percentage=0.25, seed=0)
    rows = [
        {
            **row,
            "image_id": f"{copy:08x}{row['image_id'][8:]}",
            "patient": f"{copy:08x}{row['patient'][8:]}",
            "exam": None,
        }
        for row in table.where(split="train")
        for copy in range(60)
    ]
    many = Collection.from_rows(rows, tasks=table.tasks, salt_name="s")
    assert labelled_patients(many, "pathology", percentage=0.9, seed=0)
    assert "a label percentage of 0.9 uses the labels of these patients alone: benign" in caplog.text


def test_the_tasks_that_a_collection_has_and_none_that_it_lacks(prepared):
    table = open_collection(prepared)
    assert next(task["name"] for task in usable_tasks(table)) == "pathology"
    with pytest.raises(UsageError, match="no task 'weather'"):
        usable_tasks(table, ["weather"])
    only = {task["name"]: task for task in table.tasks}
    dense = Collection(table.dataset, tasks=[only["birads"], only["density"]], salt_name="s")
    assert next(task["name"] for task in usable_tasks(dense)) == "birads"
    assert usable_tasks(Collection(table.dataset, tasks=[], salt_name="s")) == []
    with pytest.raises(DataError, match="has no task"):
        check_labels(table, [])
