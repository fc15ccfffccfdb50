"""The fingerprint of a model: equal in all processes, different for different models."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from splitlearn.codecs import Huffman
from splitlearn.models import NormalizedSeparable, SplitModel, split
from splitlearn.quantizers import Clipped, MinMax
from splitlearn.runtime.fingerprint import _described, fingerprint_of
from tests.networks import Colours


class Shaped(NormalizedSeparable):
    """A bottleneck with an argument of any kind."""

    def __init__(self, shape: Any, given: Any) -> None:
        super().__init__(shape, channels=4, stride=2)
        self.given = given


def model(given: Any) -> SplitModel:
    torch.manual_seed(0)
    net = split(Colours(), "features", (3, 32, 32))
    return SplitModel(net, MinMax(8), Huffman(), partial(Shaped, given=given)).eval()


@pytest.mark.slow
def test_functions_and_classes_have_the_same_fingerprint_in_another_process() -> None:
    program = (
        "import torch; from torch import nn; from tests.runtime.test_fingerprint import model, fingerprint_of\n"
        "print(fingerprint_of(model([torch.relu, nn.ReLU, nn.functional.gelu])))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert told == fingerprint_of(model([torch.relu, nn.ReLU, nn.functional.gelu]))
    assert told != fingerprint_of(model([torch.relu, nn.ReLU, nn.functional.relu]))


def test_arrays_are_compared_by_all_their_values() -> None:
    long, other = torch.zeros(5000), torch.zeros(5000)
    other[2500] = 1
    assert _described(long) != _described(other)
    assert _described(long.numpy()) != _described(other.numpy())
    assert _described(long) == _described(long.clone())
    low, high = torch.zeros(4), torch.ones(4)
    net = split(Colours(), "features", (3, 32, 32))
    one, two = (SplitModel(net, Clipped.between(low, top, 8), Huffman()).eval() for top in (high, high * 2))
    assert fingerprint_of(one) != fingerprint_of(two)


def test_what_has_no_lasting_description_is_refused() -> None:
    with pytest.raises(ValueError, match="an argument of class object has no lasting description"):
        fingerprint_of(model(object()))
    assert fingerprint_of(model(nn.ReLU())) == fingerprint_of(model(nn.ReLU()))
