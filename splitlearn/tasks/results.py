"""results.json: what a test found, and all that is needed to find it again."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from splitlearn.addresses import without_passwords
from splitlearn.files import write_json

PACKAGES = ("splitlearn", "torch", "torchvision", "lightning", "numpy", "numba")


def write_results(folder: Path, metrics: Mapping[str, Any], config: Mapping[str, Any]) -> Path:
    """Write `results.json` and return its path; a reader never sees half a file.

    Args:
        folder: run folder, made if absent.
        metrics: name → value, e.g. `test/accuracy`; scalars of any kind.
        config: the full settings of the run.
    """
    path = folder / "results.json"
    values = {name: float(value) for name, value in sorted(metrics.items())}
    write_json(path, {**values, **run_record(), "config": config})
    return path


def run_record() -> dict[str, Any]:
    """Return date, command, machine and versions of this process: what a table of figures must say of itself."""
    command = [Path(sys.argv[0]).name.replace("__main__.py", "splitlearn"), *map(without_passwords, sys.argv[1:])]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(command),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
