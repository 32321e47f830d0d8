"""Tomosynthesis volumes: their frames are read one at a time, and shown by their own functional groups."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import ExplicitVRBigEndian, HTJ2KLossless, JPEG2000Lossless, RLELossless

from mammo_hf.dicom import ImageKind, Laterality, MammogramError, Slab, mammogram_dataset, read_mammogram
from mammo_hf.notes import codes

ROWS, COLUMNS = 32, 40


def volume(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, (frames, ROWS, COLUMNS)).astype(np.uint16)


def saved(dataset: Dataset, folder: Path) -> Path:
    path = folder / "volume.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def item(**keywords: object) -> Dataset:
    made = Dataset()
    for keyword, value in keywords.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize("syntax", [None, ExplicitVRBigEndian, RLELossless])
def test_a_slice_a_range_and_all_are_read_from_the_file(syntax: str | None, tmp_path: Path) -> None:
    pixels = volume(5)
    dataset = mammogram_dataset(
        pixels, bits_stored=12, **({"TransferSyntaxUID": syntax} if syntax == ExplicitVRBigEndian else {})
    )
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    mammogram = read_mammogram(saved(dataset, tmp_path))
    assert mammogram.header.kind is ImageKind.TOMOSYNTHESIS
    np.testing.assert_array_equal(mammogram.frame(3), pixels[3])
    np.testing.assert_array_equal(mammogram.frame(-1), pixels[4])
    np.testing.assert_array_equal(mammogram.pixels, pixels)
    np.testing.assert_allclose(mammogram.intensity(slice(2, 4)), pixels[2:4] / 4095, atol=1e-6)
    np.testing.assert_allclose(mammogram.intensity(), pixels / 4095, atol=1e-6)
    assert not mammogram.pixels.flags.writeable


@pytest.mark.parametrize("offsets", ["none", "basic", "extended", "fragments"])
@pytest.mark.parametrize("codec", ["jpeg2k", "htj2k"])
def test_compressed_frames_are_found_by_any_table(codec: str, offsets: str, tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = volume(4)
    encode = (
        imagecodecs.htj2k_encode
        if codec == "htj2k"
        else lambda frame: imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k")
    )
    frames = [encode(frame) for frame in pixels]
    dataset = mammogram_dataset(
        pixels, bits_stored=12, TransferSyntaxUID=HTJ2KLossless if codec == "htj2k" else JPEG2000Lossless
    )
    dataset["PixelData"].is_undefined_length = True
    if offsets == "extended":
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(
            frames
        )
    else:
        pieces = 3 if offsets == "fragments" else 1
        dataset.PixelData = encapsulate(frames, fragments_per_frame=pieces, has_bot=offsets == "basic")
    mammogram = read_mammogram(saved(dataset, tmp_path))
    for index in (2, 0, 3, 1):
        np.testing.assert_array_equal(mammogram.frame(index), pixels[index])


def run_length_volume(pixels: np.ndarray) -> Dataset:
    """A compressed volume without a Basic Offset Table."""
    dataset = mammogram_dataset(pixels, bits_stored=12)
    dataset.compress(RLELossless)
    dataset.PixelData = encapsulate(list(generate_frames(dataset.PixelData, number_of_frames=3)), has_bot=False)
    return dataset


def test_an_offset_table_that_holds_nothing_but_a_zero_is_passed_over(tmp_path: Path) -> None:
    pixels = volume(3)
    dataset = run_length_volume(pixels)
    empty, zero = bytes.fromhex("feff00e0 00000000"), bytes.fromhex("feff00e0 04000000 00000000")
    dataset.PixelData = zero + dataset.PixelData.removeprefix(empty)
    mammogram = read_mammogram(saved(dataset, tmp_path))
    np.testing.assert_array_equal(mammogram.pixels, pixels)


@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=5),
    st.sampled_from(["none", "basic", "wrong basic", "extended", "wrong extended"]),
    st.lists(st.one_of(st.integers(0, 4000), st.integers(0, 2**63)), min_size=1, max_size=6),
    st.integers(0, 2),
    st.booleans(),
)
def test_frames_are_found_whatever_the_tables_and_empty_fragments(
    pieces: list[int], kind: str, wrong: list[int], empty: int, ended: bool
) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = volume(len(pieces))
    frames = [imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k") for frame in pixels]
    parts = [
        np.array_split(np.frombuffer(frame, np.uint8), number) for frame, number in zip(frames, pieces, strict=True)
    ]
    items, starts, position = b"", [], 0
    for frame in parts:
        starts.append(position)
        for part in frame:
            padded = part.tobytes() + b"\0" * (part is frame[-1] and part.size % 2)
            items += struct.pack("<HHL", 0xFFFE, 0xE000, len(padded)) + padded
        position = len(items)
    items += struct.pack("<HHL", 0xFFFE, 0xE000, 0) * empty
    items += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) if ended else b""
    offsets = {"basic": starts, "wrong basic": [entry % 2**32 for entry in wrong]}.get(kind, [])
    table = np.array(offsets, "<u4").tobytes()
    dataset = mammogram_dataset(pixels, bits_stored=12, TransferSyntaxUID=JPEG2000Lossless)
    dataset.PixelData = struct.pack("<HHL", 0xFFFE, 0xE000, len(table)) + table + items
    if "extended" in kind:
        lengths = [sum(map(len, frame)) for frame in parts]
        dataset.ExtendedOffsetTable = np.array(wrong if "wrong" in kind else starts, "<u8").tobytes()
        dataset.ExtendedOffsetTableLengths = np.array(lengths, "<u8").tobytes()
    mammogram = read_mammogram(dataset)
    np.testing.assert_array_equal(mammogram.pixels, pixels)
    noted = "offset_table_contradicted" in codes(mammogram.header.contradictions)
    assert noted == ("wrong" in kind and wrong != starts)


def test_the_window_of_the_functional_groups_comes_before_that_of_the_root() -> None:
    group = item(FrameVOILUTSequence=[item(WindowCenter=1000, WindowWidth=500)])
    keywords = {"SharedFunctionalGroupsSequence": [group], "WindowCenter": 3000, "WindowWidth": 100}
    pixels = volume(2)
    mammogram = read_mammogram(mammogram_dataset(pixels, bits_stored=12, **keywords))
    np.testing.assert_allclose(mammogram.intensity(), np.clip((pixels - 999.5) / 499 + 0.5, 0, 1), atol=1e-6)
    assert codes(mammogram.header.contradictions) == ["window_in_groups_and_root"]


windows = st.tuples(st.integers(1, 4095), st.integers(2, 4095))


@given(windows, windows, st.booleans())
def test_a_root_window_changes_nothing_next_to_that_of_the_groups(
    of_groups: tuple[int, int], of_root: tuple[int, int], shared: bool
) -> None:
    group = item(FrameVOILUTSequence=[item(WindowCenter=of_groups[0], WindowWidth=of_groups[1])])
    name = "SharedFunctionalGroupsSequence" if shared else "PerFrameFunctionalGroupsSequence"
    keywords = {name: [group] * (1 if shared else 2)}
    pixels = volume(2)
    alone = read_mammogram(mammogram_dataset(pixels, bits_stored=12, **keywords))
    root = {"WindowCenter": of_root[0], "WindowWidth": of_root[1]}
    both = read_mammogram(mammogram_dataset(pixels, bits_stored=12, **keywords, **root))
    np.testing.assert_array_equal(both.intensity(), alone.intensity())
    added = set(codes(both.header.contradictions)) - set(codes(alone.header.contradictions))
    assert added == {"window_in_groups_and_root"}


@given(st.data(), st.sampled_from(["maximum", "mean"]), st.booleans())
def test_a_slab_is_the_maximum_or_mean_of_the_displayed_intensity(
    data: st.DataObject, projection: str, inverted: bool
) -> None:
    pixels = data.draw(arrays(np.uint8, st.tuples(st.integers(2, 6), st.integers(1, 4), st.integers(1, 4))))
    dataset = mammogram_dataset(pixels, photometric="MONOCHROME1" if inverted else "MONOCHROME2", PixelPaddingValue=0)
    mammogram = read_mammogram(dataset, on_missing_window="full_range")
    start, stop = sorted(data.draw(st.lists(st.integers(0, len(pixels)), min_size=2, max_size=2, unique=True)))
    shown = mammogram.intensity()[start:stop]
    expected = shown.max(axis=0) if projection == "maximum" else shown.mean(axis=0)
    rows, columns = data.draw(st.slices(pixels.shape[1])), data.draw(st.slices(pixels.shape[2]))
    found = mammogram.slab(Slab((start, stop), projection), rows, columns)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected[rows, columns], atol=1e-6)


def test_memory_is_that_of_the_slab_and_not_of_the_volume(tmp_path: Path) -> None:
    frames, side = 40, 640
    pixels = np.zeros((frames, side, side), np.uint16)
    pixels[:, 5, 5] = np.arange(frames)
    path = saved(mammogram_dataset(pixels, bits_stored=12), tmp_path)
    whole, one = pixels.nbytes, pixels[0].nbytes
    del pixels
    tracemalloc.start()
    mammogram = read_mammogram(path, on_missing_window="full_range")
    opened = tracemalloc.get_traced_memory()[1]
    picture = mammogram.slab(Slab("all", "maximum"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert picture[5, 5] == pytest.approx(39 / 4095)
    assert opened < one
    # two stored frames while one follows the other, two pictures of float32 (twice as large), an index of a block
    assert peak < 8 * one < whole / 4


def test_functional_groups_say_how_each_frame_is_shown(tmp_path: Path) -> None:
    pixels = np.full((3, 4, 5), 1000, np.uint16)
    groups = [item(FrameVOILUTSequence=[item(WindowCenter=center, WindowWidth=1001)]) for center in (500, 1000, 1500)]
    dataset = mammogram_dataset(
        pixels,
        bits_stored=12,
        laterality=None,
        ImagerPixelSpacing=None,
        SharedFunctionalGroupsSequence=[
            item(
                PixelMeasuresSequence=[item(PixelSpacing=[0.1, 0.12])],
                FrameAnatomySequence=[item(FrameLaterality="R")],
                PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=0)],
            )
        ],
        PerFrameFunctionalGroupsSequence=groups,
    )
    mammogram = read_mammogram(saved(dataset, tmp_path))
    assert mammogram.header.laterality is Laterality.RIGHT
    assert (mammogram.header.spacing_mm, mammogram.header.spacing_source) == ((0.1, 0.12), "PixelMeasuresSequence")
    # PS3.3 C.11.2.1.2.1: (1000 - (center - 0.5)) / 1000 + 0.5
    np.testing.assert_allclose(mammogram.intensity()[:, 0, 0], [1, 0.5005, 0.0005], atol=1e-6)
    np.testing.assert_allclose(mammogram.intensity(2)[0, 0], 0.0005, atol=1e-6)


def test_frames_of_one_window_share_one_table() -> None:
    groups = [item(FrameVOILUTSequence=[item(WindowCenter=500, WindowWidth=900)]) for _ in range(3)]
    dataset = mammogram_dataset(volume(3), bits_stored=12, PerFrameFunctionalGroupsSequence=groups)
    assert len(read_mammogram(dataset).tables) == 1


def test_a_volume_travels_between_processes(tmp_path: Path) -> None:
    pixels = volume(3)
    mammogram = read_mammogram(saved(mammogram_dataset(pixels, bits_stored=12), tmp_path))
    copy = pickle.loads(pickle.dumps(mammogram))
    np.testing.assert_array_equal(copy.pixels, pixels)


def test_a_file_that_went_away_or_was_cut_is_named(tmp_path: Path) -> None:
    path = saved(mammogram_dataset(volume(3), bits_stored=12), tmp_path)
    mammogram = read_mammogram(path)
    path.write_bytes(path.read_bytes()[: -ROWS * COLUMNS])
    mammogram.frame(1)
    with pytest.raises(MammogramError, match=r"volume\.dcm: frame 2 cannot be read any more"):
        mammogram.frame(2)
    path.unlink()
    with pytest.raises(MammogramError, match=r"volume\.dcm: frame 0 cannot"):
        mammogram.frame(0)
    with pytest.raises(MammogramError, match="no slices 7 among 3"):
        mammogram.slab(Slab(7))


def test_a_high_bit_counts_for_every_frame(tmp_path: Path) -> None:
    pixels = volume(3)
    dark = pixels.copy()
    dark[0] = 16  # alone it could lie in the lowest bits
    mammogram = read_mammogram(saved(mammogram_dataset(dark * 16, BitsStored=12, HighBit=15), tmp_path))
    np.testing.assert_array_equal(mammogram.pixels, dark)
    assert mammogram.header.contradictions == ("HighBit is 15 with 12 bits stored",)
