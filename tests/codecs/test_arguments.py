"""What callers hand over: numpy's integers, views of bytes, and bounds on what a payload may claim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from splitlearn.codecs import (
    RANS,
    Codec,
    CodecError,
    ContextRANS,
    Huffman,
    RunLength,
    decode_latent,
    encode_latent,
    pack,
    pack_latents,
    tagged,
    unpack,
    unpack_latents,
    untagged,
)
from splitlearn.codecs.container import MAX_UNPACKED, pack_code, read_header
from splitlearn.numpy_quantizers import AffineGrid, MinMaxGrid, StepGrid
from splitlearn.quantizers import Affine, Clipped, MinMax, Step
from splitlearn.testing import random_symbols
from tests.codecs.test_contract import CODECS

SYMBOLS = random_symbols((20, 20, 3), 8, 0.4, 5)  # 1200 elements: their product overflows eight bits


@pytest.mark.parametrize("cls", CODECS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int64])
def test_shapes_and_levels_of_numpy(cls: type[Codec], dtype: type[np.integer[Any]]) -> None:
    codec, levels = cls(), dtype(8)
    sizes = np.array(SYMBOLS.shape, dtype)
    code = codec.encode(SYMBOLS, levels)  # type: ignore[arg-type]
    for shape in (tuple(sizes), sizes, list(sizes)):
        assert np.array_equal(codec.decode(code, shape, levels), SYMBOLS)  # type: ignore[arg-type]
    payload = pack_code(code, tuple(sizes), levels, codec, (), np.uint32(77))  # type: ignore[arg-type]
    assert payload == pack(SYMBOLS, 8, codec, (), 77)
    found = unpack(payload, codec, np.uint32(77), shape=sizes)[0]  # type: ignore[arg-type]
    assert np.array_equal(found, SYMBOLS)


def test_small_integers_do_not_overflow_past_the_size_check() -> None:
    shape = tuple(np.array([16, 16, 1], np.uint8))  # 256 elements, 0 in eight bits
    with pytest.raises(CodecError):
        RunLength().decode(b"", shape, 8)
    with pytest.raises(ValueError, match="more than 2³¹−1 elements"):
        Huffman().decode(b"\0", tuple(np.array([2**16, 2**16], np.int32)), 8)


@pytest.mark.parametrize("shape", [5, (2.0, 3), "ab", (None,), np.array(7), np.array([1.0])])
def test_what_is_no_shape_is_told(shape: Any) -> None:
    with pytest.raises(ValueError, match="a shape is a tuple of integers"):
        RANS().decode(b"", shape, 8)
    with pytest.raises(ValueError, match="a shape is a tuple of integers"):
        decode_latent(b"", shape, (), StepGrid(1.0, 8), RANS())
    with pytest.raises(ValueError, match="a shape is a tuple of integers"):
        pack_code(b"", shape, 8, RANS())
    with pytest.raises(ValueError, match="negative dimension"):
        pack_code(b"", (2, -1), 8, RANS())


def test_grids_and_quantizers_take_integers_of_numpy() -> None:
    latent = np.linspace(-1, 1, 100, dtype=np.float32)
    for grid, same in (
        (MinMaxGrid(np.uint8(8)), MinMaxGrid(8)),  # type: ignore[arg-type]
        (StepGrid(np.float32(0.5), np.uint8(200)), StepGrid(0.5, 200)),  # type: ignore[arg-type]
        (AffineGrid(0.25, np.uint8(128), np.int64(256)), AffineGrid(0.25, 128, 256)),  # type: ignore[arg-type]
    ):
        assert pack_latents([latent], grid, RunLength()) == pack_latents([latent], same, RunLength())
        assert grid == same
        assert repr(grid) == repr(same)
    for quantizer, other in (
        (MinMax(np.uint8(8)), MinMax(8)),  # type: ignore[arg-type]
        (Step(0.5, np.uint8(200)), Step(0.5, 200)),  # type: ignore[arg-type]
        (Affine(0.25, np.uint8(128)), Affine(0.25, 128)),  # type: ignore[arg-type]
        (Clipped(0.0, 1.0, np.uint8(200), np.int64(3)), Clipped(0.0, 1.0, 200, 3)),  # type: ignore[arg-type]
    ):
        assert repr(quantizer) == repr(other)
    for bad in (2.5, "3", None, 9):
        with pytest.raises(ValueError, match="bits must be an integer in 2…8"):
            MinMaxGrid(bad)  # type: ignore[arg-type]


def views(payload: bytes) -> list[Any]:
    """The same bytes, held by others."""
    whole = np.frombuffer(payload, np.uint8)
    spread = np.repeat(whole, 2)[::2]
    arrays: list[Any] = [whole, whole.copy(), whole.view(np.int8), spread, whole.reshape(1, -1)]
    return [bytearray(payload), *arrays, *(memoryview(array) for array in arrays), memoryview(payload).cast("c")]


@pytest.mark.parametrize("codec", [RunLength(), Huffman(), RANS(), ContextRANS()])
def test_payloads_may_be_any_view_of_bytes(codec: Codec) -> None:
    latent = np.random.default_rng(0).normal(size=(4, 9, 10)).astype(np.float32)
    grid = MinMaxGrid(3)
    code, floats = encode_latent(latent, grid, codec)
    (payload,) = pack_latents([latent], grid, codec)
    expected = unpack_latents([payload], grid, codec)[0]
    symbols = codec.decode(code, latent.shape, 8)
    for view in views(code):
        assert np.array_equal(codec.decode(view, latent.shape, 8), symbols)
        assert np.array_equal(decode_latent(view, latent.shape, floats, grid, codec), expected)
    for view in views(payload):
        assert np.array_equal(unpack(view, codec)[0], symbols)
        assert np.array_equal(unpack_latents([view], grid, codec)[0], expected)
        assert read_header(view, codec).shape == latent.shape
        assert untagged(tagged(view, 3)) == (3, payload)


@pytest.mark.parametrize("payload", [None, "text", 5, [1, 2], np.zeros(40), np.zeros(40, np.int64), np.zeros(4, bool)])
def test_what_is_no_payload_is_told(payload: Any) -> None:
    for read in (
        lambda: RunLength().decode(payload, (2,), 8),
        lambda: unpack(payload, RunLength()),
        lambda: untagged(payload),
        lambda: unpack_latents([payload], MinMaxGrid(3), RunLength()),
    ):
        with pytest.raises(ValueError, match="a payload is bytes or an array of 8-bit integers, got"):
            read()


def bomb(shape: tuple[int, ...]) -> bytes:
    """Few bytes that stand for many symbols, with a right checksum."""
    lone = Huffman().encode(np.zeros(9, np.uint8), 8)
    return pack_code(lone, shape, 8, Huffman(), (0.0, 1.0))


def test_bombs_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Huffman, "decode", None)  # nothing may be decoded
    monkeypatch.setattr(Huffman, "_decode_latent", None)
    for shape in ((2**31 - 1,), (2**26,), (1 + MAX_UNPACKED,)):
        with pytest.raises(CodecError, match=r"claims to hold .* symbols, and max_elements is 33,554,432"):
            unpack(bomb(shape), Huffman())
        with pytest.raises(CodecError, match="max_elements is 33,554,432"):
            unpack_latents([bomb(shape)], MinMaxGrid(3), Huffman())
        with pytest.raises(CodecError, match=r"not of \(4, 5\)"):
            unpack(bomb(shape), Huffman(), shape=(4, 5))
        with pytest.raises(CodecError, match=r"not of \(4, 5\)"):
            unpack_latents([bomb(shape)], MinMaxGrid(3), Huffman(), out=[np.empty((4, 5), np.float32)])
        with pytest.raises(CodecError, match=r"not of \(4, 5\)"):
            unpack_latents([bomb(shape)], MinMaxGrid(3), Huffman(), shape=(4, 5))


def test_bounds_can_be_set() -> None:
    payload = bomb((30, 40))
    assert unpack(payload, Huffman(), max_elements=1200)[0].shape == (30, 40)
    assert unpack(payload, Huffman(), shape=(30, 40), max_elements=1)[0].shape == (30, 40)
    with pytest.raises(CodecError, match="max_elements is 1,199: set a larger one"):
        unpack(payload, Huffman(), max_elements=1199)
    assert unpack_latents([payload], MinMaxGrid(3), Huffman(), shape=(30, 40))[0].shape == (30, 40)
    with pytest.raises(CodecError, match="max_elements is 7"):
        unpack_latents([payload], MinMaxGrid(3), Huffman(), max_elements=7)


@pytest.mark.parametrize("floats", [(float("nan"), 1.0), (0.0, float("inf")), (float("-inf"), 0.0)])
def test_floats_that_are_not_finite_are_refused(floats: tuple[float, float]) -> None:
    payload = pack(SYMBOLS, 8, RunLength(), floats)
    with pytest.raises(CodecError, match="are not finite"):
        unpack_latents([payload], MinMaxGrid(3), RunLength())


def test_levels_of_another_quantizer_are_refused() -> None:
    with pytest.raises(CodecError, match="it has 8 levels and 1 floats, not 8 and 2"):
        unpack_latents([pack(SYMBOLS, 8, RunLength(), (0.0,))], MinMaxGrid(3), RunLength())
