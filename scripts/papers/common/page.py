"""Pages of results: what they say of how they were made, and how they are written."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from splitlearn.files import whole_file
from splitlearn.reporting import processor
from splitlearn.tasks import run_record


def record() -> dict[str, Any]:
    """Return machine, command, date and versions; of folders elsewhere on the machine only the names."""
    found = run_record()
    words = [Path(word).name if Path(word).is_absolute() else word for word in shlex.split(found["command"])]
    return {**found, "command": shlex.join(words), "processor": processor()}


def about(facts: Mapping[str, Any], *more: str) -> str:
    """Return a paragraph: data and seed if there are any, further facts, and what `record` has found."""
    named = [facts["data"]] if "data" in facts else []
    named += [f"seed {facts['seed']}"] if facts.get("seed") is not None else []
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    machine = f"{facts['processor']}, {facts['machine']}"
    return "; ".join([*named, *more, machine, versions, f"`{facts['command']}`", facts["date"]]) + ".\n"


def write_page(path: Path, parts: Iterable[str]) -> None:
    """Write a Markdown file from its parts, each on lines of its own."""
    with whole_file(path) as temporary:
        temporary.write_text("\n".join(parts))
