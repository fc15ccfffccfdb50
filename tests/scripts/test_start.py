"""Scripts start by their names, in the project's own environment if the Python of PATH lacks something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts import start

ROOT = Path(__file__).parents[2]
LINKS = sorted(path for path in (ROOT / "scripts").rglob("*") if path.is_symlink())


@pytest.mark.parametrize(
    ("script", "extras"),
    [("scripts/papers/cifar10/run", []), ("scripts/benchmarks/bench_codecs", ["bench"])],
)
def test_a_python_without_torch(monkeypatch: pytest.MonkeyPatch, script: str, extras: list[str]) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", [script, "--quick"])
    monkeypatch.setattr(start, "ROOT", Path("/project"))

    def run(words: list[Any]) -> SimpleNamespace:
        ran.append(words)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(os, "execv", lambda python, words: ran.append([str(python), *words]))
    start.ensure(script)
    python = "/project/.venv/bin/python"
    assert ran == [[Path("/project/scripts/environment"), *extras], [python, python, script, "--quick"]]
    monkeypatch.setattr(subprocess, "run", lambda words: SimpleNamespace(returncode=1))
    with pytest.raises(SystemExit, match=f"{script} needs torch, .*scripts/environment could not install it"):
        start.ensure(script)


def test_every_script_has_its_link() -> None:
    """All modules with a `main` but those that scripts in bash start."""
    modules = [path for path in (ROOT / "scripts").rglob("*.py") if "\ndef main(" in path.read_text()]
    started_by_bash = {ROOT / "scripts" / name for name in ("compile_kernels", "demo", "demo_runtime")}
    assert {path.with_suffix("") for path in modules} - started_by_bash == set(LINKS)
    assert {path.resolve() for path in LINKS} == {ROOT / "scripts/start.py"}
    assert {ROOT / name for name in start.EXTRAS} <= set(LINKS)


@pytest.mark.parametrize("link", LINKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_script_starts(link: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(link), "--help"])
    monkeypatch.setattr(sys, "path", ["folder of the link", *sys.path])
    with pytest.raises(SystemExit, match="0"):
        start.start(link)
    assert "usage: " in capsys.readouterr().out
    assert sys.argv[0] == str(link.relative_to(ROOT))


def test_a_link_starts_from_anywhere(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "scripts/benchmarks/fuzz_signals"), "--moments", "none"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "invalid int value: 'none'" in done.stderr
