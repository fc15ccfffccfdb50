"""Distances between outputs of networks: divergences of the probabilities in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from splitlearn.kept_dtypes import widened

BINS = 16  # positions of a side in the box distributions of YOLOv8, its reg_max


class OutputDistance(nn.Module, ABC):
    """Base class: a distance between the output of a network and that of its teacher, for training without labels."""

    @abstractmethod
    def forward(self, output: Any, wanted: Any) -> Tensor:
        """Return the distance as a scalar; 0 for equal outputs.

        Args:
            output: the network's output, with a graph.
            wanted: the teacher's output, without one.

        Raises:
            ValueError: if the outputs do not have the structure that this distance reads.
        """


class LogitDivergence(OutputDistance):
    """Kullback–Leibler divergence of class probabilities, D(teacher ‖ network), in nats.

    The mean over images; and over pixels, if logits are maps. As in the paper, it is multiplied by the square of the
    temperature, so that the size of gradients does not depend on it.

    Args:
        temperature: divisor of all logits before the softmax: 1 compares the probabilities themselves, a higher one
            also the ranking of improbable classes.

    Raises:
        ValueError: if the temperature is not positive.

    Reference:
        Hinton et al. 2015, "Distilling the knowledge in a neural network", Sec. 2.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        _check_temperature(temperature)
        self.temperature = temperature

    def forward(self, output: Any, wanted: Any) -> Tensor:
        """Return the divergence of logits `(B, C, …)`, a scalar.

        Raises:
            ValueError: if the outputs are not logits of the same shape, with at least two classes.
        """
        for logits in (output, wanted):
            if not isinstance(logits, Tensor) or logits.ndim < 2 or logits.shape[1] < 2:
                form = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                raise ValueError(
                    f"LogitDivergence compares logits (B, classes, …), and the network's output is {form}: use "
                    "DetectionDivergence for a detector, or a distance of your own"
                )
        _check_same_shape(output, wanted, "logits")
        return _divergence(output, wanted, self.temperature).mean() * self.temperature**2


class DetectionDivergence(OutputDistance):
    """Divergence of class scores and box distributions of ultralytics' YOLOv8, YOLO11 and later anchor-free detectors.

        distance = Σ over positions D(scores) + box_weight · Σ over positions w · Σ over sides D(distribution) / Σ w

    Every position has an independent score for each class, and for each of the four sides of its box a distribution of
    the distance over 16 bins. D is the Kullback–Leibler divergence from the teacher's probabilities. As most positions
    show nothing, that of a box is weighted with the teacher's highest score there, w. Sums are taken per image.

    Args:
        box_weight: weight of the boxes.
        temperature: divisor of the logits of scores and distributions; see `LogitDivergence`.

    Raises:
        ValueError: if the weight is negative or the temperature is not positive.

    Reference:
        Li et al. 2020, "Generalized focal loss", Sec. 3.2 (box distributions); Zheng et al. 2022, "Localization
        distillation for dense object detection", eq. 4 (their divergence).
    """

    def __init__(self, box_weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        if box_weight < 0:
            raise ValueError(f"box_weight must not be negative, got {box_weight}")
        _check_temperature(temperature)
        self.box_weight, self.temperature = box_weight, temperature

    def forward(self, output: Any, wanted: Any) -> Tensor:
        """Return the divergence of two outputs in eval mode, a scalar: the mean over images.

        Args:
            output: `(boxes, raw)`, where raw holds "scores" `(B, C, A)` and "boxes" `(B, 64, A)` before sigmoid and
                softmax, for A positions; or, before ultralytics 8.4, is a list of maps `(B, 64 + C, H, W)`.
            wanted: that of the teacher.

        Raises:
            ValueError: if an output has another structure.
        """
        (scores, boxes), (true_scores, true_boxes) = _raw(output), _raw(wanted)
        _check_same_shape(scores, true_scores, "scores")
        _check_same_shape(boxes, true_boxes, "boxes")
        heat = self.temperature
        chances = (true_scores / heat).sigmoid()
        # the cross-entropy less the teacher's own entropy, which is its least value
        surplus = functional.binary_cross_entropy_with_logits(scores / heat, chances, reduction="none")
        surplus = surplus - functional.binary_cross_entropy_with_logits(true_scores / heat, chances, reduction="none")
        weight = true_scores.sigmoid().amax(1, keepdim=True)  # (B, 1, A)
        sides = [t.reshape(len(t), 4, BINS, -1).transpose(1, 2) for t in (boxes, true_boxes)]  # (B, 16, 4, A)
        of_sides = _divergence(sides[0], sides[1], heat)  # (B, 4, A)
        of_boxes = (weight * of_sides).sum((1, 2)) / weight.sum((1, 2)).clamp_min(torch.finfo(weight.dtype).tiny)
        return (surplus.sum((1, 2)) + self.box_weight * of_boxes).mean() * heat**2


def _raw(output: Any) -> tuple[Tensor, Tensor]:
    """Return raw scores and raw box distributions in the output of ultralytics' `Detect` in eval mode."""
    raw = output[1] if isinstance(output, Sequence) and len(output) == 2 else None
    found: list[Any] = []
    if isinstance(raw, Mapping):
        found = [raw.get(name) for name in ("scores", "boxes")]
    elif isinstance(raw, list) and raw and all(isinstance(t, Tensor) and t.ndim == 4 for t in raw):
        positions = torch.cat([t.flatten(2) for t in raw], 2)
        found = [positions[:, 4 * BINS :], positions[:, : 4 * BINS]]
    if len(found) != 2 or not all(isinstance(t, Tensor) and t.ndim == 3 for t in found):
        raise ValueError(
            "DetectionDivergence reads the output of ultralytics' YOLOv8 or later in eval mode, (boxes, raw scores and "
            f"distributions), and the network's is {type(output).__name__}: use LogitDivergence for a classifier, or a "
            "distance of your own"
        )
    scores, boxes = map(widened, found)
    if boxes.shape[1] != 4 * BINS:
        raise ValueError(
            f"DetectionDivergence reads boxes as 4 distributions over {BINS} bins, and this detector has "
            f"{boxes.shape[1]} numbers for each: use a distance of your own"
        )
    return scores, boxes


def _divergence(logits: Tensor, wanted: Tensor, temperature: float) -> Tensor:
    """Return D(softmax(wanted) ‖ softmax(logits)) over dimension 1."""
    theirs, mine = ((widened(t) / temperature).log_softmax(1) for t in (wanted, logits))
    return (theirs.exp() * (theirs - mine)).sum(1)


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be positive and finite, got {temperature}")


def _check_same_shape(output: Tensor, wanted: Tensor, what: str) -> None:
    if output.shape != wanted.shape:
        raise ValueError(
            f"the network gives {what} {tuple(output.shape)} and its teacher {tuple(wanted.shape)}: both must have the "
            "same classes"
        )
