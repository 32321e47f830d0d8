import importlib.util
import json

import numpy as np
import pytest

from mammo_hf import MammoImageProcessor, load
from mammo_hf.data.augmentation import Augmentation
from mammo_hf.data.native_row import NativeImage, OnCanvas, native_columns, relabelled, source_masks, unpacked_lesions
from mammo_hf.data.prepare.folder import check_canvas, for_training, open_prepared
from mammo_hf.data.prepare.row import lesion_map
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.data.prepared_row import geometry_of, intensity_of, pixels_of
from mammo_hf.data.torch_datasets import LabelledImages, StreamedMaskedImages
from mammo_hf.data.training_data import prepared_images
from mammo_hf.encoders.views import Picture
from mammo_hf.errors import UsageError
from mammo_hf.hub.prepare import prepare
from mammo_hf.models.checkpoint import check_model
from mammo_hf.processing.geometry import oriented

imagecodecs = pytest.importorskip("imagecodecs")
PROCESSOR = MammoImageProcessor(size=(64, 32))


@pytest.fixture(scope="module")
def native(collection, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores") / "native"
    prepare_images(collection, MammoImageProcessor(size=(64, 32)), folder, store="native", format="parquet")
    return folder


@pytest.mark.parametrize("size", [(64, 32), (112, 56)])
def test_one_store_draws_any_size_as_the_file_does(collection, native, size):
    processor, rows = MammoImageProcessor(size=size), {row["image_id"]: row for row in collection}
    labels = collection.tasks[0]["labels"]
    images = open_prepared(native, processor=processor)
    assert len(images) == len(rows)
    for drawn in images:
        source = rows[drawn["image_id"]]
        intensity, geometry, breast = processor.fit_breast(source["path"])
        assert np.abs(intensity_of(drawn) - intensity).max() <= 1e-6
        assert np.abs(pixels_of(drawn) - 65535 * intensity).max() <= 0.6
        assert drawn["size"] == list(size)
        assert json.loads(drawn["geometry"]) == geometry.to_dict()
        assert drawn["breast"] == np.packbits(breast.on_canvas(geometry, cell=4)).tobytes()
        expected = lesion_map(source["findings"], geometry, labels)
        assert drawn["lesions"] == (None if expected is None else expected.tobytes())


def test_training_embedding_and_streams_read_it(collection, native):
    processor = MammoImageProcessor(size=(64, 64))
    training = for_training(open_prepared(native, processor=processor), collection, collection.tasks[:1])
    images = LabelledImages(training, processor, lesion_grid=(2, 2))
    assert images[0]["pixel_values"].shape == (1, 64, 64)
    assert images[0]["lesion_targets"].shape == (2, 2)
    paths = dict(zip(collection.column("image_id"), collection.column("path"), strict=True))
    stored = training.with_format(None)[0]
    at_hand, read = Picture.of_prepared(stored, processor), Picture.of_image(paths[stored["image_id"]], processor)
    for size in ((224, 112), (40, 60)):
        assert np.abs(at_hand.draw(at_hand.whole(size)) - read.draw(read.whole(size))).max() <= 1e-6
    examples = list(StreamedMaskedImages(native, collection.column("image_id"), processor, rank=0, world_size=1))
    assert len(examples) == len(collection)
    assert examples[0]["pixel_values"].shape == (1, 64, 64)
    assert examples[0]["breast_mask"].shape == (64, 64)


def test_lesions_are_kept_in_the_pixels_of_the_source(collection, native):
    rows = {row["image_id"]: row for row in collection}
    some = [row for row in open_prepared(native).with_format(None) if row["lesions"] is not None]
    assert some
    for row in some:
        labels = len(collection.tasks[0]["labels"])
        masks = unpacked_lesions(row["lesions"])
        assert len(masks) == len(rows[row["image_id"]]["findings"])
        assert all(1 <= one[0] <= labels for one in masks)
        for (_, _, cut), whole in zip(masks, source_masks(row), strict=True):
            assert whole.shape == (224, 112)
            assert whole.sum() == cut.sum() > 0
        assert [one[0] for one in unpacked_lesions(relabelled(row["lesions"], -1))] == [255] * len(masks)


def test_crops_are_the_image_at_its_own_resolution_around_lesions_and_anywhere(collection, native):
    processor = MammoImageProcessor(size=(56, 56), native_crops=True)
    files = {row["image_id"]: row["path"] for row in collection}
    rows = for_training(open_prepared(native, processor=processor), collection, collection.tasks[:1])
    training = LabelledImages(rows, processor, augmentation=Augmentation(), lesion_grid=(1, 1))
    with_lesion, places = 0, set()
    for index, drawn in enumerate(rows):
        geometry = geometry_of(drawn)
        top, left, bottom, right = geometry.crop
        assert geometry.scale == (1, 1)
        opened = PROCESSOR.open(files[drawn["image_id"]])
        breast = PROCESSOR.find_breast(opened)
        own = opened.view(slice(top, bottom), slice(left, right))
        shown = PROCESSOR.kept_at(breast, np.arange(top, bottom) + 0.5, np.arange(left, right) + 0.5)
        expected = np.zeros((56, 56), np.float32)
        expected[: bottom - top, : right - left] = oriented(own * shown, geometry.orientation)
        assert np.abs(intensity_of(drawn) - expected).max() <= 1e-6
        if drawn["lesions"] is not None:
            assert any(drawn["lesions"])
            with_lesion += 1
        for training.epoch in range(4):
            placed = training.row(index)
            places.add((index, geometry_of(placed).crop))
            label = training[index]["labels"][0]
            assert label == (
                -100 if placed["lesions"] is not None and not any(placed["lesions"]) else drawn["labels"][0]
            )
    assert 0 < with_lesion < len(rows)
    assert len(places) > 3 * len(rows)


def test_crops_that_cannot_be_had_are_refused(collection, native, tmp_path):
    crops = MammoImageProcessor(size=(300, 100), native_crops=True)
    with pytest.raises(UsageError, match=r"crop: crops of 300 x 100 are larger than image \w+ of 224 x 112"):
        prepared_images(load(native), crops, tmp_path, tasks=[])
    with pytest.raises(UsageError, match="these images are in none; prepare them with `store=native`"):
        prepared_images(collection, crops, tmp_path, tasks=[])
    with pytest.raises(UsageError, match="sees no whole image"):
        crops(np.zeros((300, 200), np.uint16))
    with pytest.raises(UsageError, match="not of whole windows; give multiples of 224 and 224"):
        check_model("tiny", (448, 256), crops=True)


def test_what_is_outside_the_breast_is_not_kept():
    image = np.zeros((512, 256), np.uint16)
    image[100:400, :150] = np.linspace(20_000, 50_000, 300)[:, None]
    image[:40, 180:] = 65_000  # a name
    processor = MammoImageProcessor(size=(64, 32), crop_to_breast=False)
    row, breast, geometry = native_columns(processor, processor.open(image))
    assert breast.mask.any()
    assert geometry.size == (512, 256)
    values = imagecodecs.htj2k_decode(row["pixels"])
    assert np.frombuffer(row["table"], np.float32)[values].max() < 51_000 / 65_535


def test_fast_reads_a_fraction_within_its_bound():
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:2400, :1200].astype(np.float32)
    tissue = np.clip(1.1 - np.hypot((rows - 1200) / 1150, columns / 1050), 0, 0.7)
    tissue += (0.05 * np.sin(rows / 40) * np.cos(columns / 55) + generator.normal(0, 0.004, tissue.shape)) * (
        tissue > 0
    )
    values = np.rint(4095 * np.clip(tissue, 0, 1)).astype(np.uint16) * 16
    row, _, geometry = native_columns(PROCESSOR, PROCESSOR.open(values))
    row["geometry"] = json.dumps(geometry.to_dict())
    for size, halved, bound in (((672, 336), "1/2", 0.0015), ((336, 168), "1/4", 0.004)):
        exact, fast = (MammoImageProcessor(size=size, decode=decode) for decode in ("exact", "fast"))
        one, other = (OnCanvas(processor).row(row)["pixels"] for processor in (exact, fast))
        assert 0 < np.sqrt(np.mean((one - other) ** 2)) <= bound
        native = NativeImage(row, "fast")
        native.placed(fast.fitted_geometry(geometry), None)
        assert native.decoded == halved


