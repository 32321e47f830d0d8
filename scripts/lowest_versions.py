"""The lowest versions that pyproject.toml admits, one requirement a line, for pip's ``-c``.

python scripts/lowest_versions.py codecs onnx > lowest.txt
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def lowest(requirement: str) -> str:
    """``name==version`` of a requirement's lower bound.

    Raises:
        ValueError: It has none.
    """
    parsed = Requirement(requirement)
    bounds = [one.version for one in parsed.specifier if one.operator in (">=", "==", "~=")]
    if len(bounds) != 1:
        raise ValueError(f"{requirement} has no lower bound")
    return f"{parsed.name}=={bounds[0]}"


def main(extras: list[str]) -> None:
    """Print the requirements of the package itself and of these extras."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    requirements = [
        *project["dependencies"],
        *(one for extra in extras for one in project["optional-dependencies"][extra]),
    ]
    print("\n".join(lowest(one) for one in requirements))


if __name__ == "__main__":
    main(sys.argv[1:])
