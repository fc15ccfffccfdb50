"""Scripts use what the package offers: public names, and none of the libraries that one room knows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
FILES = sorted(SCRIPTS.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_scripts_import_public_names(file: Path) -> None:
    ours = set()
    for node in ast.walk(tree := ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            if names[0] in ("splitlearn", "scripts"):
                assert not [name for name in names if name.startswith("_")]
                ours |= {alias.asname or alias.name for alias in node.names}
            assert names[0] != "jsonargparse"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            assert node.attr != "savefig", "figures are written by splitlearn.reporting"
            if isinstance(node.value, ast.Name) and node.value.id in ours:
                assert not node.attr.startswith("_"), f"{node.value.id}.{node.attr} is private"
