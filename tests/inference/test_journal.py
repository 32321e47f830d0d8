import threading
import time
from pathlib import Path

import pytest

from mammo_hf.errors import UsageError
from mammo_hf.inference.journal import Journal, write_tables

PAIRS = [range(0, 2), range(2, 4), range(4, 6)]


def journal(tmp_path, total=6):
    opened = Journal(tmp_path / "scores.csv.part", 2, total)
    opened.open({"model": "m"})
    return opened


def test_rows_of_several_processes_come_in_the_list_s_order(tmp_path):
    for process, batches in ((0, [(0, 1), (4, 5)]), (1, [(2, 3)])):
        part = journal(tmp_path)
        part.begin(0, process)
        for batch in batches:
            part.write([(index, [f"{index}, with a comma", ""]) for index in batch])
        part.close()
    assert [row for _, row in journal(tmp_path).rows()] == [[f"{index}, with a comma", ""] for index in range(6)]
    assert journal(tmp_path).done(PAIRS).all()


def test_a_batch_that_was_cut_short_is_not_done_and_its_later_rows_count(tmp_path):
    first = journal(tmp_path)
    first.begin(0, 0)
    first.write([(0, ["a", ""]), (1, ["b", ""]), (2, ["old", ""])])
    first.close()
    with (first.folder / "0000-00000.csv").open("a") as file:
        file.write("3,cut")
    again = journal(tmp_path)
    assert again.done(PAIRS).tolist() == [True, False, False]
    assert again.next_run() == 1
    again.begin(1, 0)
    again.write([(2, ["new", ""]), (3, ["d", ""])])
    again.close()
    assert [(index, row[0]) for index, row in again.rows()] == [(0, "a"), (1, "b"), (2, "new"), (3, "d")]
    assert again.done(PAIRS).tolist() == [True, True, False]


def test_the_first_process_waits_for_the_others_of_its_own_run(tmp_path):
    waiting = journal(tmp_path)
    waiting.mark_finished(0, 1)
    waiting.mark_finished(1, 0)
    other = threading.Timer(0.3, waiting.mark_finished, (1, 1))
    other.start()
    started = time.monotonic()
    waiting.wait_for(1, 2)
    assert time.monotonic() - started >= 0.29
    other.join()


def test_another_run_s_rows_are_not_gone_on_with(tmp_path):
    journal(tmp_path)
    with pytest.raises(UsageError, match="another model, tta"):
        Journal(tmp_path / "scores.csv.part", 2, 6).open({"model": "other", "tta": True})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_said_in_one_sentence_that_names_the_output(tmp_path):
    journal = Journal(tmp_path / "scores.csv.part", 2, 6)
    journal.open({"model": "one"})
    (journal.folder / "0000-00000.csv").symlink_to("/dev/full")
    journal.begin(0, 0)
    for action in (lambda: journal.write([(0, ["a", "b"])]), journal.close):
        with pytest.raises(UsageError, match=r"scores\.csv\.part: the disk is full \(.* are free\); free space"):
            action()
    (journal.folder / "0000-00000.csv").unlink()  # reading from that device never ends
    with pytest.raises(UsageError, match=r"absent/scores\.csv: cannot be written to \(No such file"):
        write_tables(journal, tmp_path / "absent" / "scores.csv", ["file", "exam", "laterality", "view", "notes"], [])
