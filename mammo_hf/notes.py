"""The notes on images and collections, and the reasons of refusals: one table of codes, each with its text.

A leaf: it is published as remote code with the image processor, so it imports nothing of the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# What the reader, the processor and the sources note. A code is stable: tables and counts hold it. The text of a note
# is made from its entry here; names in braces are what each note fills in, never a value that identifies a person.
NOTES: Mapping[str, str] = {
    # Side and view
    "laterality_contradicted": "{attribute} says {value}, {other} says {other_value}",
    "view_contradicted": "{attribute} says {value}, {other} says {other_value}",
    "laterality_from_device_description": "the side is from AcquisitionDeviceProcessingDescription, a free text",
    "laterality_from_protocol_name": "the side is from ProtocolName, a free text",
    "laterality_from_series_description": "the side is from SeriesDescription, a free text",
    "view_from_device_description": "the view is from AcquisitionDeviceProcessingDescription, a free text",
    "view_from_protocol_name": "the view is from ProtocolName, a free text",
    "view_from_series_description": "the view is from SeriesDescription, a free text",
    "overridden": "the overrides file gives {facts} in place of the header",
    # Acquisition
    "intent_contradicted": "PresentationIntentType says {intent}, the SOP class {of_class}",
    "frames_contradicted": "has {frames} frames and is not a tomosynthesis by its SOP class",
    "implant_contradicted": "BreastImplantPresent says NO, the view's modifier says implant displaced",
    "body_part_contradicted": "is a mammogram by its modality, and of another part of the body by its header",
    "body_part_unknown": "is a radiograph ({modality}) that names neither a breast nor a view of one",
    "attribute_malformed": "{problem}",
    "attribute_not_positive": "{attribute} is not positive",
    "spacing_contradicted": "PixelSpacing is neither ImagerPixelSpacing nor that divided by the magnification",
    "magnification_below_1": "EstimatedRadiographicMagnificationFactor is below 1 and is not used",
    # Values and their display
    "padding_bytes": "pixel data are followed by {count} bytes of padding",
    "high_bit_contradicted": "HighBit is {high_bit}, the pixels are in the lowest bits",
    "high_bit_unusual": "HighBit is {high_bit} with {bits_stored} bits stored",
    "bits_saturated": "decoded values beyond the {bits_stored} stored bits are set to the ends of their range",
    "bits_stored_contradicted": "BitsStored is {bits_stored}, the compressed image uses {precision} bits",
    "transfer_syntax_contradicted": (
        "the transfer syntax is {declared}, the pixel data are {actual} and are read as such"
    ),
    "end_missing": "a compressed frame has no end marker; what is there is read",
    "offset_table_contradicted": "the offset table contradicts the fragments, whose own bytes say where frames begin",
    "frames_malformed": "NumberOfFrames is not a whole number above 0 as it is written; taken as {frames}",
    "window_beside_values": "{rule} shows almost nothing: the values span {percent} % of the intensities",
    "window_meaningless": "a window means nothing as it is written and is passed over",
    "window_width_below_1": "WindowWidth is below 1 and spans several values: taken as LINEAR_EXACT",
    "window_values_contradicted": "WindowCenter has {centers} values, WindowWidth {widths}; they are paired in order",
    "window_in_groups_and_root": "the functional groups and the root each have a window; that of the groups is used",
    "voi_function_unknown": "VOILUTFunction is none of {known}; taken as LINEAR",
    "modality_meaningless": "a modality LUT or rescale leaves no range of values and is passed over",
    "lut_malformed": "{problem}; it is passed over",
    "lut_bits_contradicted": "the {lut}'s descriptor says {bits} bits, its largest entry has {needed}",
    "decimal_comma": "{attribute} has a decimal comma, read as a point",
    "unused_bits_removed": "bits above the {bits_stored} stored ones were set and have been removed",
    "presentation_lut_contradicted": "PresentationLUTShape is {shape} with {photometric}; the picture is inverted",
    "attribute_alone": "{attribute} and {other} do not come together; neither is used",
    "lut_empty": "{attribute} has an empty item",
    "modality_lut_and_rescale": "ModalityLUTSequence and RescaleSlope are both there; the former is used",
    "raw_with_window": (
        "has a window or VOI LUT, which For Processing values are not meant for; used only if asked for"
    ),
    "raw_relationship_unknown": "PixelIntensityRelationship is neither LIN nor LOG; taken as {used}",
    "raw_sign_unknown": "PixelIntensityRelationshipSign is neither 1 nor -1; decided by {used}",
    "raw_sign_contradicted": "PixelIntensityRelationshipSign is {sign} with {photometric}; the sign is used",
    # The breast in the picture
    "breast_not_found": "no breast was found",
    "bright_edges": "bright edges around the exposed field are left out",
    "negative": "tissue is dark on a bright background",
    "chest_wall_unclear": "the side of the chest wall is not clear from the image",
    "chest_wall_contradicted": (
        "the header speaks for a chest wall at the {expected}, the image shows it at the {seen}"
    ),
    "orientation_corrected": (
        "stored upside down or on its side by PatientOrientation, and shown upright ({orientation})"
    ),
    "orientation_contradicted": (
        "PatientOrientation says upside down or on its side, the picture does not show it; left as it is stored"
    ),
    "breast_reaches_across": (
        "the breast that was found reaches the side opposite its chest wall; it may hold background as bright as skin"
    ),
    "bright_beyond_breast": (
        "right outside the breast that was found it is brighter than the background; tissue may be missing"
    ),
    "breast_outline_straight": (
        "much of the outline of the breast that was found is one straight line; it may be that of a shadow or film"
    ),
    "breast_even": "much of the breast that was found has one tone, unlike tissue; it may be hidden or film",
    "background_uneven": "the background is not even; the breast that was found may hold some of it or lack tissue",
    "breast_much_smaller": "the breast that was found is much smaller than the others of these images",
    "display_useless": "{rule} spreads the breast over {percent} % of the intensities",
    "display_replaced": (
        "{rule} spread the breast over {percent} % of the intensities; on_useless_display shows it by another rule"
    ),
    "kind_not_trained_on": "is of a kind ({kind}) that the model was not trained on: it has no figures on such images",
    "implant_present": "the breast holds an implant; the model has no figures on breasts with implants",
    "unlike_training_images": (
        "its pooled features are further from those of the training images than all but {percent} % of validation "
        "patients'; the scores may mean nothing"
    ),
    "left_to_a_person": (
        "the highest probability of a task is below the threshold that --defer took from validation; a person decides"
    ),
    # Tiles
    "spacing_unknown": "the size of a pixel is not known; tiles are cut from the pixels as they are stored",
    "tiles_coarser": "the pixels are coarser than was asked for; tiles are cut from them as they are stored",
    # Among the images of an exam
    "another_image_counts": "another image of this view counts for breast and exam: {reason}",
    "views_missing": "of the four standard views, the exam lacks {views}",
    # Collections
    "images_left_out": "{count} {kind} are left out",
    "images_overridden": "{count} images have their exam, side or view from the overrides file",
    "images_without_patient": "{count} images name no patient: each counts as a patient of its own",
    "images_without_label": "{count} of {total} images have no label",
    "images_contradicted": "{count} images are left out: their rows name two exams, sides or views",
    "images_added": "{count} images of a list added without labels, for pre-training",
    "columns_unread": "columns of the table that are not read: {columns}",
    "labels_unread": "no column of the table is known to hold labels: all images are unlabelled",
    "tables_unread": "the folder holds tables that are not read: {tables}; load one by its own path for its labels",
    "ages_unread": "{count} ages cannot be read and are not known",
    "boxes_cut": "{count} boxes leave their image and are cut at its edge",
    "images_without_row": "{count} images are in no table: without labels, in their patient's split",
    "images_of_unknown_patients": ("{count} images of unknown patients added without labels, under your private salt"),
    "images_copied": "{count} further copies of films are not used",
    "images_twice": "{count} films exist more than once (mass and calcification set); each file has all findings",
    "images_jpeg": "{count} films are JPEG: 8 of 16 bits are left, with loss",
    "files_missing": "{problem}; their rows are left out",
    "files_elsewhere": "{count} files are outside the folders of table and images, by their whole paths",
    "tables_missing": (
        "tables not found: {tables}; images that only they describe have no labels (TCIA has them, the Imaging Data "
        "Commons does not: put them into the folder csv of the collection)"
    ),
    "rows_without_image": "{count} of {total} table rows have no image and are left out ({films} films)",
    "keys_without_image": "{count} of {total} keys of {table} fit no image",
    "masks_missing": "{count} of {total} findings have no mask",
    "masks_of_other_size": "{count} masks are left out: they do not have their film's size",
    "list_of_paths": (
        "list of DICOM paths: {labelled} images of the tables, {unlabelled} without labels; left out of pre-training: "
        "{crops} crops, {masks} ROI masks, {test} images of test patients"
    ),
    "regions_of_unknown_patients": "{crops} crops, {masks} ROI masks of unknown patients are left out",
    "patients_in_both_splits": (
        "{count} patients are in both official splits and were moved to training ({here} of them with {images} images "
        "here)"
    ),
    "split_own": "{split}: {patients} patients ({images} images), the collection's own split",
    "split_drawn": "{split}: {patients} patients ({images} images) {how}",
    "split_saved": "saved split: {patients} patients as saved, {moved} of them in another split than by the rule{new}",
    "split_none": "test: none, as no image has a label",
    "split_not_wanted": "test: none; the collection has no split of its own, and the test fraction is 0",
    "split_taken": "test: the collection has no split of its own, so {fraction} of the patients are taken",
}

# Why a file is refused or left out: the code in tables of rejected files, next to the sentence.
REFUSALS: Mapping[str, str] = {
    "missing": "The file does not exist, is not a file, or cannot be opened.",
    "damaged": "The file is cut short, contradicts itself, or holds what is not a DICOM file or picture.",
    "unsupported": "The file is sound, and of a kind that is not read: its pixel type, compression or colour.",
    "hostile": "The file asks for more memory or steps than any mammogram needs.",
    "not_a_breast": "The file holds something else than an image of a breast, or not one of a kind that is scored.",
    "skipped": "The overrides file asks to skip the file.",
    "left_out": "The file or table row is left out by the source's rules, or is a copy of another one.",
}


class Note(str):
    """The text of a note, with the code of its entry in `NOTES`.

    Args:
        code: Key of `NOTES`.
        **details: What the entry's text names in braces.
    """

    code: str

    def __new__(cls, code: str, **details: object) -> Note:
        """Make the text of the note."""
        return _note(code, NOTES[code].format(**details))

    def __reduce__(self) -> tuple[object, ...]:
        return _note, (self.code, str(self))


def _note(code: str, text: str) -> Note:
    note = str.__new__(Note, text)
    note.code = code
    return note


def codes(notes: Iterable[Note]) -> list[str]:
    """Return the codes of notes, each once, in their order."""
    return list(dict.fromkeys(note.code for note in notes))


def codes_cell(notes: Iterable[Note]) -> str:
    """Return the codes of notes as a table's cell holds them; `codes_in` reads it."""
    return ";".join(codes(notes))


def codes_in(cell: str | None) -> list[str]:
    """Return the codes in a cell that `codes_cell` made."""
    return cell.split(";") if cell else []


def counts_text(notes: Mapping[str, int], refusals: Mapping[str, int]) -> str:
    """Return counts by code as lines to append, which end every command that reads many images.

    Args:
        notes: Number of images by code of a note.
        refusals: Number of files that are refused or left out by code of the reason.

    Returns:
        One line of each, the most frequent code first; nothing of one that is empty.
    """
    lines = []
    for title, counts in (("notes", notes), ("refusals", refusals)):
        ordered = sorted(counts.items(), key=lambda count: (-count[1], count[0]))
        lines += [f"\n{title}: " + ", ".join(f"{count} {code}" for code, count in ordered)] if ordered else []
    return "".join(lines)


def table_text(table: Mapping[str, str]) -> str:
    """Return one of the tables as Markdown, for the documents."""
    return "\n".join(["| code | text |", "|---|---|", *(f"| `{code}` | {text} |" for code, text in table.items())])
