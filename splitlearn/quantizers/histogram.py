"""Counts of symbols on the device of the symbols, so that only the counts are copied to the host."""

from __future__ import annotations

import torch
from torch import Tensor

ROOM = 256  # bins per row for any alphabet, so that no uint8 symbol points beyond its row


def histogram(symbols: Tensor, levels: int) -> Tensor:
    """Return the number of occurrences of each symbol in each image.

    For static tables, quantize and count on the device, add up the counts of all batches, and copy them to the host
    once at the end: `Huffman.from_counts(histogram(symbols, levels).sum(0).numpy(force=True))`. This function does not
    wait for the device. It needs memory for one index per symbol beside the counts.

    Args:
        symbols: uint8 tensor `(B, …)` on any device, as returned by `Quantizer.quantize`.
        levels: size of the alphabet, 2…256.

    Returns:
        int64 counts `(B, levels)` on the device of the symbols. Values of `levels` or more are ignored, since checking
        for them would wait for the device.

    Raises:
        ValueError: if the symbols are not uint8 or have no dimension, or `levels` is out of range.
    """
    _check(symbols, levels, 1)
    return _count_rows(symbols.flatten(1) if symbols.dim() > 1 else symbols[:, None], levels)


def channel_histogram(symbols: Tensor, levels: int) -> Tensor:
    """Return the number of occurrences of each symbol in each channel over all images, for one table per channel.

    Args:
        symbols: uint8 tensor `(B, C, …)` on any device.
        levels: size of the alphabet, 2…256.

    Returns:
        int64 counts `(C, levels)` on the device of the symbols; values of `levels` or more are ignored.

    Raises:
        ValueError: if the symbols are not uint8 or have less than two dimensions, or `levels` is out of range.
    """
    _check(symbols, levels, 2)
    return _count_rows(symbols.transpose(0, 1).flatten(1), levels)


def _check(symbols: Tensor, levels: int, dimensions: int) -> None:
    if symbols.dtype != torch.uint8 or symbols.dim() < dimensions:
        found = f"{symbols.dtype} {tuple(symbols.shape)}"
        raise ValueError(f"symbols must be a uint8 tensor of {dimensions} or more dimensions, got {found}")
    if not 2 <= levels <= ROOM:
        raise ValueError(f"levels must lie in 2…{ROOM}, got {levels}")


def _count_rows(rows: Tensor, levels: int) -> Tensor:
    """Return the counts `(R, levels)` of uint8 rows `(R, N)`; `bincount` would wait for the largest symbol."""
    counts = torch.zeros(len(rows) * ROOM, dtype=torch.int64, device=rows.device)
    first = torch.arange(len(rows), device=rows.device)[:, None] * ROOM
    one = torch.ones((), dtype=torch.int64, device=rows.device)
    bins = (first + rows).flatten()
    counts.scatter_add_(0, bins, one.expand_as(bins))
    return counts.view(-1, ROOM)[:, :levels].clone()
