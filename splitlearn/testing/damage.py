"""Damaged payloads for `fuzz_codecs`, which documents their kinds and legal outcomes."""

from __future__ import annotations

import math
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs import Codec, pack
from splitlearn.codecs.container import MAGIC, pack_code
from splitlearn.numpy_quantizers import AffineGrid, Grid, MinMaxGrid, StepGrid
from splitlearn.testing.codec import edge_cases, random_symbols

Symbols = NDArray[np.uint8]
Shape = tuple[int, ...]

LEVELS = (2, 3, 4, 8, 16, 17, 100, 255, 256)
WAYS = {"code": 40, "elsewhere": 12, "container": 20, "forged code": 16, "forged header": 10, "huge": 2}  # weights
CHANGES = (
    *("bits", "bits", "bytes", "bytes", "start", "tail", "truncated", "extended"),
    *("deleted", "repeated", "swapped", "spliced", "foreign", "noise"),
)
CEILING = 1 << 24  # largest number of symbols to decode; a tiny code can claim any number of equal ones
CEILINGS = ((CEILING,), (4096, 4096), (CEILING, 1), (1, CEILING), (2, 4, CEILING // 8))
HUGE = ((2**31 - 1,), (1, 2**31 - 1), (2**31 - 1, 1), (46_340, 46_340), (2**15, 2**8, 2**8 - 1), (3, 2**29))
MANY_CHANNELS = ((600, 1, 1), (2048, 1, 1), (1280, 4, 4))  # shapes with expensive tables per channel
FLOATS = (-0.5, 3.0, 0.25)
SMALL_CODE = 4096  # bytes; a shorter code of several different symbols cannot claim as many symbols as `HUGE`


@dataclass(frozen=True)
class Source:
    """An array and its payloads.

    Attributes:
        codec: codec of the payloads.
        symbols: the array.
        levels: size of its alphabet.
        grid: a quantizer with this alphabet and `floats`, if the array is also read as a latent.
        floats: floats in the container.
        code: the bare code.
        container: the code in a container.
    """

    codec: Codec
    symbols: Symbols
    levels: int
    grid: Grid | None
    floats: tuple[float, ...]
    code: bytes
    container: bytes


@dataclass(frozen=True)
class Case:
    """One payload to decode.

    Attributes:
        source: origin of the payload.
        way: kind of payload, one of `WAYS` or `whole`.
        change: kind of damage.
        payload: the bytes.
        shape: shape of a bare code, or in an undamaged header of a container.
        levels: size of the alphabet of a bare code, or in an undamaged header of a container.
        is_container: whether it is a container (`unpack`, `unpack_latents`) or a bare code (`decode`, `decode_latent`).
        grid: quantizer, if the payload is read as a latent.
    """

    source: Source
    way: str
    change: str
    payload: bytes
    shape: Shape
    levels: int
    is_container: bool
    grid: Grid | None = None

    @property
    def kind(self) -> str:
        """Return the category for counts of outcomes: the way, and whether the payload is read as a latent."""
        return self.way if self.grid is None else f"latent {self.way}"

    def read_as_latent(self) -> Case:
        """Return the same payload for `decode_latent` or `unpack_latents`."""
        grid = self.source.grid
        if not self.is_container and grid is not None and grid.levels != self.levels:
            grid = StepGrid(0.5, self.levels)  # without floats, so those of the source do not matter
        return replace(self, grid=grid)

    def record(self) -> dict[str, Any]:
        """Return the data for a repetition."""
        details = {key: getattr(self, key) for key in ("way", "change", "shape", "levels", "is_container")}
        return {**details, "grid": repr(self.grid), "payload": self.payload.hex()}


@cache
def edges(levels: int) -> list[Symbols]:
    """Return edge cases for codecs."""
    return list(edge_cases(levels).values())


def draw_symbols(rng: random.Random, is_bulk: bool) -> tuple[Symbols, int]:
    """Return an array and its alphabet: mostly small, sometimes large enough for the fast loops."""
    levels, seed, kind = rng.choice(LEVELS), rng.getrandbits(32), rng.random()
    zeros = rng.choice((0.0, 0.5, 0.95, 0.999, 1.0))
    if is_bulk:
        return random_symbols((4, 512, 520), levels, zeros, seed), levels
    if kind > 0.96:
        return random_symbols(rng.choice(MANY_CHANNELS), levels, zeros, seed), levels
    if kind < 0.1:
        return rng.choice(edges(levels)), levels
    if kind < 0.2:
        return random_symbols((rng.randint(1, 3), 128, rng.randint(128, 160)), levels, zeros, seed), levels
    shape = (rng.randrange(600),) if kind < 0.4 else tuple(rng.randint(0, 12) for _ in range(rng.randint(0, 3)))
    if kind < 0.7:
        return random_symbols(shape, levels, zeros, seed), levels
    flat = np.frombuffer(rng.randbytes(math.prod(shape)), np.uint8) % np.uint16(levels)
    return flat.astype(np.uint8).reshape(shape), levels


def draw_grid(levels: int, rng: random.Random) -> Grid:
    """Return a quantizer with this alphabet."""
    grids: list[Grid] = [StepGrid(0.5, levels), AffineGrid(0.25, rng.randrange(levels), levels)]
    if levels in (4, 8, 16, 256):
        grids += [MinMaxGrid(levels.bit_length() - 1)] * 2
    return rng.choice(grids)


def damaged(payload: bytes, donor: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return the kind of damage and a damaged copy of `payload`, sometimes with pieces of `donor`."""
    data = bytearray(payload or b"\0")
    change = rng.choice(CHANGES) if payload else rng.choice(("extended", "foreign", "noise"))
    at, size = rng.randrange(len(data)), rng.choice((1, 2, 4, rng.randint(1, len(data))))
    match change:
        case "bits":
            for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case "bytes":
            for _ in range(rng.choice((1, 1, 2, 5))):
                data[rng.randrange(len(data))] = rng.choice((0, 1, 127, 128, 254, 255, rng.randrange(256)))
        case "start":  # tables and sizes
            data[rng.randrange(min(len(data), 4))] ^= rng.randrange(1, 256)
        case "tail":
            data[at:] = rng.randbytes(len(data) - at)
        case "truncated":
            del data[-size:]
        case "extended":
            size = rng.choice((1, 1, 2, 4, 8, 300))
            data = data[: len(payload)] + rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size), data[-size:]))
        case "deleted":
            del data[at : at + size]
        case "repeated":
            data[rng.randrange(len(data)) : 0] = data[at : at + size]
        case "swapped":
            data[at:] = data[at + size :] + data[at : at + size]
        case "spliced":
            data[at:] = donor[rng.randrange(len(donor) + 1) :]
        case "foreign":  # the payload of another array or of another codec
            data[:] = donor
        case "noise":
            size = rng.choice((0, 1, 2, 3, 8, len(data), rng.randrange(200)))
            data[:] = rng.choice((rng.randbytes(size), bytes(size), b"\xff" * size))
    return change, bytes(data)


def other_shape(source: Source, rng: random.Random) -> Shape:
    """Return a shape that usually differs from that of the array."""
    shape, size = source.symbols.shape, source.symbols.size
    if rng.random() < 0.01:
        return rng.choice(CEILINGS)
    flat = ((size + 1,), (max(size - 1, 0),), (size,), (1, size), (size, 1), (), (rng.randrange(4096),))
    deep = (shape[::-1], (2, *shape), (*shape, 1), (size, 0, 5), (rng.randint(1, 40), rng.randint(1, 9), 4))
    return rng.choice(flat + deep)


def forged_header(source: Source, donor: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return a container with a damaged header, but with a right checksum and mostly a right version."""
    change, header = damaged(source.container[: -len(source.code) or None], donor, rng)
    return change, resealed(header.ljust(9, b"\0") + source.code, source.container, source.codec.identity, rng)


def resealed(changed: bytes, container: bytes, identity: int, rng: random.Random) -> bytes:
    """Return a changed container with right magic byte, identity and checksum, and mostly a right version."""
    changed = changed.ljust(9, b"\0")
    version = changed[1] if rng.random() < 0.2 else container[1] & 0xF0 | changed[1] & 0x0F
    start = bytes((MAGIC, version, changed[2], identity & 255, changed[4]))
    check = zlib.crc32(changed[9:], zlib.crc32(start)) ^ identity
    return start + check.to_bytes(4, "little") + changed[9:]


def draw_case(source: Source, donors: tuple[Sequence[bytes], Sequence[bytes]], rng: random.Random) -> Case:
    """Return one payload from `source` and from other codes and containers, the donors."""
    shape, levels = source.symbols.shape, source.levels
    (way,) = rng.choices(tuple(WAYS), tuple(WAYS.values()))
    if way == "container":
        change, payload = damaged(source.container, rng.choice(donors[1]), rng)
        is_whole = payload == donors[1][0]  # an undamaged container of another array is no test
        return Case(source, way, change, payload[is_whole:], shape, levels, True)
    if way == "forged header":
        return Case(source, way, *forged_header(source, rng.choice(donors[1]), rng), shape, levels, True)
    change, code = damaged(source.code, rng.choice(donors[0]), rng)
    is_container = way == "forged code" or (way == "huge" and rng.random() < 0.5)
    if way == "huge":
        if len(source.code) > SMALL_CODE or source.symbols.size == 0 or np.ptp(source.symbols) == 0:
            return Case(source, "code", change, code, shape, levels, False)
        change, code, shape = "none", source.code, rng.choice(HUGE)
    elif way == "elsewhere" or (way == "forged code" and rng.random() < 0.4):
        if rng.random() < 0.5:
            change, code = "none", source.code
        if rng.random() < 0.7:
            shape = other_shape(source, rng)
        else:
            levels = rng.choice((*LEVELS, rng.randint(2, 256)))
    payload = pack_code(code, shape, levels, source.codec, source.floats) if is_container else code
    return Case(source, way, change, payload, shape, levels, is_container)


def draw_cases(
    make: Callable[[int, int], Codec | None], others: Sequence[type[Codec]], rng: random.Random, is_bulk: bool
) -> Iterator[Case]:
    """Yield payloads endlessly: for each array first undamaged, then damaged ones.

    Args:
        make: returns the codec for numbers of levels and channels; None if there is none.
        others: classes of foreign codecs.
        rng: random generator.
        is_bulk: whether to start with an array of a million symbols.
    """
    previous = (b"", b"")
    while True:
        symbols, levels = draw_symbols(rng, is_bulk)
        codec, other = make(levels, symbols.shape[0] if symbols.ndim > 1 else 1), rng.choice(others)()
        if codec is None:
            continue
        grid = draw_grid(levels, rng) if rng.random() < 0.6 else None
        floats = FLOATS[: rng.randrange(4) if grid is None else grid.floats_per_image]
        code, container = codec.encode(symbols, levels), pack(symbols, levels, codec, floats)
        source = Source(codec, symbols, levels, grid, floats, code, container)
        for payload in (code, container):
            case = Case(source, "whole", "none", payload, symbols.shape, levels, payload is container)
            yield from [case] if grid is None else [case, case.read_as_latent()]
        foreign = other.encode(symbols, levels)
        donors = ((previous[0], foreign), (previous[1], pack_code(foreign, symbols.shape, levels, other, floats)))
        for _ in range(10 if is_bulk else 200 if symbols.size < 4000 else 60):
            case = draw_case(source, donors, rng)
            yield case.read_as_latent() if rng.random() < 0.6 else case
        previous, is_bulk = (code, container), False
