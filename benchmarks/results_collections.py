"""Tables of real collections for the published results that no source gives: other labels, and pairs of collections."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from mammo_hf.data.loading import load


def write_tables(work: Path, mini_mias: Path, ddsm: Path, cdd_cesm: Path) -> None:
    """Tables that no source has: mini-MIAS as abnormal or not, and pairs of collections, one to train and one to test.

    DDSM and mini-MIAS train, CDD-CESM tests. Dense is BI-RADS c and d there, and mini-MIAS' third tissue here.
    """
    folders = {"mini-mias": mini_mias, "ddsm": ddsm, "cdd-cesm-index": cdd_cesm}
    films, breasts, outside = (load(name, folder) for name, folder in folders.items())
    no_yes = {False: "no", True: "yes"}
    abnormal = [(row, "train", no_yes[row["abnormality"] != "normal"]) for row in films]
    dense = [(row, "train", no_yes[row["tissue"] == "dense"]) for row in films]
    dense += [(row, "test", no_yes[row["density"] in ("c", "d")]) for row in outside if row["density"]]
    pathology = [
        (row, side, row["pathology"]) for rows, side in ((breasts, "train"), (outside, "test")) for row in rows
    ]
    _write_table(work / "tables", "abnormal", "abnormal", ("no", "yes"), abnormal, folders)
    _write_table(work / "tables", "dense", "dense", ("no", "yes"), dense, folders)
    _write_table(work / "tables", "breasts", "pathology", ("benign", "malignant"), pathology, folders)


def write_exams(out: Path, ddsm_films: Path, exams: int = 50) -> None:
    """Write a list of the films of some exams of DDSM, and their exams, sides and views as an overrides file."""
    out.mkdir(parents=True, exist_ok=True)
    with (ddsm_films / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = set(list(dict.fromkeys(row["case"] for row in rows))[:exams])
    rows = [row for row in rows if row["case"] in chosen]
    paths = [(ddsm_films / row["path"]).resolve() for row in rows]
    (out / "films.txt").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    with (out / "exams.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "exam", "laterality", "view"])
        writer.writerows(
            [path, row["case"], row["laterality"], row["view"]] for path, row in zip(paths, rows, strict=True)
        )


def _write_table(
    out: Path, name: str, task: str, labels: tuple[str, ...], rows: list[Any], folders: dict[str, Path]
) -> None:
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    for source, of_source in folders.items():
        (folder / source).unlink(missing_ok=True)
        (folder / source).symlink_to(Path(of_source).resolve(), target_is_directory=True)
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "patient", "side", "view", "split", "label"])
        for row, split, label in rows:
            path = Path(row["source"]) / Path(row["path"]).relative_to(folders[row["source"]])
            writer.writerow([path, row["patient"], row["laterality"], row["view"], split, label])
    (folder / f"{name}.toml").write_text(
        f'name = "{name}"\nlicence = "as the collections"\n[images]\ntable = "table.csv"\npath = "{{path}}"\n'
        '[columns]\npatient = "{patient}"\nexam = "{patient}"\nlaterality = "{side}"\nview = "{view}"\n'
        'split = "{split}"\n'
        f'[tasks.{task}]\nfrom = "{{label}}"\nlabels = {json.dumps(labels)}\n',
        encoding="utf-8",
    )
