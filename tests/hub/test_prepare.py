import pytest

import mammo_hf
from mammo_hf import MammoImageProcessor
from mammo_hf.errors import UsageError
from mammo_hf.files import MARKER
from mammo_hf.phantom.writing import write_phantom


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=3, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


def test_the_result_is_the_folders_collection_and_says_what_was_done(folder, tmp_path):
    out = tmp_path / "prepared"
    images = mammo_hf.prepare(folder, out, image_size=(64, 32))
    loaded = mammo_hf.load(out)
    assert list(images) == list(loaded)
    assert (images.tasks, images.root) == (loaded.tasks, str(out))
    assert (images.run.images, images.run.rejected, images.run.read) == (12, 0, 12)
    assert str(images).startswith(f"12 images in {out}, 0 left out; 12 read now in ")
    assert repr(images).startswith("PreparedCollection(12 images: ")
    assert str(out) in repr(images)
    assert "12 read now" in images._repr_html_()
    assert {path.name for path in out.iterdir()} >= {"README.md", MARKER, "prepared.json"}
    again = mammo_hf.prepare(mammo_hf.load(folder), out, image_size=(64, 32))
    assert (again.run.read, again.run.shards_written) == (0, 0)


def test_a_part_of_the_result_says_nothing_of_the_run(folder, tmp_path):
    images = mammo_hf.prepare(folder, tmp_path, image_size=(64, 32))
    part = images.where(split="train")
    assert type(part) is mammo_hf.Collection
    assert str(part) == repr(part)


def test_a_processor_by_itself_or_by_its_folder(folder, tmp_path):
    processor = MammoImageProcessor(size=(96, 48), orient=False)
    processor.save_pretrained(tmp_path / "reading")
    for number, (given, size) in enumerate([(processor, None), (tmp_path / "reading", None), (processor, (64, 32))]):
        out = tmp_path / str(number)
        mammo_hf.prepare(folder, out, processor=given, image_size=size)
        found = MammoImageProcessor.from_pretrained(out)
        assert (found.canvas, found.orient) == (size or (96, 48), False)


def test_what_is_prepared_already_is_refused(folder, tmp_path):
    images = mammo_hf.prepare(folder, tmp_path / "one", image_size=(64, 32))
    with pytest.raises(UsageError, match=r"one: is prepared already"):
        mammo_hf.prepare(images, tmp_path / "two", image_size=(32, 16))
    assert not (tmp_path / "two").exists()