def test_another_reading_a_newer_store_and_a_missing_codec_are_refused(native, tmp_path, monkeypatch):
    check_canvas(native, MammoImageProcessor(size=(896, 448), decode="fast", equalize_ranks=True))
    with pytest.raises(UsageError, match="prepared with orient True, not False"):
        check_canvas(native, MammoImageProcessor(size=(64, 32), orient=False))
    about = json.loads((native / "prepared.json").read_text())
    (tmp_path / "prepared.json").write_text(json.dumps(about | {"store_version": 2}))
    with pytest.raises(UsageError, match="store of version 2, and this mammo_hf reads 1"):
        open_prepared(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"HTJ2K.*not installed; pip install.*codecs"):
        open_prepared(native)


def test_a_second_size_is_answered_with_the_native_store(collection, tmp_path, caplog):
    some = collection.where(patient=collection[0]["patient"])
    prepare(some, tmp_path / "one", processor=PROCESSOR)
    assert "native" not in caplog.text
    prepare(some, tmp_path / "two", image_size=(32, 32), processor=PROCESSOR)
    assert "one holds the same images at 64 x 32: prepared once with --store native" in caplog.text
    prepare(some, tmp_path / "native", store="native", processor=PROCESSOR)
    caplog.clear()
    prepare(some, tmp_path / "two", image_size=(96, 32), processor=PROCESSOR)
    assert "is a native store of the same images" in caplog.text
