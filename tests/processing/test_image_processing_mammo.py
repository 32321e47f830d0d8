import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from transformers import AutoImageProcessor

from mammo_hf import BlockwiseMasking, MammoImageProcessor, read_mammogram
from mammo_hf.data.prepare.row import fit_parameters
from mammo_hf.dicom import mammogram_dataset
from mammo_hf.errors import DataError, MammoError, UsageError
from mammo_hf.notes import codes
from mammo_hf.processing.image_processing_mammo import FORMAT_VERSION


@pytest.fixture
def pixels():
    rows, columns = np.mgrid[:300, :200]
    tissue = ((rows - 150) / 120) ** 2 + (columns / 130) ** 2 < 1
    return (tissue * (1500 + 5 * rows) + np.random.default_rng(0).integers(0, 40, (300, 200))).astype(np.uint16) * 16


@pytest.fixture
def processor():
    return MammoImageProcessor(size=(224, 112))


def test_every_kind_of_input_gives_the_same_tensor(processor, pixels, tmp_path):
    dataset = mammogram_dataset(pixels, bits_stored=16)
    path = tmp_path / "a.dcm"
    dataset.save_as(path, enforce_file_format=True)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = processor(pixels, return_tensors="pt").pixel_values
    assert expected.shape == (1, 1, 224, 112)
    assert expected.dtype == torch.float32
    images = [str(path), path, path.read_bytes(), read_mammogram(path), dataset, torch.from_numpy(pixels),
              pixels[None], pixels[..., None], Image.fromarray(pixels), tmp_path / "a.png"]  # fmt: skip
    for image in images:
        torch.testing.assert_close(processor([image], return_tensors="pt").pixel_values, expected, atol=1e-5, rtol=0)
    fractions = torch.from_numpy(pixels / np.float32(65535))
    for tensor, error in ((fractions.requires_grad_(), 1e-4), (fractions.detach().bfloat16(), 0.05)):
        found = processor([tensor], return_tensors="pt").pixel_values
        torch.testing.assert_close(found, expected, atol=error, rtol=0)


def test_the_default_is_a_large_rectangle_around_the_breast():
    default = MammoImageProcessor()
    assert default.size == {"height": 896, "width": 448}
    assert default.crop_to_breast
    assert default.orient


def test_twelve_bits_fill_the_range(processor):
    # divided by 65535, a 12-bit image would be black
    pixels = np.full((40, 20), 4095, np.uint16)
    intensity, _ = processor.fit(mammogram_dataset(pixels, bits_stored=12))
    assert intensity.max() == pytest.approx(1, abs=1e-6)


def test_the_chest_wall_comes_to_the_left_edge(processor, pixels):
    left, _ = processor.fit(pixels)
    right, geometry = processor.fit(pixels[:, ::-1])
    assert geometry.orientation == "flip_left_right"
    np.testing.assert_allclose(left, right, atol=1e-6)
    assert left[:, 0].mean() > left[:, -1].mean()


def test_geometry_points_at_the_same_tissue(processor, pixels):
    pixels = pixels.copy()
    pixels[100:104, 40:44] = 65535
    for image in (pixels, pixels[:, ::-1]):
        intensity, geometry = processor.fit(image)
        row, column = np.unravel_index(intensity.argmax(), intensity.shape)
        source = geometry.to_source([[row + 0.5, column + 0.5]])[0].astype(int)
        assert image[tuple(source)] == 65535


def test_fit_and_normalise_are_the_call(processor, pixels):
    intensity, _ = processor.fit(pixels)
    called = processor(pixels, return_tensors="np").pixel_values[0]
    np.testing.assert_array_equal(called, processor.normalize_intensity(intensity))
    np.testing.assert_allclose(processor.denormalize(called), intensity, atol=1e-6)


def test_three_channels_hold_the_same(pixels):
    values = MammoImageProcessor(size=(224, 112), num_channels=3)(pixels, return_tensors="pt").pixel_values
    assert values.shape == (1, 3, 224, 112)
    assert torch.equal(values[:, 0], values[:, 2])


