"""The commands of both stages: which options they take, from where, and how errors name them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

import mammo_hf
from mammo_hf.cli import finetune, main, pretrain
from mammo_hf.cli.running import named_as_flags
from mammo_hf.cli.stages import parse_stage
from mammo_hf.errors import UsageError


def parsed(module, *arguments):
    return parse_stage(module.parser(), list(map(str, arguments)))


def test_only_given_options_reach_the_function():
    assert parsed(finetune, "--dataset", "data", "--tune", "head") == {"dataset": "data", "tune": "head"}


def test_own_options_have_their_types():
    given = ["--image_size", 448, 224, "--task_weights", 1, 0.5, "--near_duplicates", "--load_best_model_at_end", "no"]
    assert parsed(finetune, *given) == {
        "image_size": [448, 224],
        "task_weights": [1.0, 0.5],
        "near_duplicates": True,
        "load_best_model_at_end": False,
    }


def test_trainers_options_are_taken_too():
    given = ["--max_steps", 5, "--bf16", "--mask_ratio", 0.75, "--gradient_accumulation_steps", 2]
    assert parsed(pretrain, *given) == {
        "max_steps": 5,
        "bf16": True,
        "mask_ratio": 0.75,
        "gradient_accumulation_steps": 2,
    }


def test_a_configuration_is_read_and_the_command_line_goes_before_it(tmp_path):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"model": "nano", "learning_rate": 0.5, "max_steps": 3}))
    given = parsed(pretrain, "--config", tmp_path / "run.yaml", "--learning_rate", "0.25")
    assert given == {"model": "nano", "learning_rate": 0.25, "max_steps": 3}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--label_percentag", "25"],
            "--label_percentag: is not an option of mammo-hf finetune; did you mean --label",
        ),
        (["--max_step", "5"], "did you mean --max_steps?"),
        (["--near_duplicates", "perhaps"], "neither true nor false"),
        (["--learning_rate", "fast"], "invalid float value"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read as YAML"),
        (["data"], "is one argument too many"),
    ],
)
def test_a_wrong_option_is_named_with_the_nearest_right_one(arguments, says):
    with pytest.raises(UsageError) as caught:
        parsed(finetune, *arguments)
    assert says in str(caught.value)


@pytest.mark.parametrize("module", ["pretrain", "finetune"])
def test_help_needs_no_torch(module):
    code = (
        f"import sys; from mammo_hf.cli.{module} import parser; parser().format_help();"
        "print(sorted({'torch', 'transformers', 'datasets', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_help_all_shows_trainers_arguments(capsys):
    assert parsed(pretrain, "--help-all") is None
    text = capsys.readouterr().out
    assert "--mask_ratio" in text
    assert "--gradient_accumulation_steps" in text


def test_a_message_names_keywords_in_python_and_flags_on_the_command_line(tmp_path, capsys):
    for name in ("config.json", "metrics.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match=r"another `output_dir`, `overwrite_output_dir=True`"):
        mammo_hf.finetune(tmp_path, tmp_path, model="nano")
    assert main(["finetune", "--dataset", str(tmp_path), "--output_dir", str(tmp_path), "--model", "nano"]) == 2
    assert "give another --output_dir, --overwrite_output_dir true, or --resume" in capsys.readouterr().err
    with (
        pytest.raises(UsageError, match="--missing_label_percentage: is 0; see --missing_label_percentage 25, `other`"),
        named_as_flags({"label_percentage": "--missing_label_percentage"}),
    ):
        raise UsageError("is 0", source="label_percentage", remedy="see `label_percentage=25`, `other`")
