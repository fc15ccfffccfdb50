"""A codec that loses is found by every test, and by every prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from splitlearn.codecs import CodecError, Huffman, Raw
from splitlearn.data import Digits
from splitlearn.models import (
    CompressionModel,
    EarlyExitModel,
    ImageFile,
    InputModel,
    OperatingPoint,
    SplitModel,
    TiledFeatures,
    VariableRateModel,
    resnet8,
    split,
)
from splitlearn.quantizers import Clipped, MinMax
from splitlearn.tasks import ClassificationTask, EarlyExitTask
from tests.networks import SHAPE
from tests.tasks.conftest import MakeTrainer


class Loses(Raw):
    """Takes the highest symbol for the one below, which few images have."""

    def _decode(self, payload: NDArray[np.uint8], shape: tuple[int, ...], levels: int) -> NDArray[np.uint8]:
        return np.minimum(super()._decode(payload, shape, levels), levels - 2)


def bank() -> CompressionModel:
    net = split(resnet8(), "layer2", SHAPE)
    models = [SplitModel(net, MinMax(4), codec) for codec in (Huffman(), Loses())]
    return VariableRateModel.of(models, [OperatingPoint(0.5, 10), OperatingPoint(0.4, 20)])


@pytest.mark.parametrize("work", ["test", "predict"])
@pytest.mark.parametrize("make", ["split", "exits", "bank"])
def test_a_codec_that_loses_fails(make_trainer: MakeTrainer, data: Digits, work: str, make: str) -> None:
    task: Any
    if make == "exits":
        net = split(resnet8(), "layer2", SHAPE)
        task = EarlyExitTask(EarlyExitModel(net, MinMax(4), Loses(), threshold=0.0), 10)  # though nothing is sent
    else:
        model = bank() if make == "bank" else SplitModel(split(resnet8(), "layer2", SHAPE), MinMax(4), Loses())
        task = ClassificationTask(model, 10)
    with pytest.raises(CodecError, match=r"Loses is not lossless: \d+ of an image's \d+ symbols came back changed"):
        getattr(make_trainer(), work)(task, data)


def test_image_files_lose_as_they_should(make_trainer: MakeTrainer, data: Digits) -> None:
    net = split(resnet8(), "layer2", SHAPE)
    for model in (InputModel(resnet8(), ImageFile("JPEG", 50)), TiledFeatures(net, MinMax(8), ImageFile("JPEG", 50))):
        make_trainer(limit_test_batches=1).test(ClassificationTask(model, 10), data, verbose=False)


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (32, 896)])
def test_levels_are_counted_whatever_carries_the_features(
    make_trainer: MakeTrainer, data: Digits, channels: int, size: int
) -> None:
    net, quantizer = split(resnet8(), "layer2", SHAPE), Clipped(0.0, 2.0, 4, channels)
    told = []
    for model in (SplitModel(net, quantizer, Huffman()), TiledFeatures(net, quantizer, ImageFile("PNG"))):
        (found,) = make_trainer(limit_test_batches=1).test(ClassificationTask(model, 10), data, verbose=False)
        told.append(found["test/table_bytes"])
    assert told == [size, size]
