import pytest

from mammo_hf.evaluation.report import command_line


def test_of_a_path_its_last_part_alone():
    assert command_line(["/home/erika/bin/mammo-hf", "mim", "--dataset", "/data/erika/cbis"]) == (
        "mammo-hf mim --dataset cbis"
    )


@pytest.mark.parametrize(
    "given", [["--hub_token", "hf_secret"], ["--hub-token=hf_secret"], ["--token", "hf_secret", "--seed", "1"]]
)
def test_a_token_is_not_told(given):
    told = command_line(["mammo-hf", "mim", *given])
    assert "secret" not in told
    assert "..." in told
    assert ("--seed 1" in told) == ("--seed" in given)
