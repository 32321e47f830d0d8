"""What would be fetched, on the real index of the Imaging Data Commons; the fetching itself on a client of ours."""

from __future__ import annotations

import types
from collections import Counter

import pandas as pd
import pytest

from mammo_hf.cli.download import main
from mammo_hf.data.datasets import download as downloading
from mammo_hf.data.datasets.cbis_ddsm import parse_name
from mammo_hf.data.datasets.download import COLLECTIONS, Selection, fetch, select, series_folder
from mammo_hf.errors import DataError, UsageError

pytest.importorskip("idc_index_data")


@pytest.fixture(scope="module")
def cbis():
    return select("cbis-ddsm")


def test_every_patient_id_of_cbis_ddsm_is_read_in_both_forms(cbis):
    names = cbis.series["patient_id"].map(parse_name).tolist()
    assert len(names) == 6775
    assert None not in names
    short = [name for name in names if name.kind is None]
    assert all(name.split is None for name in short)
    assert (len(short), len({name.film[0] for name in short})) == (396, 145)
    assert cbis.patients == 1566


def test_films_of_cbis_ddsm_and_the_patients_on_both_sides_by_their_names(cbis):
    described = cbis.series[cbis.series["description"] == "full mammogram images"]
    sides: dict[str, set[str]] = {}
    for name in described["patient_id"].map(parse_name):
        if name.split is not None:
            sides.setdefault(name.film[0], set()).add(name.split)
    assert len(described) == 2857
    assert sum(len(found) == 2 for found in sides.values()) == 22


def test_subsets_of_cbis_ddsm(cbis):
    sizes = {subset: len(select("cbis-ddsm", subset).series) for subset in ("full", "mass", "calc")}
    assert sizes == {"full": 3103, "mass": 3787, "calc": 3384}
    # the 396 of the short form do not tell their lesion type and come with both
    assert sizes["mass"] + sizes["calc"] - 396 == len(cbis.series)
    few = select("cbis-ddsm", "3")
    assert few.patients == 3
    assert set(few.series["uid"]) <= set(cbis.series["uid"])


def test_sizes_and_licences():
    found = {name: select(name) for name in COLLECTIONS}
    assert {name: one.patients for name, one in found.items()} == {
        "cbis-ddsm": 1566,
        "cmmd": 1775,
        "breast-cancer-screening-dbt": 5060,
        "victre": 2994,
    }
    assert [round(one.gigabytes) for one in found.values()] == [164, 23, 1638, 1027]
    licences = {name: one.licence for name, one in found.items()}
    assert licences["cbis-ddsm"] == "CC BY 3.0"
    assert licences["breast-cancer-screening-dbt"] == "CC BY-NC 4.0"


def test_what_is_no_collection_or_subset_is_refused():
    with pytest.raises(UsageError, match="inbreast: is not a collection that can be downloaded; known: cbis-ddsm"):
        select("inbreast")
    for name, subset in (("cbis-ddsm", "half"), ("cmmd", "mass"), ("cmmd", "0")):
        with pytest.raises(UsageError, match="is not a subset"):
            select(name, subset)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(downloading.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(UsageError, match=r'pip install "\.\[download\]" in a copy'):
        select("cmmd")


@pytest.fixture
def small():
    names = ("patient_id", "uid", "description", "instances", "megabytes", "licence", "doi")
    rows = [(f"D1-{number}", f"1.2.{number}", "", 2, 0.002, "CC BY 4.0", "x") for number in range(3)]
    return Selection("cmmd", pd.DataFrame(rows, columns=names))


def client(monkeypatch, selection, dest, fails=()):
    """A client that writes files as the real one does, but for some series; returns what it was asked for."""
    asked = []

    class Client:
        def download_from_selection(self, downloadDir, seriesInstanceUID, dirTemplate, use_s5cmd_sync, quiet):
            assert (downloadDir, use_s5cmd_sync) == (str(dest), True)
            asked.append(list(seriesInstanceUID))
            for series in selection.series.itertuples():
                if series.uid in seriesInstanceUID and series.uid not in fails:
                    folder = series_folder(selection, series, dest)
                    folder.mkdir(parents=True, exist_ok=True)
                    for number in range(series.instances):
                        (folder / f"{number}.dcm").write_bytes(b"x" * 1000)

    monkeypatch.setattr(downloading, "_package", lambda name: types.SimpleNamespace(IDCClient=Client))
    return asked


def test_an_interrupted_download_goes_on_and_the_licence_is_there_first(small, tmp_path, monkeypatch):
    asked = client(monkeypatch, small, tmp_path, fails=("1.2.1",))
    with pytest.raises(DataError, match="1 of 3 series did not arrive complete; run the same command again"):
        fetch(small, tmp_path)
    assert "CC BY 4.0" in (tmp_path / "LICENCE.txt").read_text()
    # a file that was cut off in the middle is fetched again too
    (series_folder(small, next(small.series.itertuples()), tmp_path) / "1.dcm").write_bytes(b"x" * 300)
    asked = client(monkeypatch, small, tmp_path)
    fetch(small, tmp_path)
    assert asked == [["1.2.0", "1.2.1"]]
    fetch(small, tmp_path)
    assert len(asked) == 1


def test_a_disk_that_is_too_small_is_found_before_anything_is_fetched(small, tmp_path, monkeypatch):
    asked = client(monkeypatch, small, tmp_path)
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=5000))
    with pytest.raises(DataError, match=r"[\d.]+ .B are still missing, 5 kB are free"):
        fetch(small, tmp_path / "new")
    assert not asked
    assert not (tmp_path / "new").exists()


def test_a_dry_run_says_what_how_much_and_under_which_licence(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(downloading, "fetch", lambda *args: pytest.fail("fetched"))
    main(["cbis-ddsm", str(tmp_path / "dest"), "--subset", "full", "--dry_run"])
    text = capsys.readouterr().out
    assert "cbis-ddsm: 3103 series of 1566 patients, 102.6 GB; 0 of the series are complete" in text
    assert "licence: CC BY 3.0; cite https://doi.org/10.7937/k9/tcia.2016.7o02s9cy" in text
    assert f"put mass_case_description_train_set.csv, {'mass_case_description_test_set.csv'}" in text
    assert str(tmp_path / "dest" / "csv") in text
    assert not (tmp_path / "dest").exists()


def test_the_index_names_only_the_sorts_of_series_that_are_known(cbis):
    counts = Counter(cbis.series["description"])
    assert counts == {"full mammogram images": 2857, "cropped images": 1991, "ROI mask images": 1681, "": 246}
