"""The processor's source as flat sibling files, which transformers takes from a repository where it is trusted.

With them ``AutoImageProcessor.from_pretrained(name, trust_remote_code=True)`` works where mammo_hf is not installed,
for arrays and PIL images. What reads DICOM does not travel.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib import resources

MODULE = "image_processing_mammo"
AUTO_MAP = {"AutoImageProcessor": f"{MODULE}.MammoImageProcessor"}


@cache
def flat_sources(module: str = MODULE) -> dict[str, bytes]:
    """A module of this package and every sibling that it imports, by file name.

    Raises:
        ValueError: One of them imports from a folder of the package, where transformers would not look.
    """
    folder = resources.files("mammo_hf")
    found: dict[str, bytes] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if f"{name}.py" in found:
            continue
        source = folder.joinpath(f"{name}.py").read_bytes()
        found[f"{name}.py"] = source
        waiting += _siblings(source, name)
    return dict(sorted(found.items()))


def _siblings(source: bytes, name: str) -> list[str]:
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.level]
    for node in imports:
        if node.level > 1 or node.module is None or "." in node.module:
            raise ValueError(f"{name}.py imports from {'.' * node.level}{node.module or ''}, which is no flat sibling")
    return [str(node.module) for node in imports]
