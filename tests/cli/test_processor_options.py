"""Every command that reads images takes the settings of how they are read, in place of a processor's own."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mammo_hf import MammoImageProcessor
from mammo_hf.cli import main
from mammo_hf.cli.running import PROCESSOR_OPTIONS, Parser, processor_settings
from mammo_hf.cli.stages import parse_stage
from mammo_hf.dicom import mammogram_dataset
from mammo_hf.errors import UsageError
from mammo_hf.phantom.exam import draw_exam
from mammo_hf.processing.image_processing_mammo import SETTINGS

VALUES = {
    **{"window": "1", "prefer": "window", "on_missing_window": "full_range", "on_missing_end": "note"},
    **{"on_useless_display": "robust", "orientation": "header", "use_descriptions": "false", "any_anatomy": "true"},
    **{"tomosynthesis": "all", "invert_negatives": "false", "blank_pectoral_muscle": "true"},
    **{"equalize_ranks": "true", "decode": "fast"},
}
FLAGS = [word for name, value in VALUES.items() for word in (f"--{name}", value)]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A mammogram and a radiograph of a hand, both with the phantom's pixels."""
    folder = tmp_path_factory.mktemp("archive")
    pixels = draw_exam(1, size=(224, 112)).images["LEFT", "CC"]
    for name in ("breast", "hand"):
        dataset = mammogram_dataset(pixels.astype(np.uint16), laterality="L", view="CC")
        if name == "hand":
            dataset.Modality, dataset.BodyPartExamined, dataset.SOPInstanceUID = "DX", "HAND", "1.2.3"
            del dataset.AnatomicRegionSequence
        dataset.save_as(folder / f"{name}.dcm", enforce_file_format=True)
    return folder


def test_every_setting_has_an_option_and_its_value_reaches_the_processor():
    assert set(PROCESSOR_OPTIONS) == set(SETTINGS) == set(VALUES)
    parser = Parser("mammo-hf x", "", "")
    parser.add_processor_options()
    given = vars(parser.parse_args(FLAGS))
    processor = MammoImageProcessor().with_settings(processor_settings(given))
    assert given == {}
    changed = processor.to_dict()
    assert changed["window"] == 1
    assert changed["tomosynthesis"] == {"slices": "all", "projection": "maximum"}
    before = MammoImageProcessor().to_dict()
    assert {name for name in changed if changed[name] != before[name]} == set(SETTINGS)


@pytest.mark.parametrize("name", ["size", "orient", "any_anatomie"])
def test_what_is_no_setting_is_refused(name):
    with pytest.raises(UsageError, match=name):
        MammoImageProcessor().with_settings({name: 1})


@pytest.mark.parametrize(
    "command",
    [
        *("predict", "explain", "prepare", "inspect", "crops", "evaluate", "app", "analysis"),
        *("label-efficiency", "evaluate-explanations"),
    ],
)
def test_commands_take_all_of_them(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = capsys.readouterr().out
    assert [name for name in VALUES if f"--{name} " not in shown] == []


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_stages_take_all_of_them_and_repeat_those_of_a_run(stage, tmp_path):
    module = __import__(f"mammo_hf.cli.{stage}", fromlist=["parser"])
    (tmp_path / "run.yaml").write_text("processor_settings: {any_anatomy: true, prefer: lut}\n")
    given = parse_stage(module.parser(), ["--config", str(tmp_path / "run.yaml"), "--prefer", "window"])
    assert given == {"processor_settings": {"any_anatomy": True, "prefer": "window"}}


def test_a_hand_is_read_by_inspect_crops_load_and_prepare_only_if_that_is_asked_for(archive, tmp_path, capsys):
    for asked, count in (([], 1), (["--any_anatomy"], 2)):
        main(["inspect", str(archive), "--json", *asked])
        reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert sum(report["refused"] is None for report in reports) == count
        out = tmp_path / f"{count}"
        assert main(["crops", str(archive), "--output_dir", str(out / "crops"), *asked]) == 0
        assert capsys.readouterr().out.startswith(f"{count} images")
        assert main(["load", str(archive), *asked]) == 0
        assert f": {count} images of" in capsys.readouterr().out
        options = ["--output_dir", str(out / "prepared"), "--image_size", "112", "56", *asked]
        assert main(["prepare", str(archive), *options]) == 0
        assert capsys.readouterr().out.startswith(f"{count} images")
        assert MammoImageProcessor.from_pretrained(out / "prepared").any_anatomy is bool(asked)


def test_overrides_reach_inspect_and_crops(archive, tmp_path, capsys):
    fixes = tmp_path / "fixes.csv"
    fixes.write_text("path,laterality,view,skip\nbreast.dcm,R,MLO,\nhand.dcm,,,yes\n")
    assert main(["inspect", str(archive), "--json", "--overrides", str(fixes)]) == 0
    breast, hand = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (breast["laterality"], breast["view"], breast["view_source"]) == ("R", "MLO", "overrides file")
    assert "the overrides file gives laterality R, view MLO in place of the header" in breast["contradictions"]
    assert hand["code"] == "skipped"
    assert main(["inspect", str(archive), "--overrides", str(fixes)]) == 0
    counts = capsys.readouterr().out.splitlines()[-2:]
    assert (counts[0][:7], "1 overridden" in counts[0], counts[1]) == ("notes: ", True, "refusals: 1 skipped")
    assert main(["crops", str(archive), "--output_dir", str(tmp_path / "crops"), "--overrides", str(fixes)]) == 0
    first, *counts = capsys.readouterr().out.splitlines()
    assert "0 with a mask that may be wrong (first on the sheets), 1 not read" in first
    assert ("1 overridden" in counts[0], counts[1]) == (True, "refusals: 1 skipped")
    assert main(["predict", "model", str(archive), "--output", "x.csv", "--overrides", str(tmp_path / "none.csv")]) == 2
    assert "none.csv: no such file" in capsys.readouterr().err
