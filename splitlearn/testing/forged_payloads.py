"""Forged payloads of whole models, for the test that `decompress` gives a prediction or raises CodecError.

Changes of a valid payload, with right checksums except for the last four:
    shape       a part claims another shape, from one element to two billion
    bomb        a few bytes of one repeated symbol claim another shape
    levels      a part claims another alphabet
    floats      limits that are not finite, extreme or exchanged, or a wrong number of them
    code        damaged code of a part
    symbols     other symbols, validly coded
    integers    image sizes and other crossing integers, from −2³¹ to 2³¹−1
    header      damaged bytes before the code
    tag         another number in the spare bits of the first byte
    exchange    a part of another image's payload: always refused
    message     damage of the whole payload
    noise       random bytes
    honest      no change: always a prediction
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs import CodecError, tagged
from splitlearn.codecs.container import join_parts, next_context, pack_code, split_parts
from splitlearn.codecs.payload_coder import Carrier
from splitlearn.models import SplitModel, TiledFeatures
from splitlearn.testing.damage import damaged, resealed

Shape = tuple[int, ...]
WAYS = {
    **{"shape": 14, "bomb": 6, "levels": 6, "floats": 10, "code": 18, "symbols": 4, "integers": 16},
    **{"header": 12, "tag": 3, "exchange": 3, "message": 4, "noise": 3, "honest": 1},
}
HUGE = (2**31 - 1, 2**26, 2**20, 46_340)
EXTREME = (math.nan, math.inf, -math.inf, 3.4e38, -3.4e38, 1e-45, 0.0, -1.0, 1e6)
INTEGERS = (-(2**31), -1, 0, 1, 2, 31, 2**15, 2**16, 2**31 - 1)


@dataclass(frozen=True)
class Piece:
    """The content of one container of a payload."""

    carrier: Carrier
    shape: Shape
    levels: int
    floats: tuple[float, ...]
    code: bytes


@dataclass(frozen=True)
class Forger:
    """Generator of forged payloads of a model.

    Attributes:
        model: the attacked model.
        payloads: two or more valid payloads.
        tags: legal numbers in the spare bits of the first byte; (0,) unless the model is part of a bank.
    """

    model: SplitModel | TiledFeatures
    payloads: Sequence[bytes]
    tags: Sequence[int] = (0,)

    def draw(self, rng: random.Random) -> tuple[str, bytes]:
        """Return the kind of change, and the forged payload."""
        (way,) = rng.choices(tuple(WAYS), tuple(WAYS.values()))
        payload, donor = rng.sample(list(self.payloads), 2)
        if way == "message":
            return way, damaged(payload, donor, rng)[1]
        if way == "noise":
            return way, rng.randbytes(rng.randrange(1, 400))
        parts = self.model.coder.payload_coder.read(payload)
        headers = [(part, part.header) for part in parts]
        pieces = [Piece(p.carrier, h.shape, h.levels, h.floats, p.payload[h.body :]) for p, h in headers]
        number = rng.randrange(len(pieces))
        if way == "exchange":
            return way, self._exchanged(payload, donor, number)
        if way == "integers":  # mostly image sizes
            number = next((i for i, p in enumerate(pieces) if p.carrier.quantizer is None), number)
        pieces[number] = forged_piece(pieces[number], way, rng)
        if way != "honest" and rng.random() < 0.15:  # a second change
            other = rng.randrange(len(pieces))
            pieces[other] = forged_piece(
                pieces[other], rng.choice(("shape", "levels", "floats", "code", "integers")), rng
            )
        header = number if way == "header" else None
        whole = self._put_together(pieces, header, rng)
        return way, self._tagged(whole, rng.choice((*self.tags, rng.randrange(8))) if way == "tag" else self.tags[0])

    def _put_together(self, pieces: Sequence[Piece], damage: int | None, rng: random.Random) -> bytes:
        """Return a payload with right checksums, and with the header of piece `damage` damaged."""
        parts, context = [], self.model.coder.context
        for number, piece in enumerate(pieces):
            part = pack_code(piece.code, piece.shape, piece.levels, piece.carrier.codec, piece.floats, context)
            if number == damage:
                start = len(part) - len(piece.code)
                header = damaged(part[:start], part[:20], rng)[1]
                part = resealed(header + piece.code, part, piece.carrier.codec.identity ^ context, rng)
            parts.append(part)
            context = next_context(part, context)
        return join_parts(parts)

    def _exchanged(self, payload: bytes, donor: bytes, number: int) -> bytes:
        """Return a payload with one unchanged part of another image."""
        count = len(self.model.coder.payload_coder.carriers)
        parts = split_parts(payload, count)
        parts[number] = split_parts(donor, count)[number]
        return self._tagged(join_parts(parts), self.tags[0])

    def _tagged(self, payload: bytes, tag: int) -> bytes:
        count = len(self.model.coder.payload_coder.carriers)
        try:
            first, *others = split_parts(payload, count)
            return join_parts([tagged(first, tag), *others])
        except CodecError:  # no longer a container
            return payload


def forged_piece(piece: Piece, way: str, rng: random.Random) -> Piece:
    """Return a container's content with one change, as in the docstring of this module."""
    if way == "shape":
        return replace(piece, shape=forged_shape(piece.shape, rng))
    if way == "bomb":
        symbol = np.full(rng.choice((1, 9, 600)), rng.randrange(piece.levels), np.uint8)
        return replace(piece, shape=forged_shape(piece.shape, rng), code=_coded(piece, symbol))
    if way == "levels":
        return replace(piece, levels=rng.choice((2, 3, 255, 256, rng.randint(2, 256))))
    if way == "floats":
        count = len(piece.floats) if rng.random() < 0.7 else rng.choice((0, 1, 2, 3, 255))
        return replace(piece, floats=tuple(rng.choice((*EXTREME, *piece.floats)) for _ in range(count)))
    if way == "code":
        return replace(piece, code=damaged(piece.code, rng.randbytes(40), rng)[1])
    if way == "symbols":
        shape = piece.shape
        flat = np.frombuffer(rng.randbytes(math.prod(shape)), np.uint8) % np.uint16(piece.levels)
        return replace(piece, code=_coded(piece, flat.astype(np.uint8).reshape(shape)))
    if way == "integers" and piece.carrier.quantizer is None:
        return replace(piece, code=forged_integers(piece, rng))
    return piece


