"""Writing and reading of results.json: metrics of a test, and the settings and versions to reproduce them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from splitlearn import __version__
from splitlearn.addresses import without_passwords
from splitlearn.files import sha256_of, write_json
from splitlearn.resource_errors import brief

WEIGHTS, CONFIG = "weights_sha256", "config_sha256"  # keys of results.json: hashes of tested weights and settings
PACKAGES = ("torch", "torchvision", "lightning", "numpy", "numba")
AGAIN = "let splitlearn test write it again"


class ResultsError(ValueError):
    """A results.json is damaged or was not written by a test."""


def write_results(
    folder: Path, metrics: Mapping[str, Any], config: Mapping[str, Any], weights: Path | None = None
) -> Path:
    """Write `results.json` and return its path; the file appears complete or not at all.

    Args:
        folder: run folder, made if absent.
        metrics: scalar value of each metric, e.g. of `test/accuracy`.
        config: full settings of the run.
        weights: file of the tested weights, recorded by its hash; None if there was none.
    """
    path = folder / "results.json"
    values = {name: float(value) for name, value in sorted(metrics.items())}
    names = {WEIGHTS: None if weights is None else sha256_of(weights), CONFIG: fingerprint(config)}
    write_json(path, {**values, **run_record(), **names, "config": config})
    return path


def fingerprint(settings: Any) -> str:
    """Return the SHA-256 of settings written as JSON."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def read_results(path: Path) -> dict[str, Any]:
    """Return the content of a results.json.

    Raises ResultsError, naming it, if it is damaged, or was not written by `write_results`.
    """
    try:
        content = json.loads(path.read_bytes())
        figures = [value for name, value in content.items() if "/" in name]
        if all(map(_is_figure, figures)) and isinstance(content.get("config", {}), dict):
            found: dict[str, Any] = content
            return found
    except (ValueError, AttributeError, RecursionError) as error:
        raise ResultsError(f"{path} is damaged or no results.json ({brief(error)}): {AGAIN}") from error
    raise ResultsError(f"{path} holds metrics that are no numbers, or malformed settings: {AGAIN}")


def _is_figure(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def run_record() -> dict[str, Any]:
    """Return date, command, machine and versions of this process, to be stored with results."""
    program = Path(sys.argv[0])
    name = program.name.replace("__main__.py", "splitlearn") if program.is_absolute() else str(program)
    command = [name, *map(without_passwords, sys.argv[1:])]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(command),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {
            "python": platform.python_version(),
            "splitlearn": __version__,
            **{name: version(name) for name in PACKAGES},
        },
    }
