"""Record beside each weights file: its origin and checksum."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from splitlearn.files import sha256_of, write_json


def write_record(weights: Path, metrics: Mapping[str, float], config: Any, licence: str) -> Path:
    """Write `NAME.json` beside `NAME.safetensors` and return its path.

    Args:
        weights: the weights file.
        metrics: metrics of a test.
        config: settings of the training, data included, or the command that repeats it.
        licence: licence of the weights, with the name of the owner.
    """
    record = {
        "file": weights.name,
        "sha256": sha256_of(weights),
        "bytes": weights.stat().st_size,
        "licence": licence,
        "metrics": dict(metrics),
        "config": config,
    }
    path = weights.with_suffix(".json")
    write_json(path, record)
    return path
