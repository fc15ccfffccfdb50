"""The numpy half of a feature coder: the same payloads, without torch."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet18

from splitlearn.codecs import RANS, CodecError, ContextRANS, Huffman, RunLength
from splitlearn.models import DepthwiseSeparable, SplitModel, faster_rcnn, split
from splitlearn.quantizers import Affine, Clipped, MinMax, Quantizer, Step
from tests.networks import SHAPE, carra, datta, digits, halves


def two_tensors() -> SplitModel:
    torch.manual_seed(0)
    net = split(resnet18(num_classes=10), "layer1.0.conv1", SHAPE)
    return SplitModel(net, [MinMax(4), Step(0.25)], [RunLength(), Huffman()]).eval()


def quantized_by(quantizer: Quantizer) -> SplitModel:
    net = halves("layer2")
    return SplitModel(net, quantizer, ContextRANS(), partial(DepthwiseSeparable, channels=4, stride=2)).eval()


MAKERS = [datta, carra, two_tensors, partial(quantized_by, Clipped(0.0, 2.0, 5)), partial(quantized_by, Affine(0.1, 3))]


@pytest.mark.parametrize("make", MAKERS)
def test_payloads_are_those_of_torch(make: Callable[[], SplitModel]) -> None:
    model, images = make(), digits(4)
    coder, payloads = model.coder.numpy_half, model.compress(images)
    latents = [t.detach().numpy() for t in model.coder.latents(model.features(images))]
    symbols = [t.numpy() for t in model.symbols(images)]
    hats = [t.numpy() for t in model.coder.latents_hat(payloads)]
    for number, payload in enumerate(payloads):
        assert coder.encode([latent[number] for latent in latents]) == payload
        found = coder.unpack(payload)
        assert coder.pack(found) == payload
        for mine, theirs in zip(found, symbols, strict=True):
            np.testing.assert_array_equal(mine[0], theirs[number])
        for hat, expected in zip(coder.decode(payload), hats, strict=True):
            np.testing.assert_array_equal(hat, expected[number])


def test_integers_cross_as_they_are() -> None:
    torch.manual_seed(0)
    net = split(faster_rcnn("resnet18", num_classes=3, min_size=32, max_size=64), "backbone.body.layer1", (3, 32, 32))
    model = SplitModel(net, MinMax(4), RANS()).eval()
    (payload,) = model.compress([digits(1)[0]])
    coder = model.coder.numpy_half
    floats, sizes = (t[0].numpy() for t in model.coder.latents_hat([payload]))
    found, stored = coder.decode(payload)
    np.testing.assert_array_equal(found, floats)
    np.testing.assert_array_equal(stored.view(sizes.dtype), sizes)
    features = model.features(digits(1))
    assert coder.encode([t[0].numpy() for t in features]) == payload


def test_shapes_are_bounded_before_anything_is_decoded() -> None:
    model = datta()
    coder = model.coder.numpy_half
    (symbols, floats), *_ = coder.unpack(model.compress(digits(1))[0])
    forged = coder.pack([(np.zeros((8, 4, 400), np.uint8), floats)])
    with pytest.raises(CodecError, match="the payload holds a tensor of shape"):
        coder.unpack(forged)
    assert coder.unpack(coder.pack([(symbols, floats)]))[0][0].shape == symbols.shape


CODE = """
import pickle, sys
sys.modules["torch"] = None
coder, latents, payload = pickle.load(open(sys.argv[1], "rb"))
assert coder.encode(latents) == payload
assert "torch" not in {name for name, module in sys.modules.items() if module is not None}
print("same")
"""


@pytest.mark.slow
def test_it_works_without_torch(tmp_path: Path) -> None:
    model, images = carra(), digits(1)
    latents = [t[0].numpy() for t in model.coder.latents(model.features(images))]
    path = tmp_path / "coder.pickle"
    path.write_bytes(pickle.dumps((model.coder.numpy_half, latents, model.compress(images)[0])))
    done = subprocess.run([sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, timeout=120)
    assert done.stdout == "same\n", done.stderr


def test_a_quantizer_without_a_twin_is_named() -> None:
    quantizer = Step(0.5)
    quantizer.grid = None
    model = quantized_by(quantizer)
    with pytest.raises(ValueError, match="has no twin in numpy"):
        model.coder.numpy_half.encode([np.zeros((4, 8, 8), np.float32)])
