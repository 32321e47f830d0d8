"""A column of DICOM files in `datasets`: cast, streamed, kept in parquet, and read as our reader reads a file."""

import subprocess
import sys
import tarfile

import datasets
import numpy as np
import pytest
from cbis_miniature import write_dicom
from datasets.table import embed_table_storage
from PIL import Image

import mammo_hf
from mammo_hf import MammogramError, MammogramImage
from mammo_hf.data import mammogram_image

PIXELS = np.arange(32 * 16, dtype=np.uint16).reshape(32, 16) * 4


@pytest.fixture
def films(tmp_path):
    """Two films with a table: one shows dark as bright (MONOCHROME1)."""
    for name, kind in (("a.dcm", "MONOCHROME2"), ("b.dcm", "MONOCHROME1")):
        shown = {"PhotometricInterpretation": kind, "WindowCenter": 1024, "WindowWidth": 1024}
        write_dicom(tmp_path / name, PIXELS, "eva", "L CC", **shown)
    table = tmp_path / "table.csv"
    table.write_text("film,label\n" + "".join(f"{tmp_path / name},{name}\n" for name in ("a.dcm", "b.dcm")))
    return tmp_path


def intensities(rows, column):
    return [row[column].intensity() for row in rows]


@pytest.mark.parametrize("streaming", [True, False])
def test_files_that_a_table_names_in_three_lines(films, streaming):
    # a CSV that is streamed has no columns before it is read: `datasets` needs their types
    types = {"film": datasets.Value("string"), "label": datasets.Value("string")}
    about = {"features": datasets.Features(types), "streaming": True} if streaming else {}
    rows = datasets.load_dataset("csv", data_files=str(films / "table.csv"), split="train", **about)
    rows = rows.cast_column("film", mammo_hf.MammogramImage())
    found = intensities(rows, "film")
    for name, intensity in zip(("a.dcm", "b.dcm"), found, strict=True):
        np.testing.assert_array_equal(intensity, mammo_hf.read_mammogram(films / name).intensity())
    np.testing.assert_allclose(found[1], 1 - found[0], atol=1e-6)


def test_an_archive_is_streamed(films):
    with tarfile.open(films / "films.tar", "w") as archive:
        for name in ("a.dcm", "b.dcm"):
            archive.add(films / name, arcname=name)
    rows = datasets.load_dataset("webdataset", data_files=str(films / "films.tar"), split="train", streaming=True)
    rows = rows.cast_column("dcm", MammogramImage())
    np.testing.assert_array_equal(intensities(rows, "dcm")[0], mammo_hf.read_mammogram(films / "a.dcm").intensity())


def test_parquet_keeps_the_feature_and_the_files(films):
    table = datasets.Dataset.from_dict({"film": [str(films / "a.dcm"), str(films / "b.dcm")]})
    table = table.cast_column("film", MammogramImage())
    # as push_to_hub embeds the files
    table.with_format("arrow").map(embed_table_storage, batched=True).to_parquet(films / "rows.parquet")
    (films / "a.dcm").unlink()
    rows = datasets.load_dataset("parquet", data_files=str(films / "rows.parquet"), split="train", streaming=True)
    assert isinstance(rows.features["film"], MammogramImage)
    first, second = intensities(rows, "film")
    np.testing.assert_allclose(second, 1 - first, atol=1e-6)
    counted = table.select([1]).map(lambda row: {"rows": row["film"].header.rows})
    assert counted[0]["rows"] == 32
    assert counted.with_format("arrow")[0]["film"].to_pylist() == [{"bytes": None, "path": str(films / "b.dcm")}]
    np.testing.assert_array_equal(counted[0]["film"].intensity(), second)


def test_a_file_that_is_no_mammogram_is_named(films):
    (films / "c.dcm").write_bytes(b"nothing")
    rows = datasets.Dataset.from_dict({"film": [{"path": "archive/c.dcm", "bytes": b"nothing"}]})
    rows = rows.cast_column("film", MammogramImage())
    with pytest.raises(MammogramError, match=r"archive/c\.dcm"):
        rows[0]
    with pytest.raises(mammo_hf.MammoError, match="not a DICOM file"):
        MammogramImage().encode_example(Image.new("L", (4, 4)))


FIRST = ["import mammo_hf; assert 'datasets' not in sys.modules; import datasets", "import datasets, mammo_hf"]


@pytest.mark.parametrize("first", FIRST)
def test_it_is_registered_when_datasets_is_loaded_and_loads_no_torch(first):
    code = f"import sys; {first}; print([name for name in ('torch', 'transformers') if name in sys.modules]); "
    code += "print(datasets.Features.from_dict({'a': {'_type': 'MammogramImage'}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "{'a': MammogramImage(decode=True)}"]


def test_a_type_of_that_name_in_datasets_itself_stays(monkeypatch):
    known = datasets.features.features._FEATURE_TYPES
    monkeypatch.setitem(known, "MammogramImage", datasets.Image)
    monkeypatch.delitem(sys.modules, mammogram_image.__name__)
    __import__(mammogram_image.__name__)
    assert known["MammogramImage"] is datasets.Image
