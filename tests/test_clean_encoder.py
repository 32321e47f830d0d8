"""The encoder that may be given away, from miniatures of both collections to its card and the table of transfer."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cbis_miniature import Finding, film_path, write_dicom, write_tables

from mammo_hf.data.splits import read_seen
from mammo_hf.dicom import mammogram_dataset
from mammo_hf.errors import DataError


def breast(seed: int) -> np.ndarray:
    """Half an ellipse at the left edge, of a tone and texture of its own, as uint16 (96, 64)."""
    rows, columns = np.mgrid[:96, :64]
    generator = np.random.default_rng(seed)
    inside = ((rows - 48) / 40) ** 2 + (columns / 45) ** 2 < 1
    tissue = generator.uniform(1200, 2000) + generator.integers(0, 900, inside.shape)
    return np.where(inside, tissue, 20).astype(np.uint16)


@pytest.fixture
def work(tmp_path):
    findings = [
        Finding(number, pathology=("BENIGN", "MALIGNANT")[number % 2], split="test" if number > 10 else "train")
        for number in range(1, 15)
    ]
    cbis, cmmd = (tmp_path / "data" / name for name in ("cbis-ddsm", "cmmd"))
    write_tables(cbis / "csv", findings)
    for number, one in enumerate(findings):
        write_dicom(cbis / film_path("idc", one.film), breast(number), one.film, "full mammogram images")
    lines = ["ID1,LeftRight,Age,number,abnormality,classification,subtype"]
    for number in range(16):
        lines.append(f"D1-{number:04d},L,50,2,mass,{('Benign', 'Malignant')[number % 2]},")
        for view in ("CC", "MLO"):
            told = {"PatientID": f"D1-{number:04d}", "StudyInstanceUID": f"1.2.{number}"}
            made = mammogram_dataset(breast(100 + 2 * number + (view == "CC")), laterality="L", view=view, **told)
            path = cmmd / "cmmd" / f"D1-{number:04d}" / f"1.2.{number}" / f"{view}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            made.save_as(path, enforce_file_format=True)
    (cmmd / "CMMD_clinicaldata_revision.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.slow
def test_the_whole_way_on_miniatures(program, work, capsys):
    script = program("scripts/clean_encoder.py")
    line = ["--work", str(work), "--model", "nano", "--image_size", "224", "112", "--epochs", "1", "--batch_size", "4"]
    line += ["--classifier_epochs", "1", "--num_workers", "0", "--without_download"]
    script.main(line)
    encoder = work / "stage_1_2_cmmd"
    terms = json.loads((encoder / "terms.json").read_text())
    assert {"cbis-ddsm", "cmmd"} <= {one["name"] for one in terms["terms"]}
    card = (encoder / "README.md").read_text()
    assert "CBIS-DDSM" in card
    assert "Chinese Mammography Database" in card
    # the patients of both collections that the encoder was trained on, and no tested one
    seen = read_seen(encoder)
    for number, name in enumerate(script.SUBSETS, 1):
        split = json.loads((work / f"stage_1_{number}_{name}" / "split.json").read_text())["splits"]
        assert {patient for patient, side in split.items() if side == "train"} <= seen
        assert not {patient for patient, side in split.items() if side == "test"} & seen
    table = (work / "transfer" / "transfer.md").read_text()
    assert "| classifier_cmmd |" in table
    assert "| image statistics (cbis-ddsm) |" in table
    before = (encoder / "metrics.json").stat().st_mtime_ns
    script.main(line)  # nothing is trained again
    assert (encoder / "metrics.json").stat().st_mtime_ns == before


def test_without_the_tables_of_the_labels_it_says_where_they_are(program, work):
    script = program("scripts/clean_encoder.py")
    (work / "data" / "cmmd" / "CMMD_clinicaldata_revision.csv").unlink()
    with pytest.raises(DataError, match=r"cancerimagingarchive\.net/collection/cmmd"):
        script.main(["--work", str(work), "--without_download"])
