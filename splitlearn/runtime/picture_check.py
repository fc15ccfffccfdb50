"""What image files come to on real images, beside a package's payloads; with torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from splitlearn.codecs import CodecError
from splitlearn.models import CutModel
from splitlearn.runtime.answers import Answer
from splitlearn.runtime.edge import OnnxEdge
from splitlearn.runtime.forms import AnswerForm
from splitlearn.runtime.package_file import PackageError
from splitlearn.runtime.picture_codec import Measured, PictureCodec, pixels_of


def check_whole(model: CutModel) -> None:
    """Raise PackageError if a model's network was trained with its bottleneck, so that it is no use without it."""
    units = [unit for coder in model.rates for unit in coder.bottlenecks]
    if not model.frozen and not all(isinstance(unit.encoder, nn.Identity) for unit in units):
        raise PackageError(
            "a picture is answered by the network without its bottleneck, and this network was trained together with "
            "it: leave --picture out"
        )


@torch.no_grad()
def measured(model: CutModel, pictures: PictureCodec, images: NDArray[np.uint8], answers: AnswerForm) -> PictureCodec:
    """Return the codec with scores and sizes of its files and of each rate's payloads, in torch.

    Args:
        model: model of the package, in eval mode.
        pictures: the codec.
        images: uint8 `(B, H, W, C)` of the network's size.
        answers: form of the answers.

    Raises:
        PackageError: if the network's answer to an image or to its file has no form.
        ValueError: if the format does not hold images of this size.
    """
    wanted = [_answer(model, image, answers) for image in images]
    ways: list[list[tuple[bytes, Answer]]] = [[] for _ in range(1 + len(model.rates))]
    for image in images:
        file = pictures.encode(image)
        ways[0].append((file, _answer(model, pictures.decode(file), answers)))
        features = model.features(_batch(image))
        for way, coder in zip(ways[1:], model.rates, strict=True):
            [payload] = coder.compress(features)
            way.append((payload, _formed(model.predict(coder.decompress([payload])), answers)))
    found = [
        Measured(
            fmean(answers.agreement(one, other) for one, (_, other) in zip(wanted, way, strict=True)),
            fmean(len(sent) for sent, _ in way),
        )
        for way in ways
    ]
    return replace(pictures, measured=found[0], rates=tuple(found[1:]))


@torch.no_grad()
def agreements(
    model: CutModel, edge: OnnxEdge, pictures: PictureCodec, images: Sequence[NDArray[np.uint8]], answers: AnswerForm
) -> list[float]:
    """Return for each image the agreement of an edge's answer to its file with that of the model in torch."""
    found = []
    for image in images:
        file = pictures.encode(image)
        [own] = edge.answer_pictures([file])
        if isinstance(own, CodecError):
            raise PackageError(f"a picture of the package itself is refused: {own}")
        found.append(answers.agreement(_answer(model, pictures.decode(file), answers), own))
    return found


def _answer(model: CutModel, image: NDArray[np.uint8], answers: AnswerForm) -> Answer:
    return _formed(model.predict(model.net.wanted(model.features(_batch(image)))), answers)


def _formed(output: Any, answers: AnswerForm) -> Answer:
    [found] = answers(pytree.tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, output))
    if isinstance(found, CodecError):
        raise PackageError(f"the network's own answer to an image of the check is refused: {found}")
    return found


def _batch(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels_of(image[None]))
