from __future__ import annotations

import pytest

from mammo_hf.data.datasets.csv_source import MAPPINGS
from mammo_hf.data.datasets.mapping import Field, read_mapping
from mammo_hf.data.schema import TASKS
from mammo_hf.errors import DataError, UsageError

SMALL = """
name = "mine"
licence = "ours alone"
[images]
table = "t.csv"
path = "{file}"
[columns]
patient = "{pid}"
[tasks.density]
from = "{d}"
"""


def read(tmp_path, text):
    (tmp_path / "m.toml").write_text(text)
    return read_mapping(tmp_path / "m.toml")


def test_a_template_is_filled_from_columns():
    field = Field("images/{study id}/{image}.dcm")
    assert field.columns() == ["study id", "image"]
    assert field.text({"study id": "a b", "image": "1"}) == "images/a b/1.dcm"
    assert Field("{absent}").text({}) == ""


def test_words_are_parted_cleaned_and_the_unknown_left_out():
    field = Field("{x}", unknown=("No Finding",), separator=",")
    assert field.words({"x": "['Mass', \"No Finding\", 'Skin Retraction']"}) == ["Mass", "Skin Retraction"]
    assert Field("{x}", unknown=("_",)).words({"x": "_"}) == Field("{x}").words({"x": ""}) == []


def test_a_mapping_in_full(tmp_path):
    mapping = read(tmp_path, SMALL)
    assert (mapping.name, mapping.table, mapping.is_private) == ("mine", "t.csv", False)
    assert mapping.tasks == {"density": ("a", "b", "c", "d")}
    assert (mapping.severity, read(tmp_path, SMALL + "severity = true\n").severity) == (set(), {"density"})


@pytest.mark.parametrize("path", sorted(MAPPINGS.glob("*.toml")), ids=lambda path: path.stem)
def test_ours_are_valid_and_say_what_they_must(path):
    mapping = read_mapping(path)
    assert mapping.name == path.stem
    assert mapping.quirks
    for task, labels in mapping.tasks.items():
        assert list(labels) == [label for label in TASKS.get(task, labels) if label in labels]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name = "mine"', "", "key 'name' is missing"),
        ('patient = "{pid}"', "", "columns.patient is needed"),
        ('path = "{file}"', "", "images.path must say"),
        ('table = "t.csv"', "", "either a table, or headers"),
        ("[columns]", "[columns]\nsex = '{s}'", "columns.sex is not a key of a mapping"),
        ('from = "{d}"', 'from = "{d}"\nvalues = { 1 = "A" }', "must lead to a, b, c, d"),
        ("tasks.density", "tasks.grade", "tasks.grade is not a common task"),
        ('from = "{d}"', "from = [1]", "tasks.density.from must be a template"),
        ('"{pid}"', "7", "columns.patient must be a template"),
        ("[images]", "[images", "is not TOML"),
    ],
)
def test_a_wrong_mapping_says_which_key(tmp_path, old, new, problem):
    with pytest.raises(DataError, match=r"m\.toml") as caught:
        read(tmp_path, SMALL.replace(old, new))
    assert problem in str(caught.value)


def test_no_mapping(tmp_path):
    with pytest.raises(UsageError, match="a mapping is a TOML file"):
        read_mapping(tmp_path / "m.toml")
