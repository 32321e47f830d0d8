from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mammo_hf import plugins
from mammo_hf.data.datasets import discovery, mini_mias
from mammo_hf.data.loading import load
from mammo_hf.errors import DataError, UsageError

OURS = (
    "breast-cancer-screening-dbt",
    "cbis-ddsm",
    "cdd-cesm",
    "cmmd",
    "csv",
    "ddsm",
    "embed",
    "folder",
    "inbreast",
    "mini-mias",
    "rsna-2022",
)


def offer(monkeypatch, *entries):
    found = [*plugins.entry_points(group=discovery.GROUP), *(EntryPoint(n, v, discovery.GROUP) for n, v in entries)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: found)


def test_ours_are_installed():
    assert set(OURS) <= set(discovery.source_names())


def test_a_strangers_source_is_found_by_name_and_by_its_files(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    names = "NAME, LOOKS_FOR, LICENCE, TASKS, OFFICIAL_SPLIT, QUIRKS"
    code = f"{names} = 'theirs', 'a file', 'free', {{}}, 'none', ()\n"
    code += "def recognises(root):\n    return (root / 'theirs.txt').exists()\ndef load(root):\n    return 'a table'\n"
    (tmp_path / "stranger.py").write_text(code)
    offer(monkeypatch, ("theirs", "stranger"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "theirs.txt").touch()
    assert load("theirs", tmp_path) == load(tmp_path / "data") == "a table"


def test_a_broken_package_hinders_no_other_and_says_why_when_asked_for(monkeypatch):
    offer(monkeypatch, ("broken", "no_such_module_anywhere"), ("empty", "mammo_hf.errors"))
    assert mini_mias in discovery.all_sources()
    with pytest.raises(UsageError, match=r"broken: this source cannot be used: ModuleNotFoundError"):
        load("broken", Path("/"))
    with pytest.raises(UsageError, match=r"empty: this source cannot be used: mammo_hf.errors has no NAME, LOOKS_FOR"):
        load("empty", Path("/"))


def test_a_source_that_raises_is_named_and_the_others_go_on(monkeypatch, tmp_path, caplog):
    monkeypatch.syspath_prepend(str(tmp_path))
    names = "NAME, LOOKS_FOR, LICENCE, TASKS, OFFICIAL_SPLIT, QUIRKS"
    code = f"{names} = 'raising', 'a file', 'free', {{}}, 'none', ()\n"
    code += "def recognises(root):\n    raise KeyError('of its own')\ndef load(root):\n    return 1 / 0\n"
    (tmp_path / "raising_source.py").write_text(code)
    offer(monkeypatch, ("raising", "raising_source"), ("broken", "no_such_module_anywhere"))
    (tmp_path / "data").mkdir()
    plugins.pass_over.cache_clear()
    assert discovery.sources_of(tmp_path / "data") == []
    assert "passed over: raising: this source failed with KeyError: 'of its own'" in caplog.text
    assert "passed over: the source broken: ModuleNotFoundError" in caplog.text
    with pytest.raises(plugins.PluginError, match="raising: this source failed with ZeroDivisionError"):
        load("raising", tmp_path)


def test_a_stranger_cannot_take_the_name_of_ours(monkeypatch):
    offer(monkeypatch, ("mini-mias", "mammo.hf.fake"))
    assert discovery.find_source("mini-mias") is mini_mias


def test_the_nearest_name_is_told():
    with pytest.raises(UsageError, match="cbis-ddsn: is not a known source; did you mean cbis-ddsm"):
        discovery.find_source("cbis_ddsn")


def test_a_folder_that_several_sources_know_is_asked_about(tmp_path):
    names = "path,case,scanner,category,laterality,view,overlay,overlay_pathology"
    names += ",cdd_cesm_name,patient_id,side,age,density_acr,birads,pathology,regions_json"
    (tmp_path / "index.csv").write_text(names + "\n")
    with pytest.raises(DataError, match="may be several collections: cdd-cesm-index, ddsm; name one"):
        load(tmp_path)
