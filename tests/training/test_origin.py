from __future__ import annotations

import datasets
from table_rows import TASKS, cohort

from mammo_hf.evaluation.after_training import Origin


def test_a_collections_counts_and_the_test_images_that_could_not_be_read(tmp_path):
    table = cohort(benign=4, malignant=2, unknown=1, test=3)
    rows = list(zip(table.column("image_id"), table.column("path"), table.column("split"), strict=True))
    lost = [next(row for row in rows if row[2] == split) for split in ("train", "test")]
    lines = [f"{path},the {split} image is cut short" for _, path, split in lost]
    (tmp_path / "rejected.csv").write_text("\n".join(["source,reason", *lines]) + "\n")
    there = [image for image, path, _ in rows if path not in {row[1] for row in lost}]
    prepared = datasets.Dataset.from_dict({"image_id": there})
    origin = Origin.of(table, prepared, tasks=TASKS, dataset=tmp_path, folder=tmp_path)
    assert origin.unreadable == ["the test image is cut short"]
    assert origin.facts["name"] == "made up"
    assert origin.facts["splits"]["test"]["images"] == 3
