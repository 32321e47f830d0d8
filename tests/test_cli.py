import os
import subprocess
import sys

import pytest

from mammo_hf.cli import COMMANDS, main


def test_help_and_version(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert main(["--version"]) == 0


@pytest.mark.parametrize("arguments", [[], ["dance"]])
def test_no_or_unknown_command_is_status_two(arguments, capsys):
    assert main(arguments) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_its_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "mammo-hf" in capsys.readouterr().out


def test_explainers_lists_ours(capsys):
    assert main(["explainers"]) == 0
    assert "grad_cam_attention" in capsys.readouterr().out


def test_importing_us_loads_nothing_heavy_and_says_nothing():
    code = "import sys, mammo_hf; print(sorted({'torch', 'transformers', 'datasets', 'pydicom'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.slow
def test_processor_and_pipeline_are_known_whichever_is_imported_first():
    for code in ("import mammo_hf, transformers", "import transformers.pipelines, mammo_hf"):
        check = (
            f"{code}\nfrom transformers.pipelines import PIPELINE_REGISTRY\n"
            "print('mammogram-classification' in PIPELINE_REGISTRY.get_supported_tasks())"
        )
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
        assert done.stdout.strip() == "True", done.stderr


@pytest.mark.parametrize("command", ["--help", pytest.param("explainers", marks=pytest.mark.slow)])
def test_a_reader_that_has_gone_is_no_error(command):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "mammo_hf", command], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
