from table_rows import TASKS, cohort, make_row, make_table

from mammo_hf.data.training_data import PHANTOMS, collection_facts
from mammo_hf.files import MARKER


def test_counts_by_split():
    facts = collection_facts(cohort(benign=4, malignant=2, unknown=1, test=2), TASKS)
    assert facts["name"] == "made up"
    train = facts["splits"]["train"]
    assert (train["images"], train["patients"]) == (14, 7)
    assert train["labels"]["pathology"] == {"benign": 10, "malignant": 2}
    assert list(facts["splits"]) == ["train", "test"]


def test_a_private_collection_has_no_name_and_phantoms_have_their_own(tmp_path):
    table = make_table([make_row("a")])
    table.salt_name = "private"
    assert collection_facts(table, TASKS)["name"] is None
    (tmp_path / MARKER).write_text("{}")
    drawn = cohort()
    drawn.root = str(tmp_path)
    assert collection_facts(drawn, TASKS)["name"] == PHANTOMS
