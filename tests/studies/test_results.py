"""A grid's results on disk: what was saved comes back, and a study of other settings is refused."""

from pathlib import Path

import numpy as np
import pytest

from mammo_hf.errors import UsageError
from mammo_hf.studies.cells import Arm, Cell
from mammo_hf.studies.label_efficiency import CellResult, Results, StudySettings

CELL, OTHER = (Cell(Arm("out/mim", "head"), percentage, 0, -1) for percentage in (10, 50))


def settings(folder: Path, task: str = "pathology") -> StudySettings:
    return StudySettings("data", task, folder, (224, 112))


def saved(folder: Path) -> tuple[Results, CellResult]:
    positive = np.linspace(0.1, 0.9, 6)
    names = np.array([f"i{number}" for number in range(6)])
    one = {"images": names, "patients": names, "labels": np.arange(6) % 2, "facts": {"train_images": 30}}
    one["probabilities"] = np.stack([1 - positive, positive], 1)
    results = Results(folder, settings(folder))
    results.save(CELL, one)
    return results, one


def test_results_come_back_as_they_were_and_other_settings_are_refused(tmp_path: Path) -> None:
    results, one = saved(tmp_path)
    stored = results.load(CELL)
    assert isinstance(stored, dict)
    np.testing.assert_array_equal(stored["probabilities"], one["probabilities"])
    assert stored["facts"]["train_images"] == 30
    assert results.load(OTHER) is None
    with pytest.raises(UsageError, match="another task: 'pathology', not 'density'"):
        Results(tmp_path, settings(tmp_path, "density"))


def test_the_same_study_goes_on_where_it_was(tmp_path: Path) -> None:
    saved(tmp_path)
    again = Results(tmp_path, settings(tmp_path))
    assert CELL in again
    assert OTHER not in again


def test_a_cell_that_failed_keeps_its_reason_and_is_not_tried_again(tmp_path: Path) -> None:
    results, _ = saved(tmp_path)
    results.fail(OTHER, "labels of one class only")
    assert OTHER in results
    assert results.load(OTHER) == "labels of one class only"


def test_other_processes_and_another_place_make_no_other_study(tmp_path: Path) -> None:
    saved(tmp_path)
    moved = StudySettings("data", "pathology", tmp_path / "elsewhere", (224, 112), num_workers=4)
    assert CELL in Results(tmp_path, moved)
