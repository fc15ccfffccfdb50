"""Compiled loops of the run-length codec, without branches that depend on the symbols."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import load64, padded, peek, signed, store64, tail_is_clean
from splitlearn.codecs._groups import BLOCK, join_symbols
from splitlearn.jit import njit
from splitlearn.numpy_quantizers import Plan, extremes, number, scaling, undo_plan

Encoder = tuple[int, NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint8]]  # n, `group_table`, `run_tables`
State = tuple[int, np.uint64, np.uint64, np.uint64]  # next byte, bits held, the held bits, pending zeros
V = TypeVar("V", NDArray[np.uint8], NDArray[np.float32])

OK, TRUNCATED, TRAILING, PADDING, OVERRUN = range(5)

# An entry of a table of codewords: its lowest 6 bits are the number of bits, the bits stand from bit 10 on. Between
# them a group has its class. Shifts take their distance modulo 64, so the rest of an entry does not disturb them.
LENGTH = 63
CLASS_AT = 6
CLASSES = 15
VALUE_AT = 10

FILLED = 1 << 12  # values that are set to 0 at a time
PAIRED = 6  # the largest n whose codewords are decoded two at a time


@njit
def group_size(bits: int) -> int:
    """Return the number of symbols of n bits in a group, which is looked up at once in a table of up to 2¹⁶ entries."""
    return 4 if bits <= 4 else 2


@njit
def zeros_coded(zeros: int, bits: int) -> int:
    """Return the codewords of a complete run of zeros as a table entry, `bits << VALUE_AT | number of bits`.

    A run longer than 2ⁿ is divided into full runs and the rest.
    """
    full = 1 << bits
    value = length = 0
    while zeros > 0:
        run = min(zeros, full)
        value = value << (bits + 1) | full | (run - 1)
        length += bits + 1
        zeros -= run
    return value << VALUE_AT | length


@njit
def group_class(leading: int, trailing: int, size: int) -> int:
    """Return the class of a group: a number for its leading and trailing zeros; 0 if it contains only zeros."""
    if leading == size:
        return 0
    return 1 + leading * size - leading * (leading - 1) // 2 + trailing


@njit
def group_table(bits: int) -> NDArray[np.uint32]:
    """Return an entry for each possible group of symbols: its class, and the codewords between its zeros at both ends.

    Runs of zeros at the ends may continue in the neighbouring groups, so their codewords come from `run_tables`. Only
    full runs at the end of a group are included here.
    """
    size, full = group_size(bits), 1 << bits
    table = np.zeros(1 << (bits * size), np.uint32)
    for group in range(table.size):
        value = length = leading = zeros = 0
        inside = False
        for k in range(size):
            symbol = group >> (bits * k) & (full - 1)
            if symbol == 0:
                zeros += 1
                leading += not inside
                continue
            if inside:
                run = zeros_coded(zeros, bits)
                value = value << (run & LENGTH) | run >> VALUE_AT
                length += run & LENGTH
            value = value << (bits + 1) | symbol
            length += bits + 1
            inside, zeros = True, 0
        full_runs = zeros_coded(zeros - zeros % full if inside else 0, bits)
        value = value << (full_runs & LENGTH) | full_runs >> VALUE_AT
        length += full_runs & LENGTH
        kind = group_class(leading, zeros, size)
        table[group] = value << VALUE_AT | kind << CLASS_AT | length
    return table


@njit
def run_tables(bits: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Return how a group changes the pending run of zeros, at the index class · 2ⁿ + length of the pending run.

    The pending run consists of the zeros before the group whose codeword is not yet written; it is shorter than 2ⁿ.

    Returns:
        Table entries with the codewords to write before those of `group_table`, and the pending run after the group.
    """
    size, full = group_size(bits), 1 << bits
    settled = np.zeros((CLASSES + 1) << bits, np.uint32)
    pending = np.zeros((CLASSES + 1) << bits, np.uint8)
    for run in range(full):
        zeros = run + size
        settled[run] = zeros_coded(zeros - zeros % full, bits)
        pending[run] = zeros % full
        for leading in range(size):
            for trailing in range(size - leading):
                at = group_class(leading, trailing, size) << bits | run
                settled[at] = zeros_coded(run + leading, bits)
                pending[at] = trailing % full
    return settled, pending