def _coded(piece: Piece, symbols: NDArray[np.uint8]) -> bytes:
    try:
        return piece.carrier.codec.encode(symbols, piece.levels)
    except ValueError:  # tables for another shape or alphabet
        return piece.code


def forged_integers(piece: Piece, rng: random.Random) -> bytes:
    """Return the bytes of other integers: impossible, contradictory or consistent ones."""
    size = piece.carrier.itemsize
    kept = np.frombuffer(piece.code[: len(piece.code) // size * size], f"<i{size}")
    if size < 4 or not kept.size:
        return rng.randbytes(len(piece.code))
    values = kept.tolist()
    kind = rng.random()
    if kind < 0.2:
        rng.shuffle(values)
    elif kind < 0.35:  # an image of another size with the same aspect ratio
        factor = rng.choice((2, 3, 16, 1000))
        values[:2] = [value * factor for value in values[:2]]
    else:
        for _ in range(rng.choice((1, 1, 2, 6))):
            at = rng.randrange(len(values))
            values[at] = rng.choice((values[at] - 1, values[at] + 1, values[at] - 32, values[at] + 32, *INTEGERS))
    least, most = np.iinfo(kept.dtype).min, np.iinfo(kept.dtype).max
    return np.array([min(max(value, least), most) for value in values], kept.dtype).tobytes()


def forged_shape(shape: Shape, rng: random.Random) -> Shape:
    """Return another shape: near, permuted, of another rank, empty or huge."""
    sizes, at = list(shape), rng.randrange(max(len(shape), 1))
    kind = rng.randrange(7)
    if kind == 0 or not sizes:
        return rng.choice(((), (0,), (rng.choice(HUGE),), (1, 1, 1), (3, 2**29), tuple(sizes[:-1])))
    if kind == 1:
        return (*sizes, rng.choice((1, 2)))
    if kind == 2:
        return tuple(rng.sample(sizes, len(sizes)))
    if kind == 3:
        sizes[at] = rng.choice(HUGE)
        return tuple(sizes) if math.prod(sizes) < 2**31 else (1,) * (len(sizes) - 1) + (2**31 - 1,)
    if kind == 4:
        factor = rng.choice((2, 3, 4, 5))  # as of a larger image
        return tuple(min(size * factor, 2**31 - 1) if number else size for number, size in enumerate(sizes))
    sizes[at] = min(max(0, sizes[at] + rng.choice((-1, 1, -2, 2, 8, -sizes[at]))), 2**31 - 1)
    return tuple(sizes)
