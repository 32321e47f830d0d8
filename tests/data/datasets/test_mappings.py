"""Our mappings, on the true tables where they are and on miniatures of each layout."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cbis_miniature import write_dicom
from PIL import Image

from mammo_hf.data.loading import load
from mammo_hf.testing.sources import check_source


def write_table(path: Path, header: str, *rows: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")


def dicom(path: Path, seed: int, **keywords: object) -> None:
    pixels = np.random.default_rng(seed).integers(0, 4096, (24, 12), dtype=np.uint16)
    write_dicom(path, pixels, str(keywords.pop("PatientID", "x")), **keywords)


def header(real_data: Path, name: str) -> str:
    return (real_data / "tables" / name).read_text(encoding="utf-8-sig").strip()


def test_ddsm_299(real_data):
    table = check_source("ddsm", real_data / "ddsm-299")
    assert (len(table), len(set(table.column("patient")))) == (1280, 320)
    # a breast counts as malignant if one of its views has a malignant outline, a benign case's breasts as benign
    assert Counter(group.labels["pathology"] for group in table.by_breast())["malignant"] == 161
    assert Counter(table.column("pathology")) == {"benign": 688, "malignant": 322, None: 270}
    assert set(table.column("stratum")) == {"B", "C"}
    # the other breast of a woman with cancer has no pathology, but is not the malignant one
    assert Counter(table.column("malignant_breast")) == {"yes": 322, "no": 318, None: 640}
    for group in table.by_breast():
        assert len({table[row]["pathology"] for row in group.rows}) == 1


@pytest.mark.slow
def test_ddsm_films_load_whole_and_share_their_patients_with_ddsm_299(real_data):
    table = load(real_data / "ddsm-films")
    # 1,859 ids, of which three name two patients each
    assert (len(table), len(set(table.column("patient")))) == (7454, 1862)
    assert table.column("pathology").count("malignant") == len(table.where(cancer="yes"))
    assert table.where(pathology=None).column("cancer").count("no") == 1898
    small = load(real_data / "ddsm-299")
    assert set(small.column("patient")) < set(table.column("patient"))


def test_cdd_cesm_by_its_index(real_data):
    table = check_source("cdd-cesm-index", real_data / "cdd-cesm")
    assert (len(table), len(set(table.column("patient")))) == (42, 38)
    assert Counter(table.column("pathology")) == {"malignant": 22, "benign": 18, None: 2}
    findings = [entry for row in table for entry in row["findings"]]
    assert len([entry for entry in findings if entry["circle"]]) == 10
    assert len([entry for entry in findings if entry["polygon"]]) == 51 + 38
    assert table.column("birads").count("4") == 17


def test_cdd_cesm_by_its_own_tables(real_data, tmp_path):
    tables = real_data / "tables" / "cdd-cesm"
    for name in ("Radiology-manual-annotations.csv", "Radiology_hand_drawn_segmentations_v2.csv"):
        (tmp_path / name).symlink_to(tables / name)
    (tmp_path / "Low energy images of CDD-CESM").symlink_to(real_data / "cdd-cesm" / "images")
    table = load("cdd-cesm", tmp_path, max_missing=0.99)
    assert len(table) == 42
    assert len(table.rejected) == 1003 - 42
    assert {row["image_id"] for row in table} == set(table.column("image_id"))
    index = load("cdd-cesm-index", real_data / "cdd-cesm")
    assert sorted(filter(None, table.column("pathology"))) == sorted(filter(None, index.column("pathology")))
    assert sorted(table.column("age_band")) == sorted(index.column("age_band"))
    assert all(row["findings"] for row in table if row["pathology"] == "malignant")


def test_cmmd_joins_the_true_table_to_headers(real_data, tmp_path):
    text = (real_data / "tables" / "cmmd" / "annotations.lejeunel.csv").read_text()
    (tmp_path / "CMMD_clinicaldata_revision.csv").write_text(text)
    rows = list(csv.DictReader(text.splitlines()))
    for number, row in enumerate(rows[:6]):
        for view in ("CC", "MLO"):
            path = tmp_path / "cmmd" / row["ID1"] / f"{number}{view}.dcm"
            told = {"PatientAge": f"{int(row['Age']):03d}Y", "ImageLaterality": row["LeftRight"], "ViewPosition": view}
            dicom(path, 10 * number + len(view), PatientID=row["ID1"], StudyInstanceUID=f"1.{number}", **told)
    dicom(tmp_path / "cmmd" / "other.dcm", 99, PatientID="D1-0001", ImageLaterality="L", ViewPosition="CC")
    table = check_source("cmmd", tmp_path)
    assert table.column("pathology").count("benign") == 2 * sum(r["classification"] == "Benign" for r in rows[:6])
    # the other breast of a patient in the table is there without a label
    assert table.column("pathology").count(None) == 1
    assert set(table.column("view")) == {"CC", "MLO"}
    assert f"{len(rows) - 6} of {len(rows)} keys of CMMD_clinicaldata_revision.csv fit no image" in table.notes


def test_vindr_mammo(real_data, tmp_path):
    breast = [
        "s1,x,i1,L,CC,24,12,BI-RADS 1,DENSITY C,training",
        "s1,x,i2,L,MLO,24,12,BI-RADS 1,DENSITY C,training",
        "s2,x,i3,R,CC,24,12,BI-RADS 4,DENSITY B,test",
    ]
    write_table(
        tmp_path / "breast-level_annotations.csv",
        header(real_data, "vindr-mammo/breast-level_annotations.head.csv"),
        *breast,
    )
    write_table(
        tmp_path / "finding_annotations.csv",
        header(real_data, "vindr-mammo/finding_annotations.head.csv"),
        "s1,x,i1,L,CC,24,12,BI-RADS 1,DENSITY C,['No Finding'],,,,,,training",
        "s1,x,i2,L,MLO,24,12,BI-RADS 1,DENSITY C,['No Finding'],,,,,,training",
        "s2,x,i3,R,CC,24,12,BI-RADS 4,DENSITY B,\"['Nipple Retraction', 'Mass']\",BI-RADS 4,-2.5,3.0,6.0,9.25,test",
        "s2,x,i3,R,CC,24,12,BI-RADS 4,DENSITY B,['Skin Thickening'],,1.0,3.0,6.0,9.25,test",
    )
    for number, (study, image) in enumerate((("s1", "i1"), ("s1", "i2"), ("s2", "i3"))):
        dicom(tmp_path / "images" / study / f"{image}.dicom", number)
    table = check_source("vindr-mammo", tmp_path)
    assert table.column("split") == ["train", "train", "test"]
    assert table.column("birads") == ["1", "1", "4"]
    assert [len(row["findings"]) for row in table] == [0, 0, 2]
    assert table[2]["findings"][0]["kind"] == "mass"
    assert table[2]["findings"][0]["box"] == [3.0, 0.0, 9.25, 6.0]
    assert "1 boxes leave their image and are cut at its edge" in table.notes
    assert table[2]["findings"][1]["kind"] == "other"


def test_rsna(real_data, tmp_path):
    write_table(
        tmp_path / "train.csv",
        header(real_data, "rsna/train.head.csv"),
        "2,10006,462822612,L,CC,61.0,0,0,0,,0,,29,False",
        "2,10006,1459541791,L,MLO,61.0,0,0,0,,0,,29,False",
        "1,10130,388811999,R,AT,71.0,1,1,1,0,0,B,49,False",
        "1,10131,388811998,R,CC,89.0,0,1,0,2,0,D,49,True",
    )
    for number, name in enumerate(("10006/462822612", "10006/1459541791", "10130/388811999", "10131/388811998")):
        dicom(tmp_path / "train_images" / f"{name}.dcm", number)
    table = check_source("rsna-2022", tmp_path)
    assert table.column("cancer") == ["no", "no", "yes", "no"]
    assert table.column("pathology") == [None, None, "malignant", "benign"]
    assert table.column("birads") == [None, None, "0", "2"]
    assert table.column("density") == [None, None, "b", "d"]
    assert table.column("age_band") == ["60-69", "60-69", "70-79", "80+"]
    assert table.column("view") == ["CC", "MLO", "AT", "CC"]


def test_inbreast_takes_the_patient_from_the_files_name(real_data, tmp_path):
    write_table(
        tmp_path / "INbreast.csv",
        header(real_data, "inbreast/INbreast.head.csv"),
        "removed;removed;R;CC;201001;22678622;4;1",
        "removed;removed;L;CC;201001;22678646;4;4b",
        "removed;removed;R;MLO;200801;22678694; ;6",
    )
    for number, name in enumerate(("22678622_61b13c59bcba149e_MG_R_CC", "22678646_61b13c59bcba149e_MG_L_CC")):
        dicom(tmp_path / "AllDICOMs" / f"{name}_ANON.dcm", number)
    dicom(tmp_path / "AllDICOMs" / "22678694_0b7396cdccacca82_MG_R_ML_ANON.dcm", 7)
    table = check_source("inbreast", tmp_path)
    assert len(set(table.column("patient"))) == 2
    assert table.column("birads") == ["1", "4", "6"]
    assert table.column("density") == ["d", "d", None]


def test_embed_joins_the_clinical_rows_of_a_side(real_data, tmp_path):
    meaning = {}
    with open(real_data / "tables" / "embed" / "AWS_Open_Data_Clinical_Legend.csv", encoding="utf-8-sig") as file:
        for row in csv.reader(file):
            meaning.setdefault(row[0].strip(), {})[row[2].strip()] = row[3].strip().lower()
    columns = "empi_anon,acc_anon,FinalImageType,spot_mag,ImageLateralityFinal,ViewPosition,Manufacturer"
    columns += ",anon_dicom_path,study_date_anon,ROI_coords"
    path = "/mnt/NAS2/mammo/anon_dicom/cohort_1/{}/1.2/{}.dcm"
    codes = sorted(meaning["asses"])
    day, regions = "2012-03-04", '"((2, 1, 9, 7), (1, 1, 5, 5))"'
    images = [
        f"{100 + n},{900 + n},2D,{('', '0')[n % 2]},L,CC,HOLOGIC Inc.,{path.format(100 + n, 'l')},{day},{regions}"
        for n in range(len(codes))
    ]
    images.append(f"100,900,cview,,L,CC,HOLOGIC Inc.,{path.format(100, 'c')},{day},()")
    images.append(f"100,900,2D,1,L,CC,HOLOGIC Inc.,{path.format(100, 'c')},{day},()")
    images.append(f"100,900,2D,,R,MLO,HOLOGIC Inc.,{path.format(100, 'r')},{day},()")
    write_table(tmp_path / "tables" / "EMBED_OpenData_metadata.csv", columns, *images)
    # severity, side and day of a biopsy by patient: cancer at once, of the other breast, benign; then nothing
    biopsies = ["0.0,L,2012-04-01", "1,R,2014-05-01", "4.0,L,2012-04-01"]
    clinical = [
        f"{100 + n},{900 + n},{day},L,{code},{1 + n % 5},50,{biopsies[n] if n < len(biopsies) else ',,'}"
        for n, code in enumerate(codes)
    ]
    write_table(
        tmp_path / "tables" / "EMBED_OpenData_clinical.csv",
        "empi_anon,acc_anon,study_date_anon,side,asses,tissueden,age_at_study,path_severity,bside,procdate_anon",
        *clinical,
        "100,900,2012-03-04,B,B,1,50,,,",
        "102,990,2017-03-04,B,B,1,55,,,",  # exams of which no image is here
        "103,991,2017-03-03,B,B,1,55,,,",
    )
    for n in range(len(codes)):
        dicom(tmp_path / "images" / "cohort_1" / str(100 + n) / "1.2" / "l.dcm", n)
    dicom(tmp_path / "images" / "cohort_1" / "100" / "1.2" / "r.dcm", 50)
    table = check_source("embed", tmp_path)
    assert len(table) == len(codes) + 1
    words = {"additional evaluation": "0", "negative": "1", "benign": "2", "probably benign": "3", "suspicious": "4"}
    words |= {"highly suggestive of malignancy": "5", "known biopsy-proven malignancy": "6", "**no assessment**": None}
    for row, code in zip(table, codes, strict=False):
        wanted = words[meaning["asses"][code]]
        assert row["birads"] == ("0" if code == "A" else wanted)
    assert table[len(codes)]["birads"] == "2"
    assert set(table.column("vendor")) == {"hologic"}
    assert table.column("density")[:5] == ["a", "b", "c", "d", None]
    assert table.column("pathology") == ["malignant", None, "benign", *[None] * (len(table) - 3)]
    # the right breast of the first woman is of a woman with cancer; the fourth is seen for a day less than five years
    assert table.column("cancer_within_years") == ["1", "3", "none", *[None] * (len(table) - 4), "1"]
    assert [entry["box"] for entry in table[0]["findings"]] == [[2, 1, 9, 7], [1, 1, 5, 5]]
    assert table[len(codes)]["findings"] == []


def dbt(root: Path, folder: str) -> None:
    paths, labels = (
        ["PatientID,StudyUID,View,descriptive_path,classic_path"],
        ["PatientID,StudyUID,View,Normal,Actionable,Benign,Cancer"],
    )
    kinds = ("1,0,0,0", "0,1,0,0", "0,0,1,0", "0,0,0,1")
    for number, kind in enumerate(kinds):
        patient, study, view = f"DBT-P0000{number}", f"DBT-S0000{number}", ("lcc", "rmlo", "lcc2", "rcc")[number]
        series = f"01-01-2000-{study}-MAMMO-7864{number}/16214.0-NA-1895{number}"
        classic = f"Breast-Cancer-Screening-DBT/{patient}/{series}/1-1.dcm"
        paths.append(f"{patient},{study},{view},{classic},{classic}")
        labels.append(f"{patient},{study},{view},{kind}")
        place = classic if folder == "classic" else f"breast_cancer_screening_dbt/{patient}/1.3.6.1.1895{number}/a.dcm"
        dicom(root / place, number, PatientID=patient)
    for number, part in enumerate(("train", "test")):
        for name, rows in (("file-paths", paths), ("labels", labels)):
            write_table(root / f"BCS-DBT-{name}-{part}-v2.csv", rows[0], *rows[1 + 2 * number : 3 + 2 * number])
    header = "PatientID,StudyUID,View,Subject,Slice,X,Y,Width,Height,Class,AD,VolumeSlices"
    write_table(root / "BCS-DBT-boxes-test-v2.csv", header, "DBT-P00003,DBT-S00003,rcc,9,25,1,2,3,4,cancer,0,50")


@pytest.mark.parametrize("folder", ["classic", "idc"])
def test_breast_cancer_screening_dbt(tmp_path, folder):
    dbt(tmp_path, folder)
    table = check_source("breast-cancer-screening-dbt", tmp_path)
    assert table.column("cancer") == ["no", "yes", "no", "no"]
    assert table.column("pathology") == ["benign", "malignant", None, None]
    assert table.column("laterality") == ["L", "R", "L", "R"]
    assert table.column("view") == ["CC", "CC", "CC", "MLO"]
    assert table.column("split") == ["test", "test", "train", "train"]
    assert [(entry["box"], entry["pathology"]) for entry in table[1]["findings"]] == [([2, 1, 6, 4], "malignant")]


def test_pictures_of_any_kind_can_be_prepared(real_data):
    from mammo_hf import MammoImageProcessor

    processor = MammoImageProcessor(size=(64, 32))
    pgm, png = (processor.fit(real_data / "mini-mias" / name)[0] for name in ("pgm/mdb001.pgm", "mdb001.png"))
    assert np.array_equal(pgm, png)
    with Image.open(real_data / "mini-mias" / "mdb001.png") as picture:
        assert picture.mode == "L"
