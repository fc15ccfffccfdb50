"""Scripts that are run by their names go on in the project's own environment."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def own_python() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_python", SCRIPTS / "own_python.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # where everything is installed, this does nothing
    return module


@pytest.mark.parametrize(("script", "extras"), [("scripts/cifar10", []), ("scripts/bench_codecs", ["bench"])])
def test_a_python_without_torch(
    own_python: ModuleType, monkeypatch: pytest.MonkeyPatch, script: str, extras: list[str]
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(own_python, "find_spec", lambda name: None)
    monkeypatch.setattr(own_python.sys, "argv", [script, "--quick"])
    monkeypatch.setattr(own_python, "ROOT", Path("/project"))

    def run(words: list[Any]) -> SimpleNamespace:
        ran.append(words)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(os, "execv", lambda python, words: ran.append([str(python), *words]))
    own_python.ensure(script)
    python = "/project/.venv/bin/python"
    assert ran == [[Path("/project/scripts/environment"), *extras], [python, python, script, "--quick"]]
    monkeypatch.setattr(subprocess, "run", lambda words: SimpleNamespace(returncode=1))
    with pytest.raises(SystemExit, match=f"{script} needs torch, .*scripts/environment could not install it"):
        own_python.ensure(script)


def test_every_script_asks_first() -> None:
    scripts = [path.read_text() for path in SCRIPTS.iterdir() if path.is_file()]
    scripts = [text for text in scripts if text.startswith("#!/usr/bin/env python3")]
    assert scripts
    for text in scripts:
        imports = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
        assert imports[1].startswith("import own_python")
