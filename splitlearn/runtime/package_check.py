"""Check of a device package against the model in torch, on real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from splitlearn.codecs import BudgetError, CodecError
from splitlearn.codecs.payload_coder import tag_message, untag_message
from splitlearn.models import CutModel, EarlyExitModel, FeatureCoder
from splitlearn.numpy_quantizers import Grid
from splitlearn.runtime.answers import Answer
from splitlearn.runtime.device import Device
from splitlearn.runtime.edge import OnnxEdge
from splitlearn.runtime.exit_prediction import ExitPrediction
from splitlearn.runtime.forms import AnswerForm
from splitlearn.runtime.package_file import Package, PackageError, Rate
from splitlearn.runtime.picture_check import agreements

LEAST_SYMBOLS = 0.999  # share of equal symbols
LEAST_ANSWERS = 0.998  # mean agreement of answers
FORGIVEN = 50  # images from which on a single one may differ: it may lie at a tie


@dataclass(frozen=True)
class PackageCheck:
    """Results of the check of a package on real images. A result is None where nothing was compared.

    Attributes:
        images: number of images.
        symbols: number of symbols over all rates.
        equal_symbols: share of symbols that are equal on the device and in the model.
        greatest_difference: largest absolute difference between a latent in onnxruntime and in torch.
        equal_payloads: share of payloads that are equal byte for byte.
        equal_exits: share of images for which device and model take the same exit with the same class, or both send.
        equal_rates: share of images that device and model send at the same rate if none is asked for.
        equal_answers: mean agreement of the answers to payloads with those of the model (`AnswerForm.agreement`).
        device: "onnx", or "torch" if the device part has no graphs to check.
        edge: "onnx" or "torch" for the edge part.
        equal_pictures: mean agreement of the edge's answers to image files with those of the model.
    """

    images: int
    symbols: int | None
    equal_symbols: float | None
    greatest_difference: float | None
    equal_payloads: float | None
    equal_exits: float | None
    equal_rates: float | None
    equal_answers: float | None
    device: str
    edge: str
    equal_pictures: float | None = None

    def record(self) -> dict[str, Any]:
        """Return the results as plain data."""
        return asdict(self)


@torch.no_grad()
def check_package(folder: str | Path, model: CutModel, images: NDArray[np.uint8], answers: AnswerForm) -> PackageCheck:
    """Compare the graphs of a package with its model, image by image and rate by rate.

    If the package has no device graph, its edge graphs are checked with payloads that the model makes.

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
    device = Device(package) if package.steps else None
    edge = OnnxEdge(package) if package.has_edge else None
    if device is None and edge is None:
        return PackageCheck(0, None, None, None, None, None, None, None, "torch", "torch")
    numbers = [(image, rate) for image in images for rate in range(len(model.rates))]
    compared = [_compared(image, rate, device, edge, model, answers) for image, rate in numbers]
    latents = [each.latents for each in compared if each.latents is not None]
    count = sum(each.symbols for each in latents)
    found = PackageCheck(
        images=len(images),
        symbols=count if latents else None,
        equal_symbols=sum(each.equal_symbols for each in latents) / max(1, count) if latents else None,
        greatest_difference=max((each.difference for each in latents), default=None),
        equal_payloads=_mean([each.same_payload for each in latents]),
        equal_exits=None if device is None else _mean(_exits_alike(images, device, model)),
        equal_rates=None if device is None else _mean(_rates_alike(images, device, model)),
        equal_answers=_mean([each.agreement for each in compared]),
        device="torch" if device is None else "onnx",
        edge="torch" if edge is None else "onnx",
        equal_pictures=None if edge is None else _pictures_alike(images, edge, model, answers),
    )
    _judge(found, len(compared))
    return found


class _Latents(NamedTuple):
    """Comparison of the latents and payload of device and model for one image at one rate."""

    symbols: int
    equal_symbols: int
    difference: float
    same_payload: bool


class _Compared(NamedTuple):
    """Comparison of device, edge and model for one image at one rate; `latents` is None without a device graph."""

    latents: _Latents | None
    agreement: float


def _compared(
    image: NDArray[np.uint8],
    rate: int,
    device: Device | None,
    edge: OnnxEdge | None,
    model: CutModel,
    answers: AnswerForm,
) -> _Compared:
    coder = model.rates[rate]
    features = model.features(_batch(image))
    expected = tag_message(coder.compress(features)[0], len(features), rate)
    wanted = _only(answers(_on_cpu(model.decompress([expected]))))
    if device is None:
        latents, payload = None, expected
    else:
        made = device.latents(image, rate)
        payload = tag_message(device.package.rates[rate].coder.encode(made), len(made), rate)
        latents = _latents(made, device.package.rates[rate], coder, features, payload == expected)
    found = [_only(answers(_on_cpu(model.decompress([payload]))))]
    found += [_only(edge.answer([payload]))] if edge is not None else []
    return _Compared(latents, min(answers.agreement(wanted, each) for each in found))


