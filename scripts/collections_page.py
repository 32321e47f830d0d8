"""Write docs/collections.md from what each collection's own file says of it.

python scripts/collections_page.py
"""

from __future__ import annotations

from pathlib import Path

from mammo_hf.data.datasets.discovery import describe, find_source
from mammo_hf.data.datasets.folder import NAME as FOLDER

PAGE = Path(__file__).resolve().parents[1] / "docs" / "collections.md"
SOURCES = (
    *("cbis-ddsm", "vindr-mammo", "rsna-2022", "embed", "inbreast", "cmmd", "breast-cancer-screening-dbt"),
    *("cdd-cesm", "cdd-cesm-index", "ddsm", "mini-mias", FOLDER, "csv"),
)
INTRODUCTION = """# Collections

After this page you can say what a known collection holds, on which terms, and how it is split.

What each collection holds, its terms, its split and its peculiarities, as its own file in `mammo_hf/data/datasets`
says: a module, or a mapping in `mappings`. `mammo-hf load FOLDER` recognises a collection by its files, and counts what
is there.
"""


def page() -> str:
    """Return the page."""
    return "\n".join([INTRODUCTION, *(describe(find_source(name)) for name in SOURCES)])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE}")
