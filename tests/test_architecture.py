"""The arrows of the house: who may import whom, held by parsing every file."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import splitlearn

PACKAGE = Path(splitlearn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted(path for path in (PACKAGE.parent / "scripts").rglob("*.py") if not path.is_symlink())

ROOT = {
    "outputs",
    "files",
    "addresses",
    "latencies",
    "jit",
    "numpy_quantizers",
    "discovery",
    "parts",
    "decoding",
    "processes",
    "resource_errors",
    "kept_dtypes",
    "shipped",
    "splitlearn",
}
LOW = {"codecs", "quantizers", "losses", "metrics", "data"}
MIDDLE = {"tasks", "analysis"}
MAY_IMPORT: dict[str, set[str]] = {
    "splitlearn": set(),
    "outputs": set(),
    "files": {"resource_errors"},
    "addresses": set(),
    "latencies": {"files", "resource_errors"},
    "resource_errors": set(),
    "discovery": set(),
    "parts": {"discovery", "outputs"},
    "decoding": {"resource_errors"},
    "processes": set(),
    "shipped": set(),
    "kept_dtypes": set(),
    "jit": set(),
    "numpy_quantizers": {"jit"},
    **{room: set(ROOT) for room in sorted(LOW)},
    "models": ROOT | LOW,
    **{room: ROOT | LOW | {"models"} for room in sorted(MIDDLE)},
    "sweep": ROOT | LOW | MIDDLE | {"models"},
    "deploy": ROOT | LOW | MIDDLE | {"models"},
    "testing": ROOT | LOW | {"models"},
    "reporting": ROOT | LOW | MIDDLE | {"models", "sweep", "deploy"},
    "runtime": ROOT | LOW | MIDDLE | {"models", "sweep", "deploy", "reporting"},
    "config": ROOT | LOW | MIDDLE | {"models", "sweep", "deploy", "reporting", "runtime"},
    "commands": ROOT | LOW | MIDDLE | {"models", "sweep", "deploy", "reporting", "runtime", "config"},
    "__main__": {"commands"},
}

DOORS = {
    ("splitlearn.models.pretrained", "splitlearn.deploy.pretrained")
}  # opened inside a function, when it is called


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path, at_load: bool = False) -> set[str]:
    """Names of all modules that a file imports, those inside functions included unless only loading counts."""
    found: set[str] = set()
    todo: list[ast.AST] = [parsed(path)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
            found |= {ast.unparse(argument).strip("f'") for argument in node.args[:1]}
        elif at_load and (isinstance(node, (ast.FunctionDef, ast.Lambda)) or _only_for_types(node)):
            continue
        todo += ast.iter_child_nodes(node)
    return found


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def of_ours(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "splitlearn"}


def test_the_parser_sees_what_it_should(tmp_path: Path) -> None:
    (tmp_path / "hidden.py").write_text(
        "import importlib\nimportlib.import_module('splitlearn.commands')\n"
        "def later(name):\n    __import__(f'splitlearn.{name}')\n    importlib.import_module(name)\n"
    )
    assert of_ours(imports(tmp_path / "hidden.py")) == {"splitlearn.commands", "splitlearn.{name}"}
    here = imports(Path(__file__))
    assert {"ast", "splitlearn", "graphlib"} <= here
    assert "splitlearn.config.trainer" in imports(PACKAGE / "commands" / "command_line.py")
    assert "splitlearn.config.trainer" not in imports(PACKAGE / "commands" / "command_line.py", at_load=True)


def test_every_room_has_its_place() -> None:
    assert {room(module) for module in MODULES} <= MAY_IMPORT.keys()


def may_import(module: str, target: str) -> bool:
    here, there = room(module), room(target)
    return there == here or there in MAY_IMPORT[here] or (module, target) in DOORS


def test_arrows_go_one_way() -> None:
    arrows = [(module, target) for module, path in MODULES.items() for target in of_ours(imports(path))]
    assert len(arrows) > len(MODULES)
    assert not [f"{module} must not import {target}" for module, target in arrows if not may_import(module, target)]


ARCHITECTURE = PACKAGE.parent / "ARCHITECTURE.md"
ROW = re.compile(r"^(\| (?:`\w+(?:/|\.py)`[, ]*)+\|.*\|)[^|]*\|$", re.MULTILINE)


def with_arrows(text: str) -> str:
    """Return ARCHITECTURE.md with the last column of its table of rooms made of `MAY_IMPORT`.

    It tells which rooms those of the first column may import; the small files, which all may, go unsaid.
    """

    def told(row: re.Match[str]) -> str:
        names = re.findall(r"`(\w+)[/.]", row[1].split("|")[1])
        rooms = [name for name in MAY_IMPORT if (PACKAGE / name).is_dir() and name not in names]
        found = [f"`{name}`" for name in rooms if any(name in MAY_IMPORT[each] for each in names)]
        return f"{row[1]} {', '.join(found) or '–'} |"

    return ROW.sub(told, text)


def test_the_table_of_rooms_is_true() -> None:
    """Where it is not, `python -m tests.test_architecture` writes it."""
    text = ARCHITECTURE.read_text()
    named = {name for row in ROW.findall(text) for name in re.findall(r"`(\w+)[/.]", row.split("|")[1])}
    assert named == MAY_IMPORT.keys() - {"splitlearn", "__main__"}
    assert text == with_arrows(text)


def test_no_import_cycle() -> None:
    graph = {module: of_ours(imports(path, at_load=True)) - {module} for module, path in MODULES.items()}
    for module, targets in graph.items():
        assert targets <= MODULES.keys(), f"{module} imports {targets - MODULES.keys()}, which is no module"
    # what a package's __init__ gathers from its own files is an arrow from it to them, never back
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(MODULES)


def test_codecs_know_no_torch() -> None:
    for module, path in MODULES.items():
        if room(module) == "codecs":
            assert not {name for name in imports(path) if name.split(".")[0] in {"torch", "torchvision", "lightning"}}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("splitlearn", {"numpy", "torch", "lightning"}),
        ("splitlearn.commands", {"numpy", "torch", "lightning", "jsonargparse"}),
        ("splitlearn.codecs", {"torch", "lightning"}),
        ("splitlearn.runtime", {"numpy", "torch", "onnxruntime"}),
        ("splitlearn.models", {"lightning", "wandb", "ultralytics", "optuna", "onnx", "timm"}),
    ],
)
def test_imports_stay_light(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(done.stdout.split())
    assert module in loaded
    assert not loaded & absent


def test_help_and_wrong_usage_load_no_torch() -> None:
    code = """
