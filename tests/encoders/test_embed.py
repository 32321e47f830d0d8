"""Features of a collection: what is in the folder, when it is used again, and when it is refused."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import mammo_hf
from mammo_hf.encoders import Picture, Views, bag_of, bag_of_row, features_about, lesions_of_row, load_encoder
from mammo_hf.encoders.encoding import TILE, WHOLE
from mammo_hf.encoders.store import read_features
from mammo_hf.encoders.views import covered, tile_corners
from mammo_hf.errors import UsageError


def test_a_row_holds_the_bag_of_its_image_and_the_columns_of_the_collection(collection, embedded, vit):
    rows = {row["image_id"]: row for row in read_features(embedded)}
    assert set(rows) == set(collection.column("image_id"))
    about = features_about(embedded)
    assert about["images"] == 12
    assert about["vectors"] == sum(len(row["scales"]) for row in rows.values())
    encoder = load_encoder(vit)
    assert about["encoder"] == encoder.record
    processor = mammo_hf.MammoImageProcessor.from_pretrained(embedded)
    for source in list(collection)[:3]:
        row = rows[source["image_id"]]
        for name in ("patient", "laterality", "view", "pathology", "split", "age_band"):
            assert row[name] == source[name]
        bag = bag_of_row(row)
        assert bag.scales.tolist() == [WHOLE] + [TILE] * (len(bag.scales) - 1)
        assert len(bag.scales) > 4
        assert bag.features.shape == (len(bag.scales), 32)
        again = bag_of(Picture.of_image(source["path"], processor), encoder, Views.of(about))
        for name in ("features", "boxes", "scales"):
            assert np.array_equal(getattr(again, name), getattr(bag, name))


def test_a_tile_is_the_part_of_the_image_that_its_box_says(collection, embedded, vit):
    # by another way: crop the source at the box, resize it to the tile, and encode that
    row = read_features(embedded)[0]
    source = next(one for one in collection if one["image_id"] == row["image_id"])
    processor = mammo_hf.MammoImageProcessor.from_pretrained(embedded)
    opened = processor.open(source["path"])
    bag, encoder = bag_of_row(row), load_encoder(vit)
    middle = len(bag.boxes) // 2
    top, left, bottom, right = bag.boxes[middle].astype(int)
    cut = opened.view(slice(top, bottom), slice(left, right))
    assert cut.shape[0] == pytest.approx(encoder.tile * 0.4 / opened.spacing_mm[0], abs=1.5)
    tile = torch.nn.functional.interpolate(torch.tensor(cut)[None, None], (encoder.tile,) * 2, mode="area")
    if "flip" in bag.geometry.orientation:
        tile = tile.flip(-1)
    with torch.no_grad():
        from mammo_hf.encoders import pooled

        expected = pooled(encoder(tile), tile > 0)[0].numpy()
    alike = np.corrcoef(expected, bag.features[middle].astype(np.float32))[0, 1]
    others = [np.corrcoef(expected, one.astype(np.float32))[0, 1] for one in bag.features[1:]]
    assert alike == max(others)
    assert alike > 0.99


def test_load_gives_the_collection_of_a_folder_of_features(collection, embedded):
    loaded = mammo_hf.load(embedded)
    assert len(loaded) == 12
    assert loaded.tasks == collection.tasks
    one = loaded[0]
    assert one["path"] == f"{embedded}#{one['image_id']}"
    before = {row["image_id"]: row for row in collection}
    assert all(row["pathology"] == before[row["image_id"]]["pathology"] for row in loaded)
    assert loaded.terms == collection.terms + tuple(t for t in loaded.terms if t.name != "phantoms")
    assert {one.name for one in loaded.terms} == {"phantoms", "vit"}


def test_lesions_are_the_largest_fraction_of_a_finding_in_each_view(collection, embedded):
    with_findings = {row["image_id"] for row in collection if row["findings"]}
    assert with_findings
    for row in read_features(embedded):
        fractions = lesions_of_row(row)
        if row["image_id"] not in with_findings:
            assert fractions is None
            continue
        assert len(fractions) == len(row["scales"])
        assert fractions[0] == 1  # the whole view shows the whole lesion
        assert 0 < fractions[1:].max() <= 1
        assert fractions[1:].min() == 0


def test_covered_counts_the_pixels_of_the_lesion_that_a_box_holds():
    mask, other = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    mask[4:8, 4:8], other[18:, 18:] = True, True
    boxes = np.array([[0, 0, 20, 20], [0, 0, 6, 20], [6, 6, 30, 30], [10, 0, 15, 5], [-9, -9, 5, 5]])
    assert covered([mask], boxes).tolist() == [1, 0.5, 0.25, 0, 0.0625]
    assert covered([mask, other], boxes).tolist() == [1, 0.5, 1, 0, 0.0625]
    assert covered([np.zeros((20, 20), bool)], boxes) is None
    assert covered([], boxes) is None


def test_tiles_cover_the_breast_and_leave_out_the_background():
    canvas = np.zeros((100, 70), np.float32)
    canvas[10:80, :40] = 0.5
    corners = tile_corners(canvas, 32, 0.25)
    seen = np.zeros(canvas.shape, bool)
    for row, column in corners:
        assert canvas[row : row + 32, column : column + 32].mean() >= 0.5 * 0.05
        seen[row : row + 32, column : column + 32] = True
    assert (seen | (canvas == 0))[10:80, :40].all()
    assert len({tuple(corner) for corner in corners.tolist()}) == len(corners)
    # a breast that is smaller than a tile is one tile, and so is nothing at all
    assert tile_corners(np.zeros((32, 32), np.float32), 32, 0.25).tolist() == [[0, 0]]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("length", [32, 33, 64, 65, 100, 317])
def test_neighbouring_tiles_share_at_least_the_overlap(length, overlap):
    corners = tile_corners(np.ones((length, 32), np.float32), 32, overlap)[:, 0]
    assert (corners[0], corners[-1]) == (0, length - 32)
    if len(corners) > 1:
        assert np.diff(corners).max() <= 32 * (1 - overlap) + 1


def test_a_second_run_computes_nothing_and_other_workers_give_the_same_bytes(
    collection, embedded, vit, tmp_path, content
):
    before = content(embedded)
    again = mammo_hf.embed(collection, embedded, encoder=vit, spacing=0.4, shard_size=4)
    assert (again.run.read, again.run.shards_written) == (0, 0)
    assert content(embedded) == before
    # a change of one image touches its shard alone
    first = next(iter(sorted((embedded / "shards").iterdir())))
    copy = shutil.copytree(embedded, tmp_path / "copy")
    (copy / "shards" / first.name).unlink()
    (copy / "features.json").unlink()
    resumed = mammo_hf.embed(collection, copy, encoder=vit, spacing=0.4, shard_size=4)
    assert resumed.run.shards_written == 1
    assert resumed.run.read == 0  # taken from the file whose record was lost
    assert content(copy) == before


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_processes_gives_the_same_bytes(collection, embedded, vit, tmp_path, content, workers):
    mammo_hf.embed(collection, tmp_path / "out", encoder=vit, spacing=0.4, shard_size=4, num_workers=workers)
    assert content(tmp_path / "out") == content(embedded)


def test_from_a_prepared_folder_the_prepared_pixels_are_encoded(collection, embedded, vit, tmp_path):
    mammo_hf.prepare(collection, tmp_path / "prepared", image_size=(448, 224))
    out = tmp_path / "features"
    mammo_hf.embed(tmp_path / "prepared", out, encoder=vit, spacing=0.4)
    one, other = ({row["image_id"]: row for row in read_features(folder)} for folder in (embedded, out))
    for image, row in one.items():
        bag, prepared = bag_of_row(row), bag_of_row(other[image])
        assert prepared.geometry == bag.geometry
        whole = [np.corrcoef(bag.features[0], features[0])[0, 1] for features in (prepared.features,)]
        assert whole[0] > 0.999
        if row["lesions"] is not None:
            assert lesions_of_row(other[image])[0] == 1
    # coarser pixels than asked for are taken as they are, and noted
    mammo_hf.prepare(collection, tmp_path / "coarse", image_size=(64, 32))
    coarse = mammo_hf.embed(tmp_path / "coarse", tmp_path / "of_coarse", encoder=vit, spacing=0.4)
    assert coarse.run.notes["tiles_coarser"] == 12
    with pytest.raises(UsageError, match="has no effect on prepared images"):
        mammo_hf.embed(tmp_path / "coarse", tmp_path / "no", encoder=vit, processor=tmp_path / "coarse")


def test_whole_and_native_are_parts_of_both(collection, embedded, vit, tmp_path):
    some = collection.where(lambda row: row["image_id"] in collection.column("image_id")[:2])
    both = {row["image_id"]: bag_of_row(row) for row in read_features(embedded)}
    for tiles, part in (("whole", slice(0, 1)), ("native", slice(1, None))):
        mammo_hf.embed(some, tmp_path / tiles, encoder=vit, tiles=tiles, spacing=0.4)
        for row in read_features(tmp_path / tiles):
            assert np.array_equal(bag_of_row(row).features, both[row["image_id"]].features[part])


def test_pixels_of_unknown_size_are_cut_as_they_are_stored(vit, tmp_path):
    from PIL import Image

    (tmp_path / "films").mkdir()
    rng = np.random.default_rng(0)
    picture = np.zeros((300, 200), np.uint8)
    picture[50:250, :120] = rng.integers(80, 200, (200, 120))
    Image.fromarray(picture).save(tmp_path / "films" / "one.png")
    done = mammo_hf.embed(tmp_path / "films", tmp_path / "out", encoder=vit)
    assert done.run.notes["spacing_unknown"] == 1
    bag = bag_of_row(read_features(tmp_path / "out")[0])
    assert np.allclose(bag.boxes[1:, 2] - bag.boxes[1:, 0], 64)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"spacing": 0.3}, r"holds features made with spacing 0\.4, not 0\.3"),
        ({"tiles": "whole"}, "holds features made with tiles both, not whole"),
        ({"image_size": (128, 64)}, "holds features made with .*128"),
        ({"processor": mammo_hf.MammoImageProcessor(orient=False)}, "holds features made with orient True, not False"),
    ],
)
def test_other_views_and_processing_are_refused(collection, embedded, vit, content, change, problem):
    before = content(embedded)
    with pytest.raises(UsageError, match=problem):
        mammo_hf.embed(collection, embedded, encoder=vit, **{"spacing": 0.4} | change)
    assert content(embedded) == before


def test_another_encoder_is_refused_and_a_moved_one_is_not(collection, embedded, vit, tmp_path):
    moved = shutil.copytree(vit, tmp_path / "moved")
    assert mammo_hf.embed(collection, embedded, encoder=moved, spacing=0.4, shard_size=4).run.read == 0
    from transformers import ViTModel

    model = ViTModel.from_pretrained(moved)
    with torch.no_grad():
        model.layernorm.bias[0] += 1
    model.save_pretrained(moved)
    with pytest.raises(UsageError, match="holds features made with encoder weights"):
        mammo_hf.embed(collection, embedded, encoder=moved, spacing=0.4)


def test_images_and_features_do_not_share_a_folder(collection, embedded, vit, tmp_path):
    mammo_hf.prepare(collection, tmp_path, image_size=(64, 32))
    with pytest.raises(UsageError, match="holds prepared images"):
        mammo_hf.embed(collection, tmp_path, encoder=vit)
    with pytest.raises(UsageError, match="holds features of images"):
        mammo_hf.prepare(collection, embedded, image_size=(64, 32))
    with pytest.raises(UsageError, match="holds features already"):
        mammo_hf.embed(embedded, tmp_path / "more", encoder=vit)
    with pytest.raises(UsageError, match="holds features, not images"):
        mammo_hf.prepare(embedded, tmp_path / "more")


def test_a_trial_foretells_and_draws_the_tiles(collection, vit, tmp_path):
    trial = mammo_hf.embed(collection, tmp_path, encoder=vit, spacing=0.4, limit=3, num_workers=2)
    assert trial.run.images == 3
    assert "all 12 images will take" in str(trial)
    assert "2 processes" in str(trial)
    from PIL import Image

    sheet = np.asarray(Image.open(tmp_path / "tiles.png"))
    assert sheet.shape == (480, 3 * 240, 3)
    assert (sheet == (255, 210, 40)).all(-1).sum() > 100  # outlines


def test_what_cannot_be_read_is_listed_and_the_rest_is_there(collection, vit, tmp_path):
    rows = list(collection)[:3]
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"\0" * 128 + b"DICM nothing")
    rows[1] = rows[1] | {"path": os.fspath(broken)}
    some = mammo_hf.Collection.from_rows(rows, tasks=collection.tasks, salt_name="private")
    done = mammo_hf.embed(some, tmp_path / "out", encoder=vit, spacing=0.4)
    assert (done.run.images, done.run.rejected) == (2, 1)
    assert "broken.dcm" in (tmp_path / "out" / "rejected.csv").read_text()


def test_the_split_of_an_encoder_that_was_trained_here_goes_with_its_features(collection, vit, tmp_path):
    trained = shutil.copytree(vit, tmp_path / "trained")
    record = '{"salt_name": "private", "splits": {"0123456789abcdef": "train"}}'
    (trained / "split.json").write_text(record)
    for encoder, expected in ((trained, True), (vit, False)):
        out = tmp_path / f"features-{encoder.name}"
        mammo_hf.embed(collection, out, encoder=encoder, tiles="whole", limit=1)
        assert (out / "split.json").is_file() is expected
    assert (tmp_path / "features-trained" / "split.json").read_text() == record


def embed_command(phantom_folder, vit, out, *more):
    line = [sys.executable, "-m", "mammo_hf", "embed", str(phantom_folder), "--encoder", str(vit), *more]
    return [*line, "--output_dir", str(out), "--spacing", "0.4", "--shard_size", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_killed_within_a_shard_and_resumed_it_ends_with_the_same_bytes(
    phantom_folder, embedded, vit, tmp_path, content, workers
):
    command = embed_command(phantom_folder, vit, tmp_path / "out", "--num_workers", workers)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("out/shards/*")) and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None
    process.kill()
    process.wait()
    assert not (tmp_path / "out" / "features.json").exists()
    subprocess.run(command, check=True, timeout=400, capture_output=True)
    assert content(tmp_path / "out") == content(embedded)


@pytest.mark.slow
def test_two_processes_of_a_launch_divide_the_images_and_give_the_same_bytes(
    phantom_folder, embedded, vit, tmp_path, content
):
    # every image is written down by the process that encodes it
    script = tmp_path / "embed.py"
    script.write_text(
        "import os, sys\n"
        "from mammo_hf.encoders.embed import Embedding\n"
        "drawn = Embedding._drawn\n"
        "def noted(self, row):\n"
        f"    with open({str(tmp_path)!r} + '/by-' + os.environ['RANK'], 'a') as file:\n"
        "        print(row['image_id'], file=file)\n"
        "    return drawn(self, row)\n"
        "Embedding._drawn = noted\n"
        "from mammo_hf.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
    launch += ["--rdzv_endpoint", "localhost:0", str(script)]
    line = embed_command(phantom_folder, vit, tmp_path / "out")[3:]
    done = subprocess.run([*launch, *line], check=True, timeout=400, capture_output=True, text=True)
    assert content(tmp_path / "out") == content(embedded)
    one, other = (set((tmp_path / f"by-{rank}").read_text().split()) for rank in (0, 1))
    assert min(len(one), len(other)) > 0
    assert not one & other
    assert len(one | other) == 12
    assert done.stdout.count("12 read now") == 1, done.stdout


@pytest.mark.slow
def test_ray_gives_the_same_features(collection, embedded, vit, tmp_path):
    pytest.importorskip("ray")
    mammo_hf.embed(collection, tmp_path / "out", encoder=vit, spacing=0.4, shard_size=4, ray=True, num_workers=2)
    for one, other in zip(read_features(embedded), read_features(tmp_path / "out"), strict=True):
        assert one["image_id"] == other["image_id"]
        assert one["features"] == other["features"]
        assert one["boxes"] == other["boxes"]
