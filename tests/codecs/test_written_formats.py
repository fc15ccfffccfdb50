"""Decoders written from docs/formats/codes.md alone read what the codecs write."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from splitlearn.codecs import RANS, ContextRANS, Huffman, TruncatedUnary

Symbols = NDArray[np.uint8]
CASES = [((4, 9, 10), 4), ((3, 30, 31), 8), ((2, 60, 61), 16), ((2, 40, 41), 100), ((700,), 5), ((2, 3, 4), 2)]


class Bits:
    """Bits of a code, the most significant one of each byte first."""

    def __init__(self, code: bytes, at: int = 0) -> None:
        self.code, self.at = code, at

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | (self.code[self.at >> 3] >> (7 - (self.at & 7)) & 1)
            self.at += 1
        return value

    def gamma(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return 1 << zeros | self.take(zeros)

    def next_byte(self) -> int:
        return (self.at + 7) // 8

    def relative(self, last: int) -> int | None:
        """The number that is written relative to the last one; None for absent symbols."""
        if not self.take(1):
            return last
        if not self.take(1):
            return last + 1
        if not self.take(1):
            return last - 1
        return self.take(4) if self.take(1) else None


def read_table(bits: Bits, count: int, levels: int) -> list[int]:
    scale = 12 if levels <= 16 else 14
    most = min(10, max(2, count.bit_length() // 2 - 4))
    weights, last, symbol = [0] * levels, scale, 0
    while symbol < levels:
        digits = bits.relative(last)
        if digits is None:
            symbol += bits.gamma()
            continue
        kept = min(most, digits - 1)
        dropped = digits - 1 - kept
        weights[symbol] = (1 << kept | bits.take(kept)) << dropped | 1 << dropped >> 1
        last, symbol = digits, symbol + 1
    total = sum(weights)
    found = [max(1, ((weight << scale) + total // 2) // total) if weight else 0 for weight in weights]
    while excess := sum(found) - (1 << scale):
        largest = found.index(max(found))
        found[largest] -= min(excess, max(1, found[largest] // 4)) if excess > 0 else excess
    return found


def lanes_for(count: int) -> int:
    return 1 if count < 2048 else 2 if count < 4096 else 4 if count < 8192 else 8


def read_states(
    code: bytes, count: int, tables: list[list[int]], lanes: int, part: int, pick: Callable[[int, list[int]], int]
) -> list[int]:
    scale = sum(tables[0]).bit_length() - 1
    starts = [np.cumsum([0, *table]).tolist() for table in tables]
    ranges = [np.repeat(np.arange(len(table)), table).tolist() for table in tables]
    states = [int.from_bytes(code[4 * lane : 4 * lane + 4], "little") for lane in range(lanes)]
    words = iter(np.frombuffer(code[4 * lanes :], "<u2").tolist())
    symbols = [0] * count
    turns = [(lane * part + i, lane) for i in range(part) for lane in range(lanes)]
    for place, lane in [*turns, *((place, 0) for place in range(lanes * part, count))]:
        its = pick(place, symbols)
        slot = states[lane] & ((1 << scale) - 1)
        symbol = ranges[its][slot]
        states[lane] = tables[its][symbol] * (states[lane] >> scale) + slot - starts[its][symbol]
        if states[lane] < 1 << 15:
            states[lane] = states[lane] << 16 | next(words)
        symbols[place] = symbol
    assert states == [1 << 15] * lanes
    assert next(words, None) is None
    return symbols


def read_contexts(code: bytes, shape: tuple[int, ...], levels: int, reference: Symbols | None = None) -> list[int]:
    if reference is not None:
        first, code = code[0], code[1:]
        if first == 0:
            return read_contexts(code, shape, levels)
        assert first == 1
    size, height = math.prod(shape), shape[-2] if len(shape) > 1 else 1
    width = shape[-1] if height > 1 else min(size, 1024)
    used, edges = min(levels, 16), list(code[:15]) if levels > 16 else []
    before = [] if reference is None else reference.reshape(-1).tolist()
    bits = Bits(code, 8 * len(edges))
    classes = [0]
    for _ in range((2 * used - 1) * (used if before else 1) - 1):
        classes.append(classes[-1] + bits.take(1))
    tables = [read_table(bits, size, levels) for _ in range(classes[-1] + 1)]
    if len(tables) == 1 and sum(map(bool, tables[0])) == 1:
        return [tables[0].index(max(tables[0]))] * size
    rows = size // width
    lanes = min(lanes_for(size), rows)
    lane_rows = rows // lanes
    part = lane_rows * width

    def bucket(symbol: int) -> int:
        return sum(edge <= symbol for edge in edges) if edges else symbol

    def pick(place: int, symbols: list[int]) -> int:
        row, column = divmod(place, width)
        first_row = row % height == 0 or (row < lanes * lane_rows and row % lane_rows == 0)
        left = bucket(symbols[place - 1]) if column else 0
        total = left + (0 if first_row else bucket(symbols[place - width]))
        if not before:
            return classes[total]
        beside = bucket(before[place])
        return classes[beside * (2 * used - 1) + (2 * used - 2 - total if beside % 2 else total)]

    rest = code[bits.next_byte() :]
    if len(tables) == 1:
        return read_states(rest, size, tables, lanes_for(size), size // lanes_for(size), lambda *_: 0)
    return read_states(rest, size, tables, lanes, part, pick)


def read_bins(code: bytes, count: int, levels: int) -> list[int]:
    model = [[1 << 31, 1 << 31, 0] for _ in range(levels - 1)]
    padded, at, width = code + bytes(16), 0, (1 << 64) - 1
    above = int.from_bytes(padded[:8], "big")
    symbols = []
    for _ in range(count):
        symbol, is_one = 0, True
        while is_one and symbol < levels - 1:
            estimates = model[symbol]
            ones = (width >> 16) * min(max((estimates[0] + estimates[1]) >> 17, 32), 65504)
            is_one = above < ones
            rate = 65536 // (min(estimates[2], 126) + 2)
            for which, its_rate in enumerate((max(rate, 65536 // 4), rate)):
                estimates[which] += (((1 << 32) * is_one - estimates[which]) * its_rate) >> 16
            estimates[2] += 1
            above, width = (above, ones) if is_one else (above - ones, width - ones)
            symbol += is_one
            if width < 1 << 32:
                at += 4
                above, width = above << 32 | int.from_bytes(padded[at + 4 : at + 8], "big"), width << 32
        symbols.append(symbol)
    return symbols


def read_huffman(code: bytes, count: int, levels: int) -> list[int]:
    bits = Bits(code)
    if bits.take(1):
        return [bits.take((levels - 1).bit_length())] * count
    lengths: dict[int, int] = {}
    last, symbol = 1, 0
    while sum(2.0**-length for length in lengths.values()) < 1:
        length = bits.relative(last)
        if length is None:
            symbol += bits.gamma()
            continue
        lengths[symbol] = last = length
        symbol += 1
    codewords, word, length = {}, 0, 0
    for one in sorted(lengths, key=lambda symbol: (lengths[symbol], symbol)):
        word <<= lengths[one] - length
        length = lengths[one]
        codewords[length, word] = one
        word += 1

    def read(part: Bits, number: int) -> list[int]:
        symbols = []
        for _ in range(number):
            word = length = 0
            while (length, word) not in codewords:
                word, length = word << 1 | part.take(1), length + 1
            symbols.append(codewords[length, word])
        return symbols

    if count < 1 << 14:
        return read(bits, count)
    quarter = count // 4
    wide = (-(-quarter * 12 // 8)).bit_length() // 8 + 1
    start = bits.next_byte()
    sizes = [int.from_bytes(code[start + k * wide : start + (k + 1) * wide], "little") for k in range(3)]
    at = start + 3 * wide
    symbols = []
    for size, number in zip([*sizes, 0], [quarter] * 3 + [count - 3 * quarter], strict=True):
        symbols += read(Bits(code, 8 * at), number)
        at += size
    return symbols


def smooth(shape: tuple[int, ...], levels: int) -> Symbols:
    """Symbols whose neighbours are alike."""
    walk = np.random.default_rng(0).normal(size=shape).cumsum(-1)
    walk -= walk.min()
    found: Symbols = np.minimum(walk / walk.max() * levels, levels - 1).astype(np.uint8)
    return found


@pytest.mark.parametrize(("shape", "levels"), CASES)
def test_contexts_are_read_as_described(shape: tuple[int, ...], levels: int) -> None:
    before = smooth(shape, levels)
    after = np.where(np.random.default_rng(1).random(shape) < 0.05, 0, before).astype(np.uint8)
    assert read_contexts(ContextRANS().encode(before, levels), shape, levels) == before.reshape(-1).tolist()
    code = ContextRANS().encode(after, levels, reference=before)
    assert read_contexts(code, shape, levels, before) == after.reshape(-1).tolist()
    constant = np.full(shape, levels - 1, np.uint8)
    assert read_contexts(ContextRANS().encode(constant, levels), shape, levels) == constant.reshape(-1).tolist()


@pytest.mark.parametrize(("shape", "levels"), CASES)
def test_tables_and_states_are_read_as_described(shape: tuple[int, ...], levels: int) -> None:
    symbols = smooth(shape, levels)
    code, lanes = RANS().encode(symbols, levels), lanes_for(symbols.size)
    bits = Bits(code)
    table = read_table(bits, symbols.size, levels)
    rest = code[bits.next_byte() :]
    found = read_states(rest, symbols.size, [table], lanes, symbols.size // lanes, lambda *_: 0)
    assert found == symbols.reshape(-1).tolist()


@pytest.mark.parametrize(("shape", "levels"), [*CASES[:2], ((3, 80, 81), 8)])
def test_codewords_and_bins_are_read_as_described(shape: tuple[int, ...], levels: int) -> None:
    symbols = smooth(shape, levels)
    assert read_huffman(Huffman().encode(symbols, levels), symbols.size, levels) == symbols.reshape(-1).tolist()
    few = symbols.reshape(-1)[:3000]
    assert read_bins(TruncatedUnary().encode(few, levels), few.size, levels) == few.tolist()
