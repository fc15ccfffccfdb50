"""Conversion of latents to payloads and back without torch, with quantizer, codec and container in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs.base import MAX_ELEMENTS, Codec, CodecError, Payload, as_array, checked_shape
from splitlearn.codecs.container import MAX_UNPACKED, as_bytes, pack_code, read_header
from splitlearn.codecs.payload_coder import check_quantizer
from splitlearn.numpy_quantizers import Grid, check_latent, check_output

Latents = Sequence[NDArray[np.float32]] | NDArray[np.float32]  # one array per image, or one with a batch axis
A = TypeVar("A")
B = TypeVar("B")


def encode_latent(latent: NDArray[np.float32], grid: Grid, codec: Codec) -> tuple[bytes, tuple[float, ...]]:
    """Quantize and encode one latent; return its bytes without a header, and the floats that `decode_latent` needs.

    Fast codecs quantize and encode in one compiled call.

    Args:
        latent: float32 array of any shape.
        grid: an even quantizer, e.g. `MinMaxGrid(bits=3)` or a torch quantizer's `grid`.
        codec: symbols to bytes.

    Raises:
        ValueError: if the latent is not float32, holds NaN or infinity, or has more than 2³¹−1 elements.
    """
    check_latent(latent)
    if latent.size > MAX_ELEMENTS:
        raise ValueError(f"at most 2³¹−1 symbols fit in one payload, got {latent.size}")
    if latent.size == 0:
        return b"", grid.empty_floats()
    return codec._encode_latent(latent, grid)


def decode_latent(
    code: Payload,
    shape: Sequence[int],
    floats: tuple[float, ...],
    grid: Grid,
    codec: Codec,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Decode and dequantize the bytes that `encode_latent` returned.

    Args:
        code: the bytes.
        shape: shape of the latent.
        floats: floats that `encode_latent` returned.
        grid: an equal quantizer.
        codec: an equal codec.
        out: contiguous float32 array of that shape for the result; by default a new one. Its content after an error
            is undefined.

    Raises:
        CodecError: if damage of the code is detected.
        ValueError: if `out` does not fit the shape, or floats are missing.
    """
    shape = checked_shape(shape)
    if out is not None:
        check_output(out, np.float32, shape)
    if 0 in shape:
        symbols = codec.decode(code, shape, grid.levels)
        return grid.dequantize(symbols, floats, out)
    return codec._decode_latent(as_array(code), shape, floats, grid, out)


def pack_latents(latents: Latents, grid: Grid, codec: Codec, context: int = 0, threads: int = 1) -> list[bytes]:
    """Return one container for each latent, in the format of `pack`.

    Args:
        latents: float32 arrays, one per image, e.g. an array `(B, C, H, W)`.
        grid: an even quantizer; its floats are stored in the container.
        codec: symbols to bytes.
        context: 32-bit number as for `pack`; `unpack_latents` needs the same.
        threads: number of threads; the kernels release the global interpreter lock.

    Raises:
        ValueError: if a latent cannot be quantized or does not fit in a container.
    """
    _check_parts(grid, codec)

    def work(latent: NDArray[np.float32]) -> bytes:
        code, floats = encode_latent(latent, grid, codec)
        return pack_code(code, latent.shape, grid.levels, codec, floats, context)

    return _each(work, latents, threads)


def unpack_latents(
    payloads: Sequence[Payload],
    grid: Grid,
    codec: Codec,
    context: int = 0,
    threads: int = 1,
    out: Latents | None = None,
    *,
    shape: Sequence[int] | None = None,
    max_elements: int = MAX_UNPACKED,
) -> list[NDArray[np.float32]]:
    """Return the dequantized latents of the containers that `pack_latents` wrote, one per image.

    Args:
        payloads: the containers.
        grid: an equal quantizer.
        codec: an equal codec.
        context: the same number as for `pack_latents`.
        threads: number of threads.
        out: float32 arrays for the results, one per image, e.g. an array `(B, C, H, W)`; by default new ones. Their
            content after an error is undefined.
        shape: required shape of each latent, as for `unpack`; by default that of its array in `out`, or any.
        max_elements: largest number of elements of a latent, if neither `shape` nor `out` is given.

    Raises:
        CodecError: if a container is damaged, was packed with another codec, grid or context, has another shape or too
            many elements, or its floats are not finite.
        ValueError: if `out` does not fit.
    """
    _check_parts(grid, codec)
    if out is not None and len(out) != len(payloads):
        raise ValueError(f"out has room for {len(out)} latents, not for {len(payloads)}")

    def work(index: int) -> NDArray[np.float32]:
        payload = as_bytes(payloads[index])
        header = read_header(payload, codec, context)
        check_quantizer(header, grid.levels, grid.floats_per_image, grid)
        room = None if out is None else out[index]
        if room is not None:
            check_output(room, np.float32, room.shape)
        header.check(room.shape if shape is None and room is not None else shape, max_elements)
        try:
            return decode_latent(memoryview(payload)[header.body :], header.shape, header.floats, grid, codec, room)
        except CodecError:
            raise
        except ValueError as error:  # only a forged header has arguments that a codec refuses
            raise CodecError(f"the header contradicts the codec: {error}") from error

    return _each(work, range(len(payloads)), threads)


def _check_parts(grid: Grid, codec: Codec) -> None:
    if not isinstance(grid, Grid):
        raise ValueError(f"grid must be a grid such as MinMaxGrid(bits=3), or a quantizer's .grid, got {grid!r}")
    if not isinstance(codec, Codec):
        raise ValueError(f"codec must be a codec such as Huffman(), got {codec!r}")


def _each(work: Callable[[A], B], items: Iterable[A], threads: int) -> list[B]:
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if threads == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))
