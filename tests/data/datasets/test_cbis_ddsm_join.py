from __future__ import annotations

import pytest
from cbis_miniature import CROP_SIZE, Finding, crop_pixels, film_pixels, mask_pixels, write_dicom, write_tables

from mammo_hf.data.datasets import contents as contents_module
from mammo_hf.data.datasets.cbis_ddsm import (
    ImageFile,
    choose_mask,
    parse_name,
    read_cases,
    region_files,
    sort_files,
)
from mammo_hf.data.datasets.contents import Contents

FILM = Finding().film


def findings_of(tmp_path, *rows):
    write_tables(tmp_path, rows)
    return tuple(read_cases(tmp_path))


def region(text):
    return ImageFile(f"/{text}.dcm", parse_name(text), True)


@pytest.fixture
def images(tmp_path):
    def write(name, pixels):
        return str(write_dicom(tmp_path / name, pixels, "x"))

    return write


def test_films_and_regions_are_sorted_without_opening_them():
    files = [
        ImageFile("/film", parse_name(FILM), False),
        ImageFile("/crop", parse_name(f"{FILM}_1"), True),
        ImageFile("/other", parse_name("Calc-Test_P_00001_LEFT_CC"), False),
    ]
    contents = Contents()
    films, regions, copies = sort_files(files, contents)
    assert films == {parse_name(FILM): "/film", parse_name("Calc-Test_P_00001_LEFT_CC"): "/other"}
    assert regions == {parse_name(FILM).film: [files[1]]}
    assert (copies, contents.problems) == (0, {})


def test_one_folder_with_film_crop_and_mask_is_told_by_content(images):
    paths = [images("a", mask_pixels()), images("b", crop_pixels(FILM)), images("c", film_pixels(FILM))]
    films, regions, _ = sort_files([ImageFile(path, parse_name(FILM), False) for path in paths], Contents())
    assert list(films.values()) == [paths[2]]
    assert {file.path for file in regions[parse_name(FILM).film]} == set(paths[:2])


def test_of_two_copies_of_a_film_the_first_is_taken(images):
    paths = [images("b", film_pixels(FILM)), images("a", film_pixels(FILM))]
    films, regions, copies = sort_files([ImageFile(path, parse_name(FILM), False) for path in paths], Contents())
    assert list(films.values()) == [paths[0]]
    assert (copies, regions) == (1, {})


def test_regions_go_to_their_own_finding_by_kind_and_number(tmp_path):
    one, two, calc = findings_of(tmp_path, Finding(number=1), Finding(number=2), Finding(kind="calcification"))
    regions = [region(f"{FILM}_1"), region(f"{FILM}_2"), region("Calc-Training_P_00001_LEFT_CC_1")]
    for finding, wanted in ((one, regions[0]), (two, regions[1]), (calc, regions[2])):
        assert region_files(finding, (one, two, calc), regions) == [wanted.path]


def test_a_short_name_goes_to_the_only_finding_that_can_claim_it(tmp_path):
    mass, calc = findings_of(tmp_path, Finding(), Finding(kind="calcification", split="test"))
    short, exact = region("P_00001_LEFT_CC_1"), region(f"{FILM}_1")
    assert region_files(calc, (mass, calc), [exact, short]) == [short.path]
    assert region_files(mass, (mass, calc), [exact, short]) == [exact.path]
    assert region_files(mass, (mass,), [short]) == [short.path]
    assert region_files(mass, (mass, calc), [short]) == []
    assert region_files(calc, (mass, calc), [short]) == []


def test_a_region_without_number_goes_to_a_single_finding_only(tmp_path):
    one, two = findings_of(tmp_path, Finding(number=1), Finding(number=2))
    assert region_files(one, (one,), [region(FILM)]) == [f"/{FILM}.dcm"]
    assert region_files(one, (one, two), [region(FILM)]) == []


def test_the_mask_is_the_region_of_the_films_size_whatever_it_is_called(images, monkeypatch):
    film, crop, mask = (
        images("f", film_pixels(FILM)),
        images("ROI mask", crop_pixels(FILM)),
        images("crop", mask_pixels()),
    )
    monkeypatch.setattr(contents_module, "read_mammogram", lambda path: pytest.fail("decoded"))
    for regions in ([crop, mask], [mask, crop], [mask]):
        assert choose_mask(film, regions, Contents()) == (mask, False)
    assert choose_mask(film, [], Contents()) == (None, False)


def test_a_crop_alone_is_no_mask(images):
    film, crop = images("f", film_pixels(FILM)), images("c", crop_pixels(FILM))
    assert choose_mask(film, [crop], Contents()) == (None, False)


def test_among_regions_of_the_films_size_values_decide(images):
    film, copy, mask = images("f", film_pixels(FILM)), images("c", film_pixels(FILM)), images("m", mask_pixels())
    assert choose_mask(film, [copy, mask], Contents()) == (mask, False)


def test_a_mask_of_another_size_is_not_taken_but_told(images):
    film, crop = images("f", film_pixels(FILM)), images("c", crop_pixels(FILM))
    mask = images("m", mask_pixels((CROP_SIZE[0], 30)))
    assert choose_mask(film, [crop, mask], Contents()) == (None, True)
