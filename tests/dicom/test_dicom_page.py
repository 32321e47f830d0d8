"""The tables of ``docs/dicom.md``: the notes and refusals, and every case of the pipeline and the test that checks it.

The page is written by this file: ``MAMMO_HF_WRITE_DOCS=1 python -m pytest tests/dicom/test_dicom_page.py``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mammo_hf.notes import NOTES, REFUSALS, table_text

TESTS = Path(__file__).parent
PAGE = TESTS.parent.parent / "docs" / "dicom.md"

# case, where the standard has it, what is done, test
CASES = [
    ("Any combination of the cases below", "PS3.4 N.2", "as pydicom, except the departures below",
     "test_grayscale_pipeline.py::test_any_file_is_shown_as_pydicom_shows_it"),
    ("Rescale slope and intercept", "PS3.3 C.11.1.1.2", "as written; alone, neither is used",
     "test_intensity.py::test_without_a_window_the_full_range_equals_pydicom"),
    ("Modality LUT", "PS3.3 C.11.1.1.1", "in place of the rescale",
     "test_intensity.py::test_a_modality_lut_equals_pydicom_alone_and_under_a_window"),
    ("Window LINEAR, LINEAR_EXACT, SIGMOID", "PS3.3 C.11.2.1.2, C.11.2.1.3", "by the formulas of the standard",
     "test_intensity.py::test_a_window_equals_pydicom_for_every_stored_value"),
    ("Corners of the formulas", "PS3.3 C.11.2.1.2.1", "width 1 is a threshold",
     "test_voi.py::test_the_formulas_of_the_standard_at_their_corners"),
    ("Several windows or VOI LUTs", "PS3.3 C.11.2.1.2", "NORMAL, else the first",
     "test_voi.py::test_the_normal_window_is_chosen_wherever_it_stands"),
    ("One of several, asked for", "PS3.3 C.11.2.1.2", "by index or explanation; refused if it does not exist",
     "test_voi.py::test_one_of_several_is_chosen_by_index_or_explanation"),
    ("VOI LUT, 8 to 16 bits, signed or not", "PS3.3 C.11.2.1.1", "the sign follows the input, not the VR",
     "test_intensity.py::test_a_voi_lut_equals_pydicom_for_every_stored_value"),
    ("Both a VOI LUT and a window", "PS3.3 C.11.2.1.1; IHE MAMMO", "the LUT, or the window if asked for",
     "test_intensity.py::test_the_lut_is_preferred_and_the_window_can_be_asked_for"),
    ("Empty LUT items", "PS3.3 C.11.2", "skipped and reported",
     "test_intensity.py::test_an_empty_lut_item_is_passed_over"),
    ("A window without meaning", "PS3.3 C.11.2.1.2", "passed over and noted, as if it were not there",
     "test_voi.py::test_a_window_without_meaning_is_passed_over_and_noted"),
    ("A LUT or rescale without meaning, several padding values", "PS3.3 C.11.1, C.7.5.1.1.2", "passed over and noted",
     "test_intensity.py::test_attributes_without_meaning_leave_the_picture_of_a_file_without_them"),
    ("A width below 1 after a small slope", "PS3.3 C.11.2.1.3.2", "LINEAR_EXACT, noted",
     "test_voi.py::test_a_width_below_1_is_a_distance_if_it_spans_several_values"),
    ("A decimal comma", "PS3.5 6.2", "read as a point, noted",
     "test_elements.py::test_each_number_is_read_or_noted_without_repeating_it"),
    ("A window that misses all values", "", "noted", "test_reading.py::test_a_window_that_shows_nothing_is_noted"),
    ("A window at the root and in the groups", "PS3.3 C.7.6.16.2.10", "that of the groups, noted",
     "test_tomosynthesis.py::test_the_window_of_the_functional_groups_comes_before_that_of_the_root"),
    ("No window, range in use", "PS3.3 C.11.2", "full range of the bits and the rescale",
     "test_missing_window.py::test_an_image_that_uses_its_range_is_shown_over_it"),
    ("No window, range hardly used", "", "from air to the brightest tissue",
     "test_missing_window.py::test_twelve_bit_values_called_sixteen_bit_are_spread"),
    ("For Processing", "PS3.3 C.8.11.3.1.2", "log, from air to the brightest tissue; its window is not used",
     "test_missing_window.py::test_a_raw_image_is_linear_in_the_attenuation_whatever_the_exposure"),
    ("PixelIntensityRelationship and its sign", "PS3.3 C.8.11.3.1.2", "oddities are reported; the sign is used",
     "test_header.py::test_contradictions_are_reported"),
    ("The writer's attributes of raw values", "PS3.3 C.8.11.3.1.2", "LIN, and the sign for the photometric one",
     "test_missing_window.py::test_what_the_writer_says_of_raw_values_is_what_the_reader_takes_them_for"),
    ("Refusal of these", "", '`on_missing_window="raise"`', "test_missing_window.py::test_it_can_be_refused"),
    ("MONOCHROME1, PresentationLUTShape INVERSE", "PS3.3 C.7.6.3.1.2, C.8.11.3.1.2", "inverted once",
     "test_intensity.py::test_monochrome1_and_its_presentation_lut_shape_invert_once"),
    ("PixelPaddingValue and its range limit", "PS3.3 C.7.5.1.1.2", "0 after inversion, on whichever side",
     "test_intensity.py::test_padding_is_background_and_changes_nothing_else"),
    ("Bits beyond BitsStored", "PS3.5 8.1.1", "removed and reported",
     "test_pixel_data.py::test_bits_beyond_those_stored_are_removed_as_pydicom_does"),
    ("HighBit above BitsStored - 1", "PS3.5 8.1.1", "used, unless the pixels contradict it; reported",
     "test_pixel_data.py::test_a_high_bit_above_the_usual_is_obeyed_and_reported"),
    ("Functional groups, shared or by frame", "PS3.3 C.7.6.16", "each frame by its own",
     "test_tomosynthesis.py::test_functional_groups_say_how_each_frame_is_shown"),
    ("Slices, ranges, slabs", "", "read when asked for; maximum or mean of the intensity",
     "test_tomosynthesis.py::test_a_slab_is_the_maximum_or_mean_of_the_displayed_intensity"),
    ("Memory of a volume", "", "that of the slab",
     "test_tomosynthesis.py::test_memory_is_that_of_the_slab_and_not_of_the_volume"),
    ("Native, deflated, big endian", "PS3.5 A.1 to A.5", "exact",
     "test_pixel_data.py::test_what_was_written_is_read"),
    ("JPEG lossless, JPEG-LS, JPEG 2000, HTJ2K", "PS3.5 A.4", "exact",
     "test_codecs.py::test_what_is_lossless_comes_back_exactly"),
    ("JPEG of 8 and 12 bits", "PS3.5 A.4.1", "decoded",
     "test_codecs.py::test_lossy_jpeg_of_eight_and_of_twelve_bits"),
    ("Offset tables and fragments", "PS3.5 A.4", "any of them, or none; passed over if wrong",
     "test_tomosynthesis.py::test_frames_are_found_whatever_the_tables_and_empty_fragments"),
    ("A transfer syntax that the pixel data contradict", "PS3.5 A.4", "their first bytes and length tell; noted",
     "test_codecs.py::test_a_transfer_syntax_that_the_pixel_data_contradict_is_noted_and_they_are_read"),
    ("Values that lossy compression moves beyond BitsStored", "PS3.5 8.2", "the end of the range, noted",
     "test_codecs.py::test_what_lossy_compression_moves_beyond_the_range_becomes_its_end"),
    ("A codestream of more bits than BitsStored", "PS3.5 8.2", "its own bits, noted",
     "test_codecs.py::test_a_codestream_that_needs_more_bits_than_the_header_says_has_them"),
    ("Bytes behind the pixels", "PS3.5 8.1.1", "dropped and noted; refused if they are rows or columns",
     "test_pixel_data.py::test_bytes_behind_the_pixels_are_dropped_unless_they_are_rows_or_columns"),
    ("Laterality and view", "PS3.3 C.8.11.7, PS3.16 CID 4014", "first attribute that has it; others reported",
     "test_projection.py::test_each_attribute_is_heard"),
    ("View modifiers", "PS3.16 CID 4015", "by code, meaning, or ViewPosition",
     "test_projection.py::test_modifiers_are_heard_in_code_meaning_and_view_position"),
    ("Synthetic 2D, projections, film", "PS3.3 C.8.11.7.1.4", "distinguished",
     "test_acquisition.py::test_kinds_are_distinguished"),
    ("Hostile files", "", "one kind of error, quickly, in little memory",
     "test_hostile.py::test_a_hostile_file_is_refused_soon_and_cheaply"),
    ("Damaged files", "", "read or refused", "test_fuzz.py::test_damaged_files_are_read_or_refused"),
    ("Privacy", "", "no value of a person in errors, warnings, logs",
     "test_reading.py::test_nothing_that_identifies_a_person_leaves_a_broken_file"),
    ("Real files of many makers", "", "each read correctly, or refused for its true reason",
     "test_real_dicom.py::test_every_file_is_read_or_refused_for_its_true_reason"),
    ("One header, two paths", "PS3.3 C.11.2", "SIGMOID and VOI LUT of a GE file give the same picture",
     "test_real_dicom.py::test_the_sigmoid_and_the_lut_of_one_header_give_the_same_picture"),
    ("pydicom departs: negative slope", "PS3.3 C.11.2.1.2", "the window still rises; `apply_windowing` inverts it",
     "test_intensity.py::test_a_negative_slope_keeps_the_window_rising_where_pydicom_inverts_it"),
    ("pydicom departs: modality LUT and rescale", "PS3.3 C.11.1",
     "the LUT alone; `apply_windowing` rescales the output range too",
     "test_intensity.py::test_a_lut_after_a_modality_lut_is_indexed_by_the_latter_alone"),
    ("pydicom departs: LUT index out of range", "PS3.3 C.11.2.1.1", "the last entry; `apply_voi` can wrap around",
     "test_lookup_table.py::test_eight_bit_entries_do_not_wrap_around"),
    ("pydicom departs: bits of a VOI LUT", "PS3.3 C.11.2.1.1",
     "the bits of its largest entry; pydicom takes what the descriptor announces, with which 12-bit entries called "
     "16-bit are almost black", "test_lookup_table.py::test_the_largest_entry_gives_the_range_whatever_is_announced"),
]  # fmt: skip


def table() -> str:
    lines = ["| case | standard | what is done | checked in `tests/dicom` |", "|---|---|---|---|"]
    for case, section, done, test in CASES:
        file, name = test.split("::")
        lines.append(f"| {case} | {section} | {done} | `{file}`: {name.removeprefix('test_').replace('_', ' ')} |")
    return "\n".join(lines) + "\n"


TABLES = [("notes", table_text(NOTES) + "\n"), ("refusals", table_text(REFUSALS) + "\n"), ("cases", table())]


@pytest.mark.parametrize(("name", "text"), TABLES)
def test_the_page_holds_the_tables(name: str, text: str) -> None:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(begin)
    old, after = rest.split(end)
    if os.environ.get("MAMMO_HF_WRITE_DOCS"):
        PAGE.write_text(before + begin + text + end + after, encoding="utf-8")
        return
    assert old == text, "write it again: MAMMO_HF_WRITE_DOCS=1 python -m pytest tests/dicom/test_dicom_page.py"


@pytest.mark.parametrize("test", [test for *_, test in CASES], ids=lambda test: test.split("::")[1])
def test_every_case_names_a_test_that_is_there(test: str) -> None:
    file, name = test.split("::")
    assert re.search(rf"^def {name}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)