import sys
from splitlearn.commands.command_line import COMMANDS, main
for words in [*([name, "--help"] for name in COMMANDS), ["serve", "--package", "absent"]]:
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        assert end.code == 0
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.count("usage: splitlearn ") > 10
    assert not set(done.stdout.splitlines()[-1].split()) & {"torch", "lightning", "optuna"}


def public() -> list[tuple[str, str]]:
    """Every public name with its module; without __all__ those of a single file are its own affair."""
    packages = [m for m, path in MODULES.items() if "\n__all__ = " in path.read_text()]
    return [(module, name) for module in packages for name in importlib.import_module(module).__all__]


def test_public_names_exist_and_are_explained() -> None:
    assert len(public()) > len(MODULES)
    broken = []
    for module, name in public():
        value = getattr(importlib.import_module(module), name)
        if inspect.isclass(value) or inspect.isfunction(value):
            if not value.__doc__:
                broken.append(f"{module}.{name} has no docstring")
            if not value.__module__.startswith("splitlearn."):
                broken.append(f"{module}.{name} is not ours")
    assert not broken


def test_modules_are_explained() -> None:
    assert not [module for module, path in MODULES.items() if not ast.get_docstring(parsed(path))]


def test_files_are_short() -> None:
    assert SCRIPTS
    assert not [path for path in (*FILES, *SCRIPTS) if len(path.read_text().splitlines()) > 400]


if __name__ == "__main__":
    ARCHITECTURE.write_text(with_arrows(ARCHITECTURE.read_text()))
