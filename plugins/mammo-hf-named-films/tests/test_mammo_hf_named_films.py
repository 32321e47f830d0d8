import mammo_hf_named_films
import numpy as np
import pytest
from PIL import Image

from mammo_hf.errors import DataError
from mammo_hf.testing import check_source

FILMS = ("p01_L_CC_benign", "p01_R_CC_benign", "p02_L_MLO_malignant", "p03_L_CC", "notes")


@pytest.fixture
def folder(tmp_path):
    for name in FILMS:
        Image.fromarray(np.full((64, 32), 90, np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_keeps_the_contract(folder):
    table = check_source(mammo_hf_named_films, folder)
    assert table.column("pathology") == ["benign", "benign", "malignant", None]
    assert len(set(table.column("patient"))) == 3
    assert [entry.reason for entry in table.rejected] == ["its name does not follow the rule"]


def test_a_folder_of_other_films_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no film; named-films needs films such as p07_L_CC_malignant\.png"):
        mammo_hf_named_films.load(tmp_path)