@njit
def encode_runs(
    symbols: NDArray[np.uint8],
    encoder: Encoder,
    payload: NDArray[np.uint8],
) -> int:
    """Write the code of flat symbols to `payload`; return its length in bytes."""
    bits = encoder[0]
    joined, size = np.empty(BLOCK, np.uint16), group_size(bits)
    state = 0, np.uint64(0), np.uint64(0), np.uint64(0)
    whole = symbols.size - symbols.size % (2 * size)
    for start in range(0, whole, BLOCK):
        groups = min(BLOCK, whole - start) // size
        join_symbols(symbols, start, groups, size, bits, joined)
        state = _encode_groups(joined, groups, encoder, payload, state)
    return _encode_rest(symbols, whole, bits, payload, state)


@njit
def encode_latent_runs(
    latent: NDArray[np.float32],
    plan: Plan,
    encoder: Encoder,
    payload: NDArray[np.uint8],
) -> tuple[int, tuple[float, float]]:
    """Quantize a flat latent and write its code to `payload`; return the code's length in bytes and the extremes."""
    bits, ends = encoder[0], extremes(latent)
    how = scaling(plan, ends)
    joined, size, symbols = np.empty(BLOCK, np.uint16), group_size(bits), np.empty(BLOCK, np.uint8)
    state = 0, np.uint64(0), np.uint64(0), np.uint64(0)
    whole = latent.size - latent.size % (2 * size)
    for start in range(0, whole, BLOCK):
        stop = min(start + BLOCK, whole)
        number(latent[start:stop], plan, how, symbols)
        join_symbols(symbols, 0, (stop - start) // size, size, bits, joined)
        state = _encode_groups(joined, (stop - start) // size, encoder, payload, state)
    number(latent[whole:], plan, how, symbols)
    return _encode_rest(symbols[: latent.size - whole], 0, bits, payload, state), ends


@njit
def _encode_groups(
    joined: NDArray[np.uint16],
    groups: int,
    encoder: Encoder,
    payload: NDArray[np.uint8],
    state: State,
) -> State:
    """Write the code of an even number of groups; return the position, the bits held back, and the pending run.

    Two groups a step: their classes and the pending run tell how the run goes on, four look-ups give the bits.
    """
    bits, table, settled, pending = encoder
    n, length, classes = np.uint64(bits), np.uint64(LENGTH), np.uint64(CLASSES)
    class_at, value_at = np.uint64(CLASS_AT), np.uint64(VALUE_AT)
    position, held, buffer, run = state
    for i in range(0, groups, 2):
        first = np.uint64(table[joined[np.uint64(i)]])
        second = np.uint64(table[joined[np.uint64(i + 1)]])
        at = ((first >> class_at & classes) << n) + run
        run = np.uint64(pending[at])
        before_first = np.uint64(settled[at])
        at = ((second >> class_at & classes) << n) + run
        run = np.uint64(pending[at])
        before_second = np.uint64(settled[at])
        buffer <<= (before_first + first) & length
        buffer |= before_first >> value_at << (first & length) | first >> value_at
        buffer <<= (before_second + second) & length
        buffer |= before_second >> value_at << (second & length) | second >> value_at
        held = (held + before_first + first + before_second + second) & length
        store64(payload, position, buffer << (np.uint64(63) - held) << np.uint64(1))
        position += signed(held >> np.uint64(3))
        held &= np.uint64(7)
    return position, held, buffer, run


@njit
def _encode_rest(symbols: NDArray[np.uint8], start: int, bits: int, payload: NDArray[np.uint8], state: State) -> int:
    """Write the code of the last symbols and of the run that is pending; return the code's length in bytes."""
    position, held, buffer, run = state
    length, value_at = np.uint64(LENGTH), np.uint64(VALUE_AT)
    for i in range(start, symbols.size + 1):
        symbol = np.uint64(symbols[i]) if i < symbols.size else np.uint64(0)
        entry = np.uint64(0)
        if i < symbols.size and symbol == 0:
            run += np.uint64(1)
        if run == np.uint64(1 << bits) or (run > 0 and (i == symbols.size or symbol > 0)):
            entry = np.uint64(zeros_coded(signed(run), bits))
            run = np.uint64(0)
        buffer = buffer << (entry & length) | entry >> value_at
        held += entry & length
        if symbol > 0:
            buffer = buffer << np.uint64(bits + 1) | symbol
            held += np.uint64(bits + 1)
        store64(payload, position, buffer << (np.uint64(63) - held) << np.uint64(1))
        position += signed(held >> np.uint64(3))
        held &= np.uint64(7)
    return position + (signed(held) + 7) // 8


@njit
def decode_runs(code: NDArray[np.uint8], bits: int, values: V, pairs: V, steps: NDArray[np.uint32], out: V) -> int:
    """Decode `code` and write the value of each symbol to `out`; return `OK` or the kind of damage.

    Args:
        code: the payload.
        bits: n, bits per symbol.
        values: the value to write for each of the 2ⁿ symbols: the symbol itself, or its dequantized value.
        pairs: `pair_values(bits, values)`.
        steps: `pair_steps(bits)`.
        out: flat array that receives the values.
    """
    width, size = bits + 1, code.size
    payload = padded(code)
    at, bit = _decode_pairs(payload, size, bits, values[0], pairs, steps, out)
    while at < out.size:
        if bit + width > 8 * size:
            return TRUNCATED
        codeword = peek(payload, bit, width)
        bit += width
        if codeword >> bits == 0:
            out[at] = values[codeword]
            at += 1
            continue
        at += codeword - (1 << bits) + 1
    if at > out.size:
        return OVERRUN
    if (bit + 7) >> 3 != size:
        return TRAILING
    return OK if tail_is_clean(payload, bit) else PADDING


@njit
def pair_steps(bits: int) -> NDArray[np.uint32]:
    """Return for each pair of codewords `symbols that they stand for << 16 | zeros before the values to write`.

    The table is empty if n is larger than `PAIRED`, since it would be too large.
    """
    full, width = 1 << bits, bits + 1
    if bits > PAIRED:
        return np.empty(0, np.uint32)
    steps = np.empty(1 << 2 * width, np.uint32)
    for pair in range(steps.size):
        first, second = pair >> width, pair & (2 * full - 1)
        distance = 1 if first < full else first - full + 1
        length = distance + (1 if second < full else second - full + 1)
        steps[pair] = length << 16 | (distance if first >= full > second else 0)
    return steps


@njit
def pair_values(bits: int, values: V) -> V:
    """Return the two neighbouring values that are not 0 or may be, for each pair of codewords, `(pairs, 2)`.

    Zeros stand already where they are to be. If a run comes first, they begin with the second codeword's. The table is
    empty if n is larger than `PAIRED`.
    """
    full, width = 1 << bits, bits + 1
    pairs = np.empty((1 << 2 * width if bits <= PAIRED else 0, 2), values.dtype)
    for pair in range(len(pairs)):
        first, second = pair >> width, pair & (2 * full - 1)
        if first >= full:
            first, second = second, full
        pairs[pair, 0] = values[first if first < full else 0]
        pairs[pair, 1] = values[second if second < full else 0]
    return pairs


@njit
def decode_latent_runs(
    code: NDArray[np.uint8],
    bits: int,
    plan: Plan,
    spacing: tuple[float, float],
    steps: NDArray[np.uint32],
    latent: NDArray[np.float32],
) -> int:
    """Decode and dequantize a code of symbols of n bits to `latent`; return `OK` or the kind of damage."""
    symbols = np.empty(1 << bits, np.uint8)
    for symbol in range(symbols.size):
        symbols[symbol] = symbol
    values = np.empty(symbols.size, np.float32)
    undo_plan(symbols, plan, spacing, values)
    return decode_runs(code, bits, values, pair_values(bits, values), steps, latent)


@njit
def _decode_pairs(
    payload: NDArray[np.uint8],
    size: int,
    bits: int,
    zero: np.number[Any],
    pairs: V,
    steps: NDArray[np.uint32],
    out: V,
) -> tuple[int, int]:
    """Decode codewords two at a time, as long as no run can pass the end; return next symbol and bit.

    All of `out` is filled with `zero`, a little before values are written there, so that both happen in a near cache.
    A step takes as many codewords as a 64-bit word holds, eight or sixteen.
    """
    two = np.uint64(2 * (bits + 1))
    top, low, high = np.uint64(64) - two, np.uint64(0xFFFF), np.uint64(16)
    one, first, second = np.uint64(1), np.uint64(0), np.uint64(1)
    fours = 2 if bits <= 3 else 1
    reach, group = fours * 8 << bits, fours * (bits + 1)
    position, at, filled = 0, np.uint64(0), 0
    while filled < out.size:
        start, filled = filled, min(filled + FILLED, out.size)
        out[start:filled] = zero
        while bits <= PAIRED and position + group <= size and signed(at) <= filled - reach:
            word = load64(payload, position)
            for _ in range(fours):
                for _ in range(4):
                    index = word >> top
                    word <<= two
                    step = np.uint64(steps[index])
                    here, next_one = pairs[index, first], pairs[index, second]
                    there = at + (step & low)
                    out[there] = here
                    out[there + one] = next_one
                    at += step >> high
            position += group
    return signed(at), 8 * position
