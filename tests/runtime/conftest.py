"""Packages that several test files share; their export takes seconds, so each is written once."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from filelock import FileLock
from numpy.typing import NDArray

from splitlearn.codecs import ContextRANS, Huffman, RunLength
from splitlearn.models import (
    CutModel,
    EarlyExitModel,
    Normalize,
    NormalizedSeparable,
    OperatingPoint,
    SplitModel,
    VariableRateModel,
    resnet8,
    split,
)
from splitlearn.quantizers import Clipped, MinMax, Step
from splitlearn.runtime import write_package
from splitlearn.runtime.forms import TopClasses
from splitlearn.runtime.package_file import sealed
from splitlearn.runtime.preparation import CentreCropTo, Resize
from tests.networks import SHAPE, digits

WEIGHTS = Path(__file__).parents[2] / "checkpoints" / "resnet8_digits.safetensors"
NORMALIZE = Normalize([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])


class Packaged(NamedTuple):
    """A package beside its model."""

    folder: Path
    model: CutModel


def pixels(count: int) -> NDArray[np.uint8]:
    """Digits as a camera gives them, uint8 `(count, 32, 32, 3)`."""
    return (digits(count).numpy() * 255).round().astype(np.uint8).transpose(0, 2, 3, 1).copy()


def packaged(model: CutModel, name: str, place: pytest.TempPathFactory) -> Packaged:
    """Write a package, once for all processes of the tests."""
    folder = place.getbasetemp().parent / f"package_{name}_{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.is_dir():
            prepared = [Resize(32), CentreCropTo(32, 32)]
            write_package(model, folder, pixels(12), TopClasses(3), [str(n) for n in range(10)], prepared)
    return Packaged(folder, model)


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Return a change of a package's manifest, with a right checksum."""

    def act(folder: Path) -> None:
        about = json.loads((folder / "manifest.json").read_text())
        change(about)
        (folder / "manifest.json").write_text(json.dumps(sealed(about)))

    return act


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    """Three rates: calibrated levels and static tables, a bottleneck, and features as they are."""
    torch.manual_seed(0)  # the same in all processes
    net = split(resnet8(weights=WEIGHTS), "layer2", SHAPE)
    plain = SplitModel(net, MinMax(4), RunLength(), normalize=NORMALIZE).eval()
    features = plain.features(digits(16))[0]
    low, high = features.amin((0, 2, 3)), features.amax((0, 2, 3)) + 0.1
    clipped = SplitModel(net, Clipped.between(low, high, 4), ContextRANS(), normalize=NORMALIZE).eval()
    symbols = [each.numpy() for each in clipped.symbols(digits(16))[0]]
    clipped = clipped.coded_by(clipped.coder.quantizers, [ContextRANS.fit(symbols, 4)])
    small = SplitModel(net, Step(0.2), Huffman(), partial(NormalizedSeparable, channels=4, stride=2), NORMALIZE).eval()
    points = [OperatingPoint(0.8, 60.0), OperatingPoint(0.9, 300.0), OperatingPoint(0.95, 2000.0)]
    return packaged(VariableRateModel.of([small, clipped, plain], points), "bank", tmp_path_factory)


@pytest.fixture(scope="session")
def exits(tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    """Two exits, one of them at the cut, and thresholds that let some images leave at each."""
    torch.manual_seed(0)
    net = split(resnet8(weights=WEIGHTS), "layer2", SHAPE)
    bottleneck = partial(NormalizedSeparable, channels=4, stride=2)
    model = EarlyExitModel(net, MinMax(4), Huffman(), ["layer1", "layer2"], bottleneck=bottleneck, normalize=NORMALIZE)
    model.eval().temperatures.mul_(4.0)
    values = [sorted(model.confidence(found / 4).tolist()) for found in model.run(digits(12)).exits]
    model.threshold = [values[0][7] - 1e-3, values[1][5] - 1e-3]
    return packaged(model, "exits", tmp_path_factory)
