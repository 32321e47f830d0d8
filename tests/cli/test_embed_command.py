"""mammo-hf embed and encoders, as a new user calls them."""

import pytest
from hub_fixtures import checkpoint, trained

from mammo_hf.cli import main
from mammo_hf.phantom.writing import write_phantom

__all__ = ["checkpoint", "trained"]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "cbis"
    write_phantom(root, patients=2, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


def test_a_trial_then_all_then_nothing(films, checkpoint, tmp_path, capsys):
    command = ["embed", str(films), "--encoder", str(checkpoint), "--output_dir", str(tmp_path / "out")]
    assert main([*command, "--limit", "2"]) == 0
    trial = capsys.readouterr().out
    assert "all 8 images will take" in trial
    assert "next: the same command without --limit" in trial
    assert (tmp_path / "out" / "tiles.png").is_file()
    assert main(command) == 0
    assert f"next: mammo-hf finetune --dataset {tmp_path / 'out'}" in capsys.readouterr().out
    assert main(command) == 0
    assert "none read now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--encoder", "tiny"], "tiny: is the name of a size"),
        (["--encoder", "CHECKPOINT", "--spacing", "0"], "--spacing: is 0.0; it must be above 0"),
        (["--encoder", "CHECKPOINT", "--overlap", "1"], "--overlap: is 1.0; it must be from 0 to 0.9"),
        (["--encoder", "CHECKPOINT", "--limit", "0"], "--limit: is 0; it must be 1 or more"),
        (["--encoder", "CHECKPOINT", "--image_size", "50", "50"], "sides are multiples of 8, not 50 x 50"),
    ],
)
def test_wrong_options_are_refused_before_an_image_is_read(films, checkpoint, tmp_path, capsys, options, problem):
    options = [str(checkpoint) if option == "CHECKPOINT" else option for option in options]
    assert main(["embed", str(films), "--output_dir", str(tmp_path / "out"), *options]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out" / "layout.json").exists()
