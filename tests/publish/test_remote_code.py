"""The processor's source travels as flat files, which hold all that it needs."""

import ast
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_import_files

import mammo_hf
from mammo_hf.publish.remote_code import AUTO_MAP, MODULE, flat_sources

PACKAGE = Path(mammo_hf.__file__).parent


def test_they_are_what_transformers_itself_would_follow():
    wanted = {Path(path).name for path in get_relative_import_files(PACKAGE / f"{MODULE}.py")}
    assert set(flat_sources()) == {*wanted, f"{MODULE}.py"}
    assert AUTO_MAP["AutoImageProcessor"].partition(".")[0] == MODULE
    assert all(content == (PACKAGE / name).read_bytes() for name, content in flat_sources().items())


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
    assert outside <= {"numpy", "scipy", "PIL", "torch", "transformers"}


def test_a_module_that_imports_from_a_folder_cannot_travel():
    with pytest.raises(ValueError, match="which is no flat sibling"):
        flat_sources("pipelines")
