"""Export of one model of many rates as a bank, in which a rate is a few hundred bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from splitlearn.deploy.bank import export_bank
from splitlearn.deploy.bottleneck_file import export_bottleneck
from splitlearn.models import GainModel


def export_gains(
    model: GainModel,
    path: str | Path,
    metrics: Sequence[Mapping[str, float]],
    positions: Sequence[float] | None = None,
    score: str | None = None,
) -> Path:
    """Write rates of a trained model into one file for `load_bank`; encoder, decoder and density are in it once.

    Args:
        model: a trained model, with its density in its codec (callback `LearntTables`).
        path: file to write; it appears complete or not at all.
        metrics: metrics of a test of each rate, with a score and bytes per image.
        positions: numbers of the rates, also between two trained ones; None for all trained ones.
        score: as in `export_bank`.

    Returns:
        The path written.

    Raises:
        ValueError: if the numbers of metrics and rates differ, or there are more than eight.
        ExportError: if metrics lack a score or the bytes per image.
    """
    bank = model.bank(positions)
    if len(metrics) != len(bank.rates):
        raise ValueError(f"there are {len(bank.rates)} rates and metrics of {len(metrics)}: give those of each rate")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"rate_{rate}.safetensors" for rate in range(len(metrics))]
        for rate, (file, told) in enumerate(zip(files, metrics, strict=True)):
            export_bottleneck(bank.at_rate(rate), file, told)
        return export_bank(files, path, score)
