"""Latents to payloads without torch: the same bytes and bits as quantizer, codec and container one after the other."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from splitlearn import jit
from splitlearn.codecs import (
    RANS,
    Codec,
    CodecError,
    CompressedSparseRow,
    ContextRANS,
    Huffman,
    RunLength,
    decode_latent,
    encode_latent,
    pack,
    pack_latents,
    unpack,
    unpack_latents,
)
from splitlearn.codecs.container import pack_code
from splitlearn.models import SplitModel, resnet8, split
from splitlearn.numpy_quantizers import AffineGrid, Grid, MinMaxGrid, StepGrid
from splitlearn.quantizers import MinMax, Step

GRIDS = [MinMaxGrid(2), MinMaxGrid(3), MinMaxGrid(8), StepGrid(0.3, 13), StepGrid(), AffineGrid(0.02, 7, 200)]
CODECS = [RunLength(), Huffman(), RANS(), ContextRANS(), CompressedSparseRow()]


def latents(count: int = 3, shape: tuple[int, ...] = (4, 33, 30), seed: int = 0) -> np.ndarray:
    """Half of the values zero, as after ReLU; enough of them that fast loops run."""
    return np.maximum(np.random.default_rng(seed).normal(size=(count, *shape)), 0).astype(np.float32)


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
def test_one_call_equals_two(grid: Grid, codec: Codec) -> None:
    for one in (codec, codec.fitted([grid.quantize(x)[0] for x in latents(seed=1)], grid.levels)):
        for latent in latents():
            symbols, floats = grid.quantize(latent)
            code, its_floats = encode_latent(latent, grid, one)
            assert (code, its_floats) == (one.encode(symbols, grid.levels), floats)
            out = np.full(latent.shape, np.nan, np.float32)
            restored = decode_latent(code, latent.shape, floats, grid, one, out)
            assert restored is out
            np.testing.assert_array_equal(restored, grid.dequantize(symbols, floats))
            np.testing.assert_array_equal(decode_latent(code, latent.shape, floats, grid, one), restored)


@pytest.mark.parametrize("threads", [1, 2])
def test_batches_equal_single_images(threads: int) -> None:
    batch, grid, codec = latents(9), MinMaxGrid(3), Huffman()
    payloads = pack_latents(batch, grid, codec, context=77, threads=threads)
    for latent, payload in zip(batch, payloads, strict=True):
        symbols, floats = grid.quantize(latent)
        assert payload == pack(symbols, 8, codec, floats, 77)
        np.testing.assert_array_equal(unpack(payload, codec, 77)[0], symbols)
    out = np.empty_like(batch)
    restored = unpack_latents(payloads, grid, codec, 77, threads, out)
    assert all(np.shares_memory(one, out) for one in restored)
    np.testing.assert_array_equal(out, [grid.dequantize(*grid.quantize(latent)) for latent in batch])
    np.testing.assert_array_equal(np.stack(unpack_latents(payloads, grid, codec, 77)), out)


@pytest.mark.parametrize("quantizer", [MinMax(3), Step(0.5)], ids=["MinMax", "Step"])
def test_a_device_without_torch_talks_to_a_split_model(quantizer: MinMax | Step) -> None:
    net = split(resnet8().eval(), at="layer1", example=torch.rand(1, 3, 32, 32))
    model = SplitModel(net, quantizer, RunLength()).eval()
    images = torch.rand(3, 3, 32, 32)
    features = model.features(images)[0].numpy()
    assert quantizer.grid is not None
    payloads = pack_latents(features, quantizer.grid, model.coder.codecs[0], model.coder.context)
    assert payloads == model.compress(images)
    received = unpack_latents(payloads, quantizer.grid, model.coder.codecs[0], model.coder.context)
    np.testing.assert_array_equal(np.stack(received), model.coder.latents_hat(payloads)[0].numpy())


def test_refuses_what_cannot_be_quantized() -> None:
    grid, codec = MinMaxGrid(3), RunLength()
    bad = latents(1)[0]
    for value in (np.nan, np.inf, -np.inf, -np.float32(np.nan)):
        bad[1, 2, 3] = value
        for other in (codec, Huffman(), CompressedSparseRow()):
            for each in (grid, StepGrid(), AffineGrid()):
                with pytest.raises(ValueError, match="NaN or infinity"):
                    encode_latent(bad, each, other)
    with pytest.raises(ValueError, match="float32"):
        encode_latent(np.zeros(3), grid, codec)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float32"):
        grid.quantize(np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="2³¹"):
        encode_latent(np.broadcast_to(np.float32(0), (2**16, 2**15)), grid, codec)
    with pytest.raises(ValueError, match="threads"):
        pack_latents(latents(), grid, codec, threads=0)


def test_refuses_an_output_that_does_not_fit() -> None:
    grid, codec = MinMaxGrid(3), RunLength()
    batch = latents()
    payloads = pack_latents(batch, grid, codec)
    code, floats = encode_latent(batch[0], grid, codec)
    for out in (
        np.empty((4, 33, 31), np.float32),
        np.empty(batch[0].shape),
        np.empty((4, 33, 60), np.float32)[..., ::2],
    ):
        with pytest.raises(ValueError, match="out"):
            decode_latent(code, batch[0].shape, floats, grid, codec, out)
    with pytest.raises(ValueError, match="room for 2 latents"):
        unpack_latents(payloads, grid, codec, out=np.empty((2, 4, 33, 30), np.float32))
    with pytest.raises(CodecError, match=r"of shape \(4, 33, 30\), not of \(4, 30, 33\)"):
        unpack_latents(payloads, grid, codec, out=np.empty((3, 4, 30, 33), np.float32))
    with pytest.raises(ValueError, match="needs 2 floats"):
        decode_latent(code, batch[0].shape, (), grid, codec)
    with pytest.raises(ValueError, match="out must"):
        grid.quantize(batch[0], np.empty(3, np.uint8))


def test_refuses_payloads_of_another_grid_or_damage() -> None:
    payloads = pack_latents(latents(), MinMaxGrid(3), RunLength())
    with pytest.raises(CodecError, match="levels"):
        unpack_latents(payloads, MinMaxGrid(4), RunLength())
    with pytest.raises(CodecError, match="not quantized by"):
        unpack_latents(payloads, StepGrid(1.0, 8), RunLength())
    with pytest.raises(CodecError, match="damaged"):
        unpack_latents([payloads[0][:-1]], MinMaxGrid(3), RunLength())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MinMaxGrid(1), "bits"),
        (lambda: StepGrid(0.0), "step"),
        (lambda: StepGrid(1.0, 300), "levels"),
        (lambda: AffineGrid(-1.0), "scale"),
        (lambda: AffineGrid(1.0, 256), "zero_point"),
    ],
)
def test_refuses_grids(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


def test_runs_without_torch() -> None:
    code = (
        "import sys, numpy as np; from splitlearn.codecs import *; from splitlearn.numpy_quantizers import MinMaxGrid;"
        "x = np.ones((2, 3, 4), np.float32); p = pack_latents([x], MinMaxGrid(3), RunLength());"
        "assert (unpack_latents(p, MinMaxGrid(3), RunLength())[0] == x).all(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_codecs_can_be_tested_without_torch() -> None:
    code = "import sys; from splitlearn.testing import CodecContract; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_kernels_compile_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def cache(kernel: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(jit, "KernelCache", cache)
    with pytest.warns(UserWarning, match="NUMBA_CACHE_DIR"):
        twice = jit.njit(lambda x: 2 * x)
    assert twice(3) == 6


def test_forged_headers_are_codec_errors() -> None:
    codec = RANS(per_channel=True).fitted([np.zeros((4, 5, 30), np.uint8)], 8)
    with pytest.raises(CodecError, match="contradicts"):
        unpack_latents([pack_code(b"abc", (5, 30), 8, codec, (0.0, 1.0))], MinMaxGrid(3), codec)
    forged = pack_code(b"", (0, 2**31 - 1, 2**31 - 1, 2**31 - 1), 8, RunLength(), (0.0, 1.0))
    with pytest.raises(CodecError):
        unpack_latents([forged], MinMaxGrid(3), RunLength())
    with pytest.raises(CodecError):
        unpack(forged, RunLength())
