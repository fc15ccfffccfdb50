"""Check of a device package against the model in torch, on real images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from splitlearn.codecs import CodecError
from splitlearn.codecs.payload_coder import tag_message
from splitlearn.models import CutModel
from splitlearn.numpy_quantizers import Grid
from splitlearn.runtime.answers import Answer
from splitlearn.runtime.device import Device, ExitPrediction
from splitlearn.runtime.edge import OnnxEdge
from splitlearn.runtime.forms import AnswerForm
from splitlearn.runtime.package_file import Package, PackageError

LEAST_SYMBOLS = 0.999  # share of equal symbols
LEAST_ANSWERS = 0.998  # mean agreement of answers
FORGIVEN = 50  # images from which on a single one may differ: it may lie at a tie


@dataclass(frozen=True)
class PackageCheck:
    """Results of the check of a package on real images.

    Attributes:
        images: number of images.
        symbols: number of symbols over all rates.
        equal_symbols: share of symbols that are equal on the device and in the model.
        greatest_difference: largest absolute difference between a latent in onnxruntime and in torch.
        equal_payloads: share of payloads that are equal byte for byte.
        equal_exits: share of images for which device and model make the same decision, early exit or payload.
        equal_answers: mean agreement of the answers to payloads with those of the model (`AnswerForm.agreement`).
        device: "onnx", or "torch" if the device part has no graphs to check.
        edge: "onnx" or "torch" for the edge part.
    """

    images: int
    symbols: int
    equal_symbols: float
    greatest_difference: float
    equal_payloads: float
    equal_exits: float
    equal_answers: float
    device: str
    edge: str

    def record(self) -> dict[str, Any]:
        """Return the results as plain data."""
        return asdict(self)


def check_package(folder: str | Path, model: CutModel, images: NDArray[np.uint8], answers: AnswerForm) -> PackageCheck:
    """Compare a package with its model, image by image and rate by rate.

    Args:
        folder: folder of the package.
        model: model of the package, in eval mode.
        images: uint8 `(B, H, W, 3)` of the network's size.
        answers: form of the answers.

    Raises:
        PackageError: if they differ by more than rounding errors; the message says where.
        ValueError: if there are no images.
    """
    if not len(images):
        raise ValueError("a package is checked on real images, and there are none: name a folder of some")
    package = Package(folder)
    if not package.steps:
        return PackageCheck(0, 0, 1.0, 0.0, 1.0, 1.0, 1.0, "torch", "torch")
    device = Device(package)
    edge = OnnxEdge(package) if package.has_edge else None
    compared = [
        _compared(image, rate, device, edge, model, answers) for image in images for rate in range(len(model.rates))
    ]
    exits = [_exits_alike(image, device, model) for image in images] if model.exits_early else [True]
    count = sum(each.symbols for each in compared)
    found = PackageCheck(
        images=len(images),
        symbols=count,
        equal_symbols=sum(each.equal_symbols for each in compared) / max(1, count),
        greatest_difference=max(each.difference for each in compared),
        equal_payloads=float(np.mean([each.same_payload for each in compared])),
        equal_exits=float(np.mean(exits)),
        equal_answers=float(np.mean([each.agreement for each in compared])),
        device="onnx",
        edge="torch" if edge is None else "onnx",
    )
    _judge(found, len(compared))
    return found


class _Compared(NamedTuple):
    """Comparison of device and model for one image at one rate."""

    symbols: int
    equal_symbols: int
    difference: float
    same_payload: bool
    agreement: float


def _compared(
    image: NDArray[np.uint8], rate: int, device: Device, edge: OnnxEdge | None, model: CutModel, answers: AnswerForm
) -> _Compared:
    coder, half = model.rates[rate], device.package.rates[rate].coder
    features = model.features(_batch(image))
    made = device.latents(image, rate)
    floats = [(t, each.quantizer) for t, each in zip(made, half.carriers, strict=True) if each.quantizer is not None]
    wanted = coder.latents(features)
    count = equal = 0
    difference = 0.0
    for (own, grid), latent, symbols in zip(floats, wanted, coder.symbols(wanted), strict=True):
        assert isinstance(grid, Grid)
        expected = latent[0].numpy()
        if own.shape != expected.shape:
            raise PackageError(f"the device computes latents {own.shape} where the model has {expected.shape}")
        count += own.size
        equal += int((grid.quantize(own)[0] == symbols[0].numpy()).sum())
        difference = max(difference, float(np.abs(own - expected).max(initial=0.0)))
    payload = tag_message(half.encode(made), len(half.carriers), rate)
    expected_payload = tag_message(coder.compress(features)[0], len(half.carriers), rate)
    expected_answer = _only(answers(_on_cpu(model.decompress([expected_payload]))))
    found = [_only(answers(_on_cpu(model.decompress([payload]))))]
    found += [_only(edge.answer([payload]))] if edge is not None else []
    agreement = min(answers.agreement(expected_answer, each) for each in found)
    return _Compared(count, equal, difference, payload == expected_payload, agreement)


def _exits_alike(image: NDArray[np.uint8], device: Device, model: CutModel) -> bool:
    """Return whether device and model both send an image, or both take an early exit."""
    return isinstance(device.compress(image), ExitPrediction) == (model.compress(_batch(image)) == [b""])


def _judge(found: PackageCheck, compared: int) -> None:
    """Raise PackageError if a package differs from its model by more than rounding errors."""
    forgiven = 1 / compared if compared >= FORGIVEN else 0.0
    if found.equal_symbols < LEAST_SYMBOLS:
        what = (
            f"only {found.equal_symbols:.4%} of the symbols are equal (latents differ by up to "
            f"{found.greatest_difference:.3g})"
        )
    elif found.equal_exits < min(LEAST_ANSWERS, 1 - forgiven):
        what = f"device and model decide alike at the exits for only {found.equal_exits:.2%} of the images"
    elif found.equal_answers < min(LEAST_ANSWERS, 1 - forgiven):
        what = f"only {found.equal_answers:.2%} of the answers are those of the model"
    else:
        return
    raise PackageError(
        f"the exported graphs do not compute what the model does, so nothing was written: {what}, on {found.images} "
        "images; a layer whose export is wrong is the usual reason: cut elsewhere, or serve the model from its config"
    )


def _batch(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None] / 255


def _on_cpu(output: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach().cpu() if isinstance(leaf, Tensor) else leaf, output)


def _only(answers: list[Answer | CodecError]) -> Answer:
    [answer] = answers
    if isinstance(answer, CodecError):
        raise PackageError(f"a payload of the package itself is refused: {answer}")
    return answer