def test_masks_follow_the_configuration_and_the_seed(pixels):
    processor = MammoImageProcessor(size=(224, 112), mask_block_size=32, mask_ratio=0.25, image_mean=[0.1])
    with pytest.raises(UsageError, match="mask_seed"):
        processor(pixels, return_mask=True)
    processor = MammoImageProcessor(size=(224, 128), mask_block_size=32, mask_ratio=0.25)
    masks = processor([pixels, pixels], return_mask=True, mask_seed=5, return_tensors="pt").bool_masked_pos
    assert masks.shape == (2, 56 * 32)
    expected = BlockwiseMasking(32, 0.25)((224, 128), seed=5, index=1)
    assert (masks[1].numpy() == expected).all()
    assert masks.dtype == torch.bool


def test_saved_and_loaded(tmp_path, pixels):
    processor = MammoImageProcessor(size=(224, 112), mask_block_size=8, mask_ratio=0.75, image_std=[0.2])
    processor.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert stored["size"] == {"height": 224, "width": 112}
    assert (stored["mask_block_size"], stored["mask_ratio"]) == (8, 0.75)
    expected = processor(pixels, return_tensors="pt").pixel_values
    for loaded in (MammoImageProcessor.from_pretrained(tmp_path), AutoImageProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is MammoImageProcessor
        assert torch.equal(loaded(pixels, return_tensors="pt").pixel_values, expected)


def test_unknown_keys_and_newer_formats_are_refused(tmp_path):
    MammoImageProcessor().save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "sharpen": True}))
    with pytest.raises(UsageError, match="sharpen"):
        MammoImageProcessor.from_pretrained(tmp_path)
    path.write_text(json.dumps({**stored, "format_version": FORMAT_VERSION + 1}))
    with pytest.raises(UsageError, match=f"format_version {FORMAT_VERSION + 1}"):
        MammoImageProcessor.from_pretrained(tmp_path)


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION))
def test_a_file_of_an_earlier_format_is_refused_by_its_name(tmp_path, version):
    MammoImageProcessor().save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    stored = json.loads(path.read_text())
    assert stored["format_version"] == FORMAT_VERSION
    path.write_text(json.dumps({**stored, "format_version": version}))
    for load in (MammoImageProcessor.from_pretrained, AutoImageProcessor.from_pretrained):
        with pytest.raises(UsageError, match=rf"{tmp_path}.*earlier mammo_hf.*train again with this version"):
            load(tmp_path)
    with pytest.raises(UsageError, match="train again with this version"):
        MammoImageProcessor.from_dict({**stored, "format_version": version})


def test_which_window_is_shown_is_an_argument_that_stands_in_the_json(pixels, tmp_path):
    windows = {"WindowCenter": [30000, 20000], "WindowWidth": [60000, 10000]}
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [2, 0, 16], [0, 65535]
    names = {"WindowCenterWidthExplanation": ["NORMAL", "HARDER"]}
    dataset = mammogram_dataset(pixels, VOILUTSequence=[item], **windows, **names)
    pictures = []
    for choice in ({}, {"prefer": "window"}, {"window": "HARDER"}, {"prefer": "window", "window": 1}):
        processor = MammoImageProcessor(size=(224, 112), crop_to_breast=False, **choice)
        processor.save_pretrained(tmp_path)
        again = MammoImageProcessor.from_pretrained(tmp_path)
        assert (again.window, again.prefer) == (processor.window, processor.prefer)
        expected = processor.fit(read_mammogram(dataset, **choice))[0]
        pictures.append(again.fit(dataset)[0])
        np.testing.assert_array_equal(pictures[-1], expected)
    assert not np.allclose(pictures[0], pictures[1])
    assert not np.allclose(pictures[1], pictures[2])
    np.testing.assert_array_equal(pictures[2], pictures[3])
    with pytest.raises(MammoError, match="none explained as SOFTER"):
        MammoImageProcessor(window="SOFTER").fit(dataset)


@pytest.mark.parametrize("wrong", [{"window": -1}, {"window": 1.5}, {"window": ""}, {"prefer": "newest"}])
def test_an_impossible_choice_of_window_is_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        MammoImageProcessor(**wrong)