def _latents(
    made: list[NDArray[Any]], rate: Rate, coder: FeatureCoder, features: tuple[Tensor, ...], same_payload: bool
) -> _Latents:
    carriers = rate.coder.carriers
    floats = [(t, each.quantizer) for t, each in zip(made, carriers, strict=True) if each.quantizer is not None]
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
    return _Latents(count, equal, difference, same_payload)


def _exits_alike(images: NDArray[np.uint8], device: Device, model: CutModel) -> list[bool]:
    """Return for each image whether device and model take the same exit with the same class, or both send it."""
    return [_outcome(device.compress(image)) == _decided(model, image) for image in images] if model.exits_early else []


def _outcome(made: bytes | ExitPrediction) -> tuple[int, int] | None:
    """Return exit and most likely class; None for an image that is sent."""
    return (made.exit, int(made.logits.argmax())) if isinstance(made, ExitPrediction) else None


def _decided(model: CutModel, image: NDArray[np.uint8]) -> tuple[int, int] | None:
    """Return what `_outcome` returns for the device, from the model itself."""
    decisions = cast("EarlyExitModel", model).decide(_batch(image))
    return None if bool(decisions.sent[0]) else (int(decisions.exits[0]), int(decisions.logits[0].argmax()))


def _pictures_alike(images: NDArray[np.uint8], edge: OnnxEdge, model: CutModel, answers: AnswerForm) -> float | None:
    """Return the mean agreement of the answers to image files; None if the edge answers none."""
    if edge.package.picture is None or not edge.package.has_whole:
        return None
    return _mean(agreements(model, edge, edge.package.picture, list(images), answers))


def _rates_alike(images: NDArray[np.uint8], device: Device, model: CutModel) -> list[bool]:
    """Return for each image whether device and model of a bank send it at the same rate if none is asked for."""
    if len(model.rates) == 1:
        return []
    count = len(model.net.dtypes)
    pairs = [(partial(device.compress, image), partial(model.compress, _batch(image))) for image in images]
    return [_rate_of(count, own) == _rate_of(count, wanted) for own, wanted in pairs]


def _rate_of(count: int, compress: Callable[[], Any]) -> int | None:
    """Return the rate of a payload of `count` tensors; None if the image is over the budget at every rate."""
    try:
        made = compress()
    except BudgetError:
        return None
    return untag_message(made if isinstance(made, bytes) else made[0], count)[0]


def _judge(found: PackageCheck, compared: int) -> None:
    """Raise PackageError if a package differs from its model by more than rounding errors."""
    if found.equal_symbols is not None and found.equal_symbols < LEAST_SYMBOLS:
        what = (
            f"only {found.equal_symbols:.4%} of the symbols are equal (latents differ by up to "
            f"{found.greatest_difference:.3g})"
        )
    elif found.equal_exits is not None and found.equal_exits < _least(found.images):
        what = f"device and model decide alike at the exits for only {found.equal_exits:.2%} of the images"
    elif found.equal_rates is not None and found.equal_rates < _least(found.images):
        what = f"device and model choose the same rate for only {found.equal_rates:.2%} of the images"
    elif found.equal_answers is not None and found.equal_answers < _least(compared):
        what = f"only {found.equal_answers:.2%} of the answers are those of the model"
    elif found.equal_pictures is not None and found.equal_pictures < _least(found.images):
        what = f"only {found.equal_pictures:.2%} of the answers to pictures are those of the model"
    else:
        return
    raise PackageError(
        f"the exported graphs do not compute what the model does, so nothing was written: {what}, on {found.images} "
        "images; a layer whose export is wrong is the usual reason: cut elsewhere, or serve the model from its config"
    )


def _least(count: int) -> float:
    """Return the smallest share of equal results of so many comparisons."""
    return min(LEAST_ANSWERS, 1 - (1 / count if count >= FORGIVEN else 0.0))


def _mean(values: Sequence[float]) -> float | None:
    """Return the mean; None of nothing."""
    return float(np.mean(values)) if values else None


def _batch(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None] / 255


def _on_cpu(output: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach().cpu() if isinstance(leaf, Tensor) else leaf, output)


def _only(answers: list[Answer | CodecError]) -> Answer:
    [answer] = answers
    if isinstance(answer, CodecError):
        raise PackageError(f"a payload of the package itself is refused: {answer}")
    return answer
