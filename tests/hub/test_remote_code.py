"""The processor's source travels as flat files, which hold all that it needs."""

import ast
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_import_files

from mammo_hf.hub.push import AUTO_MAP, MODULE, flat_sources


def test_they_are_what_transformers_itself_would_follow(tmp_path):
    for name, content in flat_sources().items():
        (tmp_path / name).write_bytes(content)
    wanted = {Path(path).name for path in get_relative_import_files(tmp_path / f"{MODULE}.py")}
    assert set(flat_sources()) == {*wanted, f"{MODULE}.py"}
    assert AUTO_MAP["AutoImageProcessor"].partition(".")[0] == MODULE


def test_they_need_nothing_that_transformers_does_not_bring_along():
    imported = {
        alias
        for source in flat_sources().values()
        for node in ast.walk(ast.parse(source))
        for alias in (
            [name.name for name in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    outside = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert outside <= {"numpy", "scipy", "PIL", "torch", "transformers", "fsspec"}


def test_a_module_that_imports_from_a_folder_cannot_travel():
    with pytest.raises(ValueError, match="which is not a flat sibling"):
        flat_sources("inference.pipeline")
