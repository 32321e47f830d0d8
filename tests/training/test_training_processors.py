"""Which processor a training uses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from mammo_hf import MammoImageProcessor
from mammo_hf.data.loading import load
from mammo_hf.data.prepare.running import prepare_images
from mammo_hf.data.training_data import processor_differences, training_processor
from mammo_hf.errors import MammoError


def saved(folder, **arguments):
    MammoImageProcessor(**arguments).save_pretrained(folder)
    return folder


@pytest.fixture
def prepared(tmp_path):
    films = tmp_path / "films"
    films.mkdir()
    Image.fromarray(np.full((40, 20), 90, np.uint8)).save(films / "a.png")
    (films / "films.csv").write_text("patient,file\np1,a.png\n")
    (films / "ours.toml").write_text(
        'name = "ours"\nlicence = "ours alone"\nquirks = []\n[images]\ntable = "films.csv"\npath = "{file}"\n'
        '[columns]\npatient = "{patient}"\n[tasks.pathology]\nfrom = "{patient}"\nunknown = ["p1"]\n'
    )
    processor = MammoImageProcessor(size=(64, 32), crop_margin=0.1)
    prepare_images(load(films / "ours.toml"), processor, tmp_path / "prepared")
    return tmp_path / "prepared"


def test_the_named_one_goes_before_the_prepared_folders_and_that_before_the_starts(prepared, tmp_path):
    named = saved(tmp_path / "named", size=(32, 32), crop_margin=0.2)
    start = saved(tmp_path / "start", size=(96, 48), crop_margin=0.3)
    everything = {"start": start, "named": named}
    assert training_processor(prepared, **everything).crop_margin == 0.2
    assert training_processor(prepared, start=start).crop_margin == 0.1
    assert training_processor(tmp_path / "films", start=start).crop_margin == 0.3
    assert training_processor(tmp_path / "films", start="tiny").to_dict() == MammoImageProcessor((448, 224)).to_dict()


def test_size_and_changes_are_all_that_is_changed(tmp_path):
    start = saved(tmp_path / "start", size=(96, 48), tomosynthesis="all", window="SOFTER")
    found = training_processor(tmp_path, start=start, size=(64, 64), mask_ratio=0.75)
    assert (found.canvas, found.mask_ratio) == ((64, 64), 0.75)
    assert (found.tomosynthesis["slices"], found.window) == ("all", "SOFTER")
    assert training_processor(tmp_path, start=start).canvas == (96, 48)


@pytest.mark.parametrize("content", ['{"image_processor_type": "ViTImageProcessor", "size": 7}', "no JSON", "[]"])
def test_somebody_elses_processor_beside_a_start_is_not_taken(tmp_path, content):
    (tmp_path / "preprocessor_config.json").write_text(content)
    assert training_processor(tmp_path / "data", start=tmp_path).canvas == (448, 224)


def test_a_named_one_that_is_none_is_refused(tmp_path):
    with pytest.raises(MammoError, match="preprocessor_config"):
        training_processor(tmp_path, named=tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "MammoImageProcessor", "weather": 1})
    )
    with pytest.raises(MammoError, match="weather"):
        training_processor(tmp_path, named=tmp_path)


def test_in_what_a_checkpoint_saw_other_images(tmp_path):
    start = saved(tmp_path / "start", size=(96, 48), crop_margin=0.3)
    assert processor_differences(start, MammoImageProcessor(size=(96, 48), crop_margin=0.3)) == []
    found = processor_differences(start, MammoImageProcessor(size=(64, 48)))
    assert found == ["crop_margin 0.3, not 0.02", "size {'height': 96, 'width': 48}, not {'height': 64, 'width': 48}"]
    assert processor_differences("scratch", MammoImageProcessor()) == []
