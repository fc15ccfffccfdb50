"""Accuracy with only the low frequencies of the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rich.progress import track
from torch import Tensor, nn

from splitlearn.analysis.distribution import checked_features

ORDERS = ("CHW", "CWH", "HCW", "HWC", "WCH", "WHC")
"""Orders in which the three dimensions are written into one vector; the last changes fastest."""

KEPT = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)


@dataclass(frozen=True)
class SpectrumPoint:
    """Accuracy with only the lowest frequencies of the features.

    Attributes:
        order: order of the dimensions in the vector; the last changes fastest.
        share: share of the frequencies kept, equal to the share of floats to send, 0…1.
        energy: share of the sum of squares in these frequencies, 0…1.
        accuracy: top-1 accuracy, 0…1.
        images: number of images.
    """

    order: str
    share: float
    energy: float
    accuracy: float
    images: int


def truncate_spectrum(features: Tensor, share: float, order: str = "CHW") -> Tensor:
    """Return features without their high frequencies.

    Each image is written into one vector, transformed (real FFT), and restored from its lowest frequencies. n real
    numbers have ⌊n/2⌋+1 complex frequencies, so the share of frequencies is the share of floats to send.

    Args:
        features: `(B, C, H, W)`.
        share: share of the frequencies to keep, above 0 and at most 1; frequency 0, the mean, is always kept.
        order: order of the dimensions, one of `ORDERS`.

    Returns:
        Shaped like `features`, float32.

    Raises:
        ValueError: if the features are not `(B, C, H, W)` or hold NaN or infinity, or share or order is not legal.

    Reference:
        Carra & Neglia 2023, Sec. III.
    """
    if not 0 < share <= 1 or order not in ORDERS:
        raise ValueError(f"share must lie above 0 and at most at 1, order be of {ORDERS}: got {share} and {order!r}")
    features = checked_features(features, spatial=True)
    dims = [0, *(1 + "CHW".index(letter) for letter in order)]
    ordered = features.permute(dims)
    vectors = ordered.flatten(1)
    frequencies = torch.fft.rfft(vectors)
    frequencies[:, max(1, round(share * frequencies.shape[1])) :] = 0
    restored: Tensor = torch.fft.irfft(frequencies, n=vectors.shape[1]).view(ordered.shape)
    return restored.permute([dims.index(d) for d in range(4)]).contiguous()


def spectrum_accuracy(
    tail: nn.Module,
    crossing: Sequence[Tensor],
    labels: Tensor,
    shares: Sequence[float] = KEPT,
    orders: Sequence[str] = ORDERS,
    batch_size: int = 32,
) -> list[SpectrumPoint]:
    """Return the accuracy for each order of dimensions and share of frequencies kept.

    Args:
        tail: network from crossing tensors to class logits `(B, C)`, such as `model.net.tail` of a `SplitModel`.
        crossing: all crossing tensors, `(B, …)`; float tensors are truncated, all to the same share.
        labels: int64 class of each image `(B,)`.
        shares: shares of frequencies, as in `truncate_spectrum`.
        orders: orders of dimensions, as in `truncate_spectrum`.
        batch_size: number of images per batch of the tail.

    Raises:
        ValueError: if a float tensor is not `(B, C, H, W)` or holds NaN or infinity, there are no images, or the tail
            gives no class logits.

    Reference:
        Carra & Neglia 2023, Sec. III.
    """
    steps = [(order, share) for order in orders for share in shares]
    return [
        _point(tail, crossing, labels, order, share, batch_size)
        for order, share in track(steps, "Spectrum", transient=True)
    ]


@torch.inference_mode()
def _point(
    tail: nn.Module, crossing: Sequence[Tensor], labels: Tensor, order: str, share: float, batch_size: int
) -> SpectrumPoint:
    right, energy, kept = 0, 0.0, 0.0
    if not len(labels):
        raise ValueError("there are no images to measure an accuracy on")
    for start in range(0, len(labels), batch_size):
        batch = [t[start : start + batch_size] for t in crossing]
        sent = [truncate_spectrum(t, share, order).to(t) if t.is_floating_point() else t for t in batch]
        energy, kept = energy + _energy(batch), kept + _energy(sent)
        predicted = class_logits(tail(*sent)).argmax(1)
        right += int((predicted.cpu() == labels[start : start + batch_size].cpu()).sum())
    return SpectrumPoint(order, share, kept / energy if energy else 1.0, right / len(labels), len(labels))


def _energy(crossing: Sequence[Tensor]) -> float:
    return sum(float(t.double().square().sum()) for t in crossing if t.is_floating_point())


def class_logits(prediction: object) -> Tensor:
    """Return a network's output if it is class logits `(B, C)`; raises ValueError if it is anything else."""
    if isinstance(prediction, Tensor) and prediction.ndim == 2 and prediction.is_floating_point():
        return prediction
    found = f"{tuple(prediction.shape)}" if isinstance(prediction, Tensor) else type(prediction).__name__
    raise ValueError(f"this analysis needs a classifier, whose output is logits (B, C), and not {found}")
