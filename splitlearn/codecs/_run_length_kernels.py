"""The loops of the run-length code, free of branches where a zero more or less would decide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs._bits import load64, load64_little, peek, signed, store64, tail_is_clean
from splitlearn.codecs._jit import njit

BLOCK = 4096  # symbols between two flushes: their codewords stay in the first-level cache
OK, TRUNCATED, TRAILING, PADDING, ZERO_LITERAL, SHORT_SPLIT, OVERRUN = range(7)
EACH = 0x0101010101010101  # a one in each byte of a word
HIGH = 0x8080808080808080  # the top bit of each byte
RAMP = 0x0807060504030201  # the number of each byte, the first one lowest


@njit
def find_codewords(
    symbols: NDArray[np.uint8], start: int, stop: int, bits: int, codewords: NDArray[np.uint16], fill: int, run: int
) -> tuple[int, int]:
    """Append the codewords of `symbols[start:stop]` to `codewords[:fill]`.

    Whether the next symbol is a zero is a coin toss that no branch predictor wins. So every symbol writes a codeword,
    and a zero that continues a run writes its longer run over the last one.

    Args:
        symbols: flat symbols.
        start: first symbol of the block.
        stop: end of the block.
        bits: n, the bits of a symbol.
        codewords: room for one codeword a symbol of the block, behind the `fill` that are there.
        fill: number of codewords so far.
        run: zeros in the last codeword; 0 if it is a literal or a full run.

    Returns:
        `fill` and `run` after the block.
    """
    if bits < 8:
        whole = start + ((stop - start) & ~7)
        fill, run = _find_in_words(symbols, start, whole, bits, codewords, fill, run)
        start = whole
    for i in range(start, stop):
        symbol = signed(symbols[i])
        zero = -int(symbol == 0)  # all ones, or none
        run &= zero
        fill += run == 0
        codewords[fill - 1] = (symbol | (zero & 1 << bits)) + run
        run = (run + 1) & ((1 << bits) - 1) & zero
    return fill, run


@njit
def _find_in_words(
    symbols: NDArray[np.uint8], start: int, stop: int, bits: int, codewords: NDArray[np.uint16], fill: int, run: int
) -> tuple[int, int]:
    """Do as `find_codewords` for whole groups of 8 symbols of at most 7 bits, as bytes of one 64-bit word."""
    each, high, byte, top = np.uint64(EACH), np.uint64(HIGH), np.uint64(255), np.uint64(56)
    limit = np.uint64((1 << bits) - 1)
    last, before = np.uint64(fill - 1), np.uint64(run)
    for i in range(start, stop, 8):
        word = load64_little(symbols, i)
        is_zero = (~(((word & ~high) + ~high) | word) & high) >> np.uint64(7)
        run_here = _runs_in_word(is_zero)
        # In bytes that have only zeros before them in this word, the run of the last word goes on.
        leading = ((high - (run_here ^ np.uint64(RAMP))) & high) >> np.uint64(7)
        earlier = (run_here - is_zero + leading * before) & (each * limit)
        begins = ((high - earlier) & high) >> np.uint64(7)
        value = word + (is_zero << np.uint64(bits)) + earlier
        index = begins * each  # running sums
        for k in range(8):
            shift = np.uint64(8 * k)
            codewords[last + ((index >> shift) & byte)] = (value >> shift) & byte
        last += index >> top
        before = ((run_here >> top) + (leading >> top) * before) & limit
    return signed(last) + 1, signed(before)


@njit
def _runs_in_word(is_zero: np.uint64) -> np.uint64:
    """Return, for each byte, the number of ones in a row that end with it, given 0 or 1 in each; doubling spans."""
    span = (is_zero << np.uint64(8)) - is_zero  # 255 where a one is
    runs = is_zero + ((is_zero << np.uint64(8)) & span)
    span &= span << np.uint64(8)
    runs += (runs << np.uint64(16)) & span
    span &= span << np.uint64(16)
    return runs + ((runs << np.uint64(32)) & span)


@njit
def write_codewords(
    codewords: NDArray[np.uint16], groups: int, width: int, payload: NDArray[np.uint8], position: int
) -> int:
    """Write `groups` × 8 codewords of `width` bits (2…9), `width` bytes a group; return the next position."""
    half = np.uint64(4 * width)
    for group in range(groups):
        halves = np.uint64(0)
        first = np.uint64(0)
        for k in range(8):
            if k == 4:
                first = halves
                halves = np.uint64(0)
            halves = (halves << np.uint64(width)) | np.uint64(codewords[np.uint64(8 * group + k)])
        if width <= 8:
            store64(payload, position, ((first << half) | halves) << np.uint64(64 - 8 * width))
        else:
            store64(payload, position, (first << np.uint64(28)) | (halves >> np.uint64(8)))
            payload[position + 8] = halves & np.uint64(255)
        position += width
    return position


@njit
def encode_runs(symbols: NDArray[np.uint8], bits: int, payload: NDArray[np.uint8]) -> int:
    """Write the code of `symbols` into `payload` block by block and return its length in bytes."""
    codewords = np.zeros(BLOCK + 16, np.uint16)
    width = bits + 1
    position = fill = run = 0
    for start in range(0, symbols.size, BLOCK):
        stop = min(start + BLOCK, symbols.size)
        fill, run = find_codewords(symbols, start, stop, bits, codewords, fill, run)
        groups = (fill - 1) >> 3  # the last codeword stays behind: its run may go on in the next block
        position = write_codewords(codewords, groups, width, payload, position)
        fill -= 8 * groups
        codewords[:fill] = codewords[8 * groups : 8 * groups + fill]
    if fill > 0:
        codewords[fill:8] = 0
        write_codewords(codewords, 1, width, payload, position)
    return position + (fill * width + 7) // 8


@njit
def decode_runs(payload: NDArray[np.uint8], size: int, bits: int, symbols: NDArray[np.uint8]) -> int:
    """Write the symbols coded in `size` bytes of `payload` over zeros; return the kind of damage, 0 if none."""
    width = bits + 1
    at, bit, was_short = _decode_groups(payload, size, bits, symbols)
    while at < symbols.size:
        if bit + width > 8 * size:
            return TRUNCATED
        codeword = peek(payload, bit, width)
        bit += width
        if codeword == 0:
            return ZERO_LITERAL
        if codeword >> bits == 0:
            symbols[at] = codeword
            at += 1
            was_short = False
            continue
        if was_short:
            return SHORT_SPLIT
        run = codeword - (1 << bits) + 1
        if at + run > symbols.size:
            return OVERRUN
        at += run
        was_short = run < 1 << bits
    if (bit + 7) >> 3 != size:
        return TRAILING
    return OK if tail_is_clean(payload, bit) else PADDING


@njit
def _decode_groups(
    payload: NDArray[np.uint8], size: int, bits: int, symbols: NDArray[np.uint8]
) -> tuple[int, int, bool]:
    """Decode whole groups of 8 codewords without branches, as long as all is well and no run can pass the end.

    The codewords of a group are checked all at once, as two words of four, and then looked up one by one.

    Returns:
        The symbol and the bit to go on with, and whether the codeword before them is a run that is not full. A group
        with damage is left to the careful loop, which names it.
    """
    width, group = np.uint64(bits + 1), bits + 1
    table = _advances(bits)
    flags = (np.uint64(1) | np.uint64(1) << width) << np.uint64(bits)
    flags |= flags << (width + width)
    mask = np.uint64(2 * (1 << bits) - 1)
    position, at, short = 0, np.uint64(0), np.uint64(0)
    last_start = symbols.size - (8 << bits)
    while position + group <= size and signed(at) <= last_start:
        first = load64(payload, position) >> np.uint64(64 - 4 * group)
        second = load64(payload, position + 1) >> np.uint64(72 - 8 * group)
        short_first, bad_first = _check_four(first, short, flags, width)
        short_second, bad_second = _check_four(second, short_first, flags, width)
        if bad_first | bad_second:
            break
        short = short_second
        for k in range(8):
            shift = np.uint64(3 - (k & 3)) * width
            entry = np.uint64(table[((first if k < 4 else second) >> shift) & mask])
            symbols[at] = entry & np.uint64(255)
            at += entry >> np.uint64(8)
        position += group
    return signed(at), 8 * position, (short >> np.uint64(bits)) & np.uint64(1) != 0


@njit
def _advances(bits: int) -> NDArray[np.uint32]:
    """Return, for each codeword, the number of symbols it stands for × 256 + the first of them."""
    table = np.empty(2 << bits, np.uint32)
    for value in range(1 << bits):
        table[value] = 1 << 8 | value
        table[(1 << bits) + value] = (value + 1) << 8
    return table


@njit
def _check_four(word: np.uint64, short: np.uint64, flags: np.uint64, width: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Check the four codewords in `word`, whose flags stand at the ones of `flags`.

    Args:
        word: four codewords; what stands above them is ignored.
        short: the first result for the four before.
        flags: the top bit of each codeword.
        width: bits of a codeword.

    Returns:
        Ones at the flags of runs that are not full, and ones where a literal is zero or follows a run that is not
        full.
    """
    ones = flags >> (width - np.uint64(1))
    below = flags - ones
    runs = word & flags
    not_full = runs & ~((word & below) + ones)
    bad = ~(((word & below) + below) | word) & flags
    bad |= ((not_full >> width) | (short << (width + width + width))) & runs
    return not_full, bad
