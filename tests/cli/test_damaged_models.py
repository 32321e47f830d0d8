"""A damaged or foreign model's folder, through every door: used if the damage does not matter, or one sentence."""

import json
import re
import shutil

import pytest
import torch
import transformers
from made_checkpoint import made_checkpoint

from mammo_hf import MammoImageProcessor, MammoSwinConfig, MammoSwinForImageClassification, cli
from mammo_hf.data.splits import read_seen
from mammo_hf.errors import DataError, MammoError
from mammo_hf.models.checkpoint import load_model, load_processor, read_classifier_config, starting_config
from mammo_hf.phantom.writing import write_phantom

FILES = (
    *("config.json", "model.safetensors", "preprocessor_config.json", "metrics.json"),
    *("terms.json", "split.json", "README.md"),
)
DAMAGES = {
    "removed": None,
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "end lost": lambda content: content[:-2],
    "of another kind": lambda content: b"\xff\xfe{}[]\0" * 40,
    "a list": lambda content: b"[1]",
    "no text": lambda content: b"{}",
    "nested deeply": lambda content: b"[" * 100_000,
    "bits turned": lambda content: bytes(byte ^ 0x5A if place % 7 == 3 else byte for place, byte in enumerate(content)),
}
OTHER_VALUES = (None, [[1]], {"a": 1}, "x", -1, 10**9)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = made_checkpoint(tmp_path_factory.mktemp("model") / "cls")
    (folder / "split.json").write_text(json.dumps({"splits": {"0123456789abcdef": "train"}, "seen_before": []}))
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    write_phantom(root, patients=1, seed=0, size=(112, 56), num_workers=1, progress=False)
    return min(root.rglob("*.dcm"))


def scored(folder):
    size = read_classifier_config(folder)["image_size"]
    if size == [112, 56]:
        load_model(MammoSwinForImageClassification, folder)(torch.zeros(1, 1, 112, 56))


def tried(call, *arguments):
    """Whether a call passes; anything but one error of ours ends the test."""
    try:
        call(*arguments)
    except MammoError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_command_says_in_one_sentence_what_is_damaged(sound, image, tmp_path, capsys, name):
    for number, (damage, change) in enumerate(DAMAGES.items()):
        folder = shutil.copytree(sound, tmp_path / str(number))
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        if change is not None:
            (folder / name).write_bytes(change(content))
        commands = {
            "predict": [folder, image, "--output", tmp_path / f"{number}.csv", "--num_workers", 0, "--device", "cpu"],
            "card": [folder],
            "push": [folder, "lab/model"],  # nothing is sent: tests are offline
            "explain": [folder, image, "--output_dir", tmp_path / f"pictures{number}"],
        }
        # the records are not what scores come from
        scores = ["predict", "explain"] if name in FILES[:3] else []
        for command in (["card", "push"][number % 2], *scores[number % 2 :][:1]):
            status = cli.main([command, *map(str, commands[command])])
            said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
            assert len(said) == (1 if status else 0), (command, damage, said)
        tried(starting_config, folder, (112, 56))
        tried(read_seen, folder)
        if name == "config.json":
            assert not tried(read_classifier_config, folder), damage
        if name == "model.safetensors":
            assert not tried(load_model, MammoSwinForImageClassification, folder), damage


DOORS = {
    "config.json": (MammoSwinConfig.from_pretrained, MammoSwinForImageClassification.from_pretrained),
    "model.safetensors": (MammoSwinForImageClassification.from_pretrained,),
    "preprocessor_config.json": (
        MammoImageProcessor.from_pretrained,
        lambda folder: transformers.pipeline("mammogram-classification", model=str(folder)),
    ),
}


@pytest.mark.parametrize("name", DOORS)
def test_our_classes_and_the_pipeline_name_the_damaged_file(sound, tmp_path, name):
    for number, (damage, change) in enumerate(DAMAGES.items()):
        folder = shutil.copytree(sound, tmp_path / str(number))
        if change is None:
            continue
        (folder / name).write_bytes(change((sound / name).read_bytes()))
        for door in DOORS[name][: None if damage != "no text" else 1]:  # an empty object is of no kind yet
            with pytest.raises(DataError, match=re.escape(name)) as caught:
                door(folder)
            assert "copy or download the file again" in str(caught.value), damage
    (folder / "config.json").unlink()
    for door in DOORS["config.json"]:
        with pytest.raises(DataError, match=r"config\.json: there is no such file; give the folder of a model"):
            door(folder)


def test_no_value_of_another_type_in_a_configuration_escapes(sound, tmp_path):
    folder = shutil.copytree(sound, tmp_path / "cls")
    whole = json.loads((sound / "config.json").read_text())
    task, refused = whole["tasks"][0], 0
    cases = [(key, value) for key in whole for value in OTHER_VALUES]
    cases += [("tasks", [{**task, part: value}]) for part in task for value in OTHER_VALUES]
    for key, value in cases:
        (folder / "config.json").write_text(json.dumps({**whole, key: value}))
        if tried(read_classifier_config, folder):
            tried(scored, folder)
        else:
            refused += 1
            with pytest.raises(MammoError, match=r"config\.json|is a model of type|is not a classifier"):
                read_classifier_config(folder)
    assert refused > len(cases) // 2


def test_no_value_of_another_type_in_a_processor_or_terms_escapes(sound, tmp_path):
    folder = shutil.copytree(sound, tmp_path / "cls")
    whole = json.loads((sound / "preprocessor_config.json").read_text())
    passed = 0
    for key in whole:
        for value in OTHER_VALUES:
            (folder / "preprocessor_config.json").write_text(json.dumps({**whole, key: value}))
            passed += tried(load_processor, folder)
    assert passed < len(whole) * len(OTHER_VALUES) // 2
    (entry,) = json.loads((sound / "terms.json").read_text())["terms"]
    for key in entry:
        for value in OTHER_VALUES[:3]:
            (folder / "terms.json").write_text(json.dumps({"terms": [{**entry, key: value}]}))
            assert cli.main(["push", str(folder), "lab/model"]) == 1
    for earlier in (None, "0123456789abcdef", [3], {"a": 1}):
        (folder / "split.json").write_text(json.dumps({"splits": {"0" * 16: "train"}, "seen_before": earlier}))
        assert not tried(read_seen, folder)