@pytest.mark.parametrize("blank", [True, False])
@pytest.mark.parametrize("margin", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("side", ["left", "right"])
def test_leaving_out_what_is_blanked_changes_no_pixel(pixels, blank, margin, side):
    # the look-up skips columns that no kept pixel looks at: nothing else may change
    film = np.ascontiguousarray(pixels if side == "left" else pixels[:, ::-1])
    for size in ((224, 112), (37, 150), (400, 400)):
        processor = MammoImageProcessor(size=size, blank_outside_breast=blank, crop_margin=margin)
        intensity, geometry, breast = processor.fit_breast(film)
        whole = geometry.map_to_model(film / np.float32(65535))
        kept = processor._kept(geometry, breast, processor.shown(breast))
        np.testing.assert_allclose(intensity, np.clip(whole * kept, 0, 1), atol=1e-6)


@pytest.mark.parametrize(
    "image", [np.zeros((2, 2, 2, 2)), np.full((5, 5), 300.0), np.full((5, 5), np.nan), np.zeros((0, 5)), object(), 7]
)
def test_what_is_no_image_is_refused(processor, image):
    with pytest.raises(UsageError):
        processor(image)


def test_files_that_cannot_be_read_are_named(processor, tmp_path):
    broken = tmp_path / "broken.png"
    Image.new("L", (40, 40)).save(broken)
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(DataError, match=r"broken\.png"):
        processor(broken)
    text = tmp_path / "notes.dcm"
    text.write_text("no image")
    with pytest.raises(MammoError, match=r"notes\.dcm"):
        processor(text)
    with pytest.raises(MammoError, match=r"missing\.dcm"):
        processor(tmp_path / "missing.dcm")


def test_real_films_keep_their_breast(real_data, processor):
    paths = sorted((real_data / "mini-mias").glob("*.png"))[:8]
    for path in paths:
        intensity, geometry = processor.fit(path)
        height, width = geometry.crop[2] - geometry.crop[0], geometry.crop[3] - geometry.crop[1]
        assert 0.2 < height * width / (1024 * 1024) < 0.95, path.name
        assert intensity[:, :30].mean() > intensity[:, -30:].mean(), path.name


def test_the_tomosynthesis_policy_chooses_the_picture_and_stands_in_the_json(pixels, tmp_path):
    volume = np.stack([pixels // 4, pixels // 2, pixels])
    dataset = mammogram_dataset(volume, bits_stored=16)
    for policy, picture in (("middle", volume[1]), (2, volume[2]), ({"slices": "all"}, volume[2])):
        processor = MammoImageProcessor(size=(224, 112), tomosynthesis=policy, on_missing_window="full_range")
        processor.save_pretrained(tmp_path)
        again = MammoImageProcessor.from_pretrained(tmp_path)
        assert again.tomosynthesis == processor.tomosynthesis
        expected, geometry = processor.fit(picture)
        intensity, found = again.fit(dataset)
        assert replace(found, spacing_mm=None) == geometry  # an array has none
        np.testing.assert_allclose(intensity, expected, atol=1e-6)
    with pytest.raises(UsageError, match="is not a slab"):
        MammoImageProcessor(tomosynthesis="top")


def test_files_without_a_window_can_be_refused(pixels):
    processor = MammoImageProcessor(size=(224, 112), on_missing_window="raise")
    with pytest.raises(DataError, match="no window"):
        processor.fit(mammogram_dataset(pixels))
    processor.fit(mammogram_dataset(pixels, WindowCenter=30000, WindowWidth=60000))
    with pytest.raises(UsageError, match="on_missing_window"):
        MammoImageProcessor(on_missing_window="guess")


def test_labels_outside_the_breast_are_blanked_unless_told_otherwise(pixels):
    pixels = pixels.copy()
    pixels[30:45, 110:125] = 65535  # inside the crop's box, outside the breast
    kept, geometry = MammoImageProcessor(size=(224, 112), blank_outside_breast=False).fit(pixels)
    blanked, same = MammoImageProcessor(size=(224, 112)).fit(pixels)
    assert geometry == same
    top, left, bottom, right = geometry.boxes_to_model([32, 112, 43, 123]).astype(int)
    assert kept[top:bottom, left:right].mean() > 0.9
    assert blanked[top:bottom, left:right].max() == 0
    row, column = geometry.to_model([150, 40]).astype(int)
    assert blanked[row, column] == kept[row, column] > 0


def test_a_negative_is_inverted_and_reported(processor, pixels):
    rows, columns = np.mgrid[:300, :200]
    pixels = (((rows - 150) / 120) ** 2 + (columns / 130) ** 2 < 1) * np.uint16(30000)
    expected, _ = processor.fit(pixels)
    features = processor(65535 - pixels, return_tensors="np", return_breast=True)
    np.testing.assert_allclose(processor.denormalize(features.pixel_values[0]), expected, atol=1e-5)
    assert features["breast"][0].negative
    untouched = MammoImageProcessor(size=(224, 112), invert_negatives=False)
    assert untouched.fit(65535 - pixels)[0].max() == pytest.approx(1)


def test_the_header_speaks_where_the_image_is_silent_and_its_spacing_reaches_the_geometry(processor):
    rows, columns = np.mgrid[:300, :200]
    alike = ((((rows - 150) / 120) ** 2 + ((columns - 100) / 80) ** 2 < 1) * 2000).astype(np.uint16)
    for laterality, flip in (("L", False), ("R", True)):
        dataset = mammogram_dataset(alike, bits_stored=12, laterality=laterality, ImagerPixelSpacing=["0.07", "0.08"])
        _, geometry, breast = processor.fit_breast(dataset)
        assert (geometry.orientation == "flip_left_right") is flip
        assert geometry.spacing_mm == (0.07, 0.08)
        assert breast.notes


def test_the_pectoral_muscle_is_blanked_only_when_asked_and_not_in_a_cc_view():
    rows, columns = np.mgrid[:512, :320]
    tissue = ((rows - 256) / 250) ** 2 + (columns / 280) ** 2 < 1
    muscle = columns / 140 + rows / 300 < 1
    pixels = (tissue * 1500 + (tissue & muscle) * 1200).astype(np.uint16)
    processor = MammoImageProcessor(size=(224, 112), blank_pectoral_muscle=True)
    oblique = mammogram_dataset(pixels, bits_stored=12, view="MLO")
    intensity, geometry = processor.fit(oblique)
    row, column = geometry.to_model([60, 60]).astype(int)
    assert intensity[row, column] == 0
    assert not processor.fit_breast(oblique)[2].on_canvas(geometry)[row, column]
    assert MammoImageProcessor(size=(224, 112)).fit(oblique)[0][row, column] > 0
    assert processor.fit(mammogram_dataset(pixels, bits_stored=12, view="CC"))[0][row, column] > 0


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_found_breast_lies_on_the_canvas_where_the_image_does(processor, side):
    rows, columns = np.mgrid[:300, :200]
    inside = ((rows - 150) / 140) ** 2 + (columns / 80) ** 2 < 1
    pixels = (inside * 30000).astype(np.uint16)[:, :: -1 if side == "right" else 1]
    intensity, geometry, breast = processor.fit_breast(pixels)
    assert (geometry.orientation == "flip_left_right") == (side == "right")
    assert geometry.resized[1] < geometry.size[1]  # there is padding
    found, cells = breast.on_canvas(geometry), breast.on_canvas(geometry, cell=4)
    assert found.shape == intensity.shape
    assert cells.shape == (56, 28)
    for mask, seen in ((found, intensity > 0.2), (cells, intensity[2::4, 2::4] > 0.2)):
        assert (mask & seen).sum() / (mask | seen).sum() > 0.93
    assert not found[:, geometry.resized[1] :].any()


@pytest.mark.parametrize("margin", [-0.1, 1.5])
def test_an_impossible_margin_is_refused(margin):
    with pytest.raises(UsageError, match="crop_margin"):
        MammoImageProcessor(crop_margin=margin)


def test_what_was_opened_is_taken_for_the_image_and_read_once(tmp_path):
    path = tmp_path / "a.dcm"
    mammogram_dataset(np.random.default_rng(0).integers(0, 4096, (300, 150)).astype(np.uint16)).save_as(
        path, enforce_file_format=True
    )
    processor = MammoImageProcessor(size=(112, 56))
    expected = processor(str(path))["pixel_values"]
    source = processor.open(path)
    path.unlink()
    assert processor.open(source) is source
    assert np.array_equal(processor(source)["pixel_values"], expected)
    assert processor.find_breast(source).box == processor.fit_breast(source)[2].box


def useless(bits: int, center: float, width: float, photometric: str) -> Dataset:
    """A breast that uses its bits, under a window that shows next to nothing of it."""
    rows, columns = np.mgrid[:300, :200]
    inside = ((rows - 150) / 110) ** 2 + (columns / 130) ** 2
    tissue = np.where(inside < 1, 0.35 + 0.45 * (1 - inside) + 0.1 * np.sin(rows / 9) * np.sin(columns / 7), 0.02)
    values = np.round(tissue * ((1 << bits) - 1)).astype(np.uint16)
    values = values if photometric == "MONOCHROME2" else (1 << bits) - 1 - values
    window = {"WindowCenter": f"{center:.9g}", "WindowWidth": f"{width:.9g}"}
    return mammogram_dataset(values, bits_stored=bits, photometric=photometric, **window)


@given(st.integers(10, 16), st.sampled_from(["MONOCHROME1", "MONOCHROME2"]), st.sampled_from(["below", "wide"]))
def test_a_display_that_shows_nothing_is_noted_replaced_or_refused(bits: int, photometric: str, kind: str) -> None:
    top = 1 << bits
    window = (top / 100, top / 100) if kind == "below" else (32 * top, 64 * top)
    dataset = useless(bits, *window, photometric)
    robust = MammoImageProcessor(size=(96, 64), on_useless_display="robust")
    noted = MammoImageProcessor(size=(96, 64)).fit_breast(dataset)[2]
    intensity, _, breast = robust.fit_breast(dataset)
    assert "display_useless" in codes(noted.notes)
    assert "display_replaced" in codes(breast.notes)
    del dataset.WindowCenter, dataset.WindowWidth
    expected, _, plain = robust.fit_breast(dataset)
    np.testing.assert_allclose(intensity, expected, atol=1e-6)
    assert not {"display_useless", "display_replaced"} & set(codes(plain.notes))
    with pytest.raises(DataError, match=r"spreads the breast over .* on_useless_display"):
        MammoImageProcessor(on_useless_display="raise").fit(useless(bits, *window, photometric))


def test_a_picture_that_uses_few_of_its_values_is_noted_or_spread(pixels):
    dark = (pixels // 40).astype(np.uint16)
    noted = MammoImageProcessor(size=(96, 64)).fit_breast(dark)[2]
    intensity, _, breast = MammoImageProcessor(size=(96, 64), on_useless_display="robust").fit_breast(dark)
    assert codes(noted.notes) == ["display_useless"]
    assert codes(breast.notes) == ["display_replaced"]
    assert intensity.max() > 0.9
    with pytest.raises(UsageError, match="on_useless_display"):
        MammoImageProcessor(on_useless_display="guess")


def test_ranks_are_the_same_whatever_monotone_tone_a_film_has(pixels):
    """The breast of a film whose tone was changed by a monotone curve gives the same image."""
    kept = {"crop_to_breast": False, "blank_outside_breast": False, "invert_negatives": False, "orient": False}
    ranked = MammoImageProcessor(size=pixels.shape[-2:], equalize_ranks=True, **kept)
    plain = MammoImageProcessor(size=pixels.shape[-2:], **kept)
    image = plain.fit(pixels)[0]
    one, other = ranked.fit(image)[0], ranked.fit(image**2)[0]
    seen = image > 0
    assert (one[~seen] == 0).all()
    assert one[seen].max() == 1
    order = np.argsort(image[seen], kind="stable")
    assert (np.diff(one[seen][order]) >= 0).all()
    assert np.abs(one - other).max() < 0.01
    assert MammoImageProcessor.from_dict(ranked.to_dict()).equalize_ranks


def test_a_folder_that_was_prepared_before_ranks_came_stays_valid():
    before = fit_parameters(MammoImageProcessor(size=(112, 56)))
    assert "equalize_ranks" not in before
    assert fit_parameters(MammoImageProcessor(size=(112, 56), equalize_ranks=True))["equalize_ranks"] is True


def test_a_models_processor_notes_what_the_model_was_not_trained_on(pixels):
    def codes_of(kinds, **keywords):
        source = MammoImageProcessor(image_kinds=kinds).open(mammogram_dataset(pixels, **keywords))
        return [note.code for note in source.notes if note.code in ("kind_not_trained_on", "implant_present")]

    film = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}  # Secondary Capture
    synthetic = {"ImageType": ["DERIVED", "PRIMARY", "", "GENERATED_2D"]}
    assert codes_of(None, **film, BreastImplantPresent="YES") == []  # before training
    assert codes_of(["2D"], **film, BreastImplantPresent="YES") == ["kind_not_trained_on", "implant_present"]
    assert codes_of(["film"], **film) == codes_of([], **film) == codes_of([]) == []
    for kinds, keywords in ((["film"], {}), ([], synthetic), (["2D", "film"], synthetic)):
        assert codes_of(kinds, **keywords) == ["kind_not_trained_on"]
    assert codes_of(["synthetic 2D"], **synthetic) == []
