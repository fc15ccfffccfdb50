"""Legal outcomes, time and memory of decoding payloads of `splitlearn.testing.damage`."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitlearn.codecs import CodecError, unpack
from splitlearn.codecs.container import read_header
from splitlearn.codecs.latents import decode_latent, unpack_latents
from splitlearn.numpy_quantizers import Grid
from splitlearn.testing.damage import CEILING, Case, Shape

Floats = NDArray[np.float32]

MIB = 1 << 20
UNSEEN = 8 * MIB  # additional growth of the address space, for allocators
SLOW = 10  # limit of processor time per decode, in seconds
MANY = 256  # number of channels from which memory is measured in every decode
GUARD = 1024  # floats of each guard zone before and after a latent
PATTERN = 0xDEADBEEF  # content of guard zones


@dataclass
class Tally:
    """Outcomes of payloads.

    Attributes:
        outcomes: counts of each `way: outcome`, with outcomes refused, other (symbols) and exact.
        slowest_ms: largest processor time of one decode.
        memory_ratio: largest memory of a decode relative to its symbols, if those take a mebibyte or more.
        violation: the first payload that violated a rule.
    """

    outcomes: dict[str, int] = field(default_factory=dict)
    slowest_ms: float = 0.0
    memory_ratio: float = 0.0
    violation: dict[str, Any] | None = None

    def add(self, other: Tally) -> None:
        """Add the tally of another batch."""
        for key, number in other.outcomes.items():
            self.outcomes[key] = self.outcomes.get(key, 0) + number
        self.slowest_ms = max(self.slowest_ms, other.slowest_ms)
        self.memory_ratio = max(self.memory_ratio, other.memory_ratio)
        self.violation = self.violation or other.violation

    def count(self, outcome: str = "") -> int:
        """Return the number of payloads with this outcome, by default of all."""
        return sum(number for key, number in self.outcomes.items() if key.endswith(outcome))


Decoded = tuple[NDArray[Any], tuple[float, ...]]  # symbols or a latent, and floats


class ViolationError(Exception):
    """A decoder violated a rule."""


def promise(case: Case) -> tuple[Shape, int] | None:
    """Return the required shape and alphabet of the symbols; None if the payload must be refused."""
    if case.way != "forged header":
        return case.shape, case.levels
    with suppress(CodecError):
        header = read_header(case.payload, case.source.codec)
        return header.shape, header.levels
    return None


def decode(case: Case) -> Decoded | None:
    """Return symbols and floats, or a latent without floats; None if the payload is refused.

    Raises ViolationError if a latent is written to a wrong place.
    """
    try:
        if case.grid is not None:
            return decode_as_latent(case, case.grid), ()
        if case.is_container:
            return unpack(case.payload, case.source.codec)
        return case.source.codec.decode(case.payload, case.shape, case.levels), case.source.floats
    except CodecError:
        return None
    except ValueError:
        if case.is_container or is_codable(case):
            raise
        return None


def decode_as_latent(case: Case, grid: Grid) -> Floats:
    """Return the latent of a payload; latents of bare codes are written between two guard zones.

    Raises CodecError if the payload is refused, ViolationError if a guard zone is changed, or the latent is another
    array.
    """
    codec = case.source.codec
    if case.is_container:
        (latent,) = unpack_latents([case.payload], grid, codec)
        return latent
    floats = case.source.floats[: grid.floats_per_image]
    if case.way == "huge":
        return decode_latent(case.payload, case.shape, floats, grid, codec)
    room = np.full(math.prod(case.shape) + 2 * GUARD, PATTERN, np.uint32)
    out = room[GUARD : room.size - GUARD].view(np.float32).reshape(case.shape)
    try:
        latent = decode_latent(case.payload, case.shape, floats, grid, codec, out)
    finally:
        if np.any(room[:GUARD] != PATTERN) or np.any(room[-GUARD:] != PATTERN):
            raise ViolationError("it writes to memory before or behind the latent")
    if latent is not out:
        raise ViolationError("the latent is not in the array out")
    return latent


def is_codable(case: Case) -> bool:
    """Return whether the codec supports arrays of this shape and alphabet; if not, a ValueError is legal."""
    if case.way == "huge":
        return False
    try:
        case.source.codec.encode(np.zeros(case.shape, np.uint8), case.levels)
    except ValueError:
        return False
    return True


def timed(case: Case) -> tuple[Decoded | None, float]:
    """Return the result of `decode` and its processor time in milliseconds."""
    start = time.thread_time()
    found = decode(case)
    return found, (time.thread_time() - start) * 1e3


def judge(case: Case, found: Decoded | None, promised: tuple[Shape, int] | None) -> str:
    """Return the outcome `refused`, `other` or `exact`; raises ViolationError if the outcome is illegal."""
    if found is None:
        if case.way == "whole":
            raise ViolationError("a whole payload is refused")
        return "refused"
    if promised is None or case.way == "huge":
        raise ViolationError("symbols come out of a container whose header is refused, or far too many")
    (symbols, floats), (shape, levels) = found, promised
    if type(symbols) is not np.ndarray or symbols.dtype != np.uint8 or symbols.shape != shape:
        raise ViolationError(f"the result is no uint8 array of shape {shape}")
    if symbols.size and symbols.max() >= levels:
        raise ViolationError(f"symbol {symbols.max()} is not below levels={levels}")
    is_exact = np.array_equal(symbols, case.source.symbols) and floats == case.source.floats
    if case.way in ("whole", "container") and not is_exact:
        raise ViolationError("other symbols or floats come out than went in")
    return "exact" if is_exact else "other"


def check_latent(case: Case, grid: Grid, levels: int, symbols: Decoded | None, latent: Decoded | None) -> None:
    """Raise ViolationError unless a latent equals the dequantized symbols of the same payload, or both are refused.

    Args:
        case: the payload.
        grid: the quantizer.
        levels: size of the alphabet of the symbols.
        symbols: result of the payload read as symbols.
        latent: result of the payload read as a latent.
    """
    if symbols and case.is_container and (levels, len(symbols[1])) != (grid.levels, grid.floats_per_image):
        symbols = None  # of another quantizer
    if symbols is None or latent is None:
        if symbols is not latent:
            raise ViolationError(f"only as {'symbols' if symbols is None else 'a latent'} the payload is refused")
        return
    found, expected = latent[0], grid.dequantize(symbols[0], symbols[1][: grid.floats_per_image])
    if type(found) is not np.ndarray or found.dtype != np.float32 or found.shape != expected.shape:
        raise ViolationError(f"the latent is no float32 array of shape {expected.shape}")
    is_same = (found.view(np.int32) == expected.view(np.int32)) | (np.isnan(found) & np.isnan(expected))
    if not is_same.all():
        raise ViolationError("the latent differs from its dequantized symbols")


def allowed_bytes(case: Case, size: int) -> int:
    """Return the memory limit for a decode of `size` symbols.

    It is 2 bytes per symbol (6 for latents), a copy of the code (two for containers) and a mebibyte of tables.
    """
    return (2 if case.grid is None else 6) * size + (1 + case.is_container) * len(case.payload) + MIB


@contextmanager
def address_space(growth: int) -> Iterator[None]:
    """Limit the growth of this process's address space to `growth` bytes, on Linux."""
    if sys.platform != "linux":
        yield
        return
    import resource  # POSIX alone has it

    limits = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + growth, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def resident(line: str) -> int:
    """Return the memory of this process in bytes: `VmRSS` for current, `VmHWM` for the peak since `forget_peak`."""
    if os.name == "nt":
        return _memory_of_windows(line)
    if sys.platform != "linux":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(f"{line}:")[2].split()[0])


class _MemoryCounters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS of Windows."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("faults", ctypes.c_uint32),
        ("peak", ctypes.c_size_t),
        ("current", ctypes.c_size_t),
        ("others", ctypes.c_size_t * 6),
    )


def _memory_of_windows(line: str) -> int:
    counters = _MemoryCounters(ctypes.sizeof(_MemoryCounters))
    this_process = ctypes.c_void_p(-1)
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    if not kernel.K32GetProcessMemoryInfo(this_process, ctypes.byref(counters), counters.size):
        raise OSError("Windows does not tell the memory of this process")
    return int(counters.peak if line == "VmHWM" else counters.current)


def forget_peak() -> int:
    """Reset the peak of memory to the current memory, and return it."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def peak_bytes(case: Case, size: int, was_refused: bool) -> int:
    """Decode again and return the peak of memory.

    Raises ViolationError if it exceeds `allowed_bytes`, or the outcome changes under this limit.
    """
    allowed = allowed_bytes(case, size)
    with address_space(allowed + UNSEEN):
        tracemalloc.start()
        try:
            fits = (decode(case) is None) == was_refused
        except MemoryError:
            fits = False
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    if peak > allowed or not fits:
        raise ViolationError(f"to decode {size} symbols, {peak} bytes or more are held: {allowed} are allowed")
    return peak


def examine(case: Case, tally: Tally, is_sample: bool) -> None:
    """Decode one payload and count its outcome; raise an exception on any violation."""
    promised = promise(case)
    size = math.prod(promised[0]) if promised else 0
    if size > CEILING and case.way != "huge":
        return
    found, ms = timed(case)
    if ms > tally.slowest_ms:  # repeated, because the first call may include compilation
        tally.slowest_ms = max(tally.slowest_ms, min(ms, timed(case)[1]))
    if tally.slowest_ms > 1e3 * SLOW:
        raise ViolationError(f"a decode takes {ms:.0f} ms")
    symbols = found if case.grid is None else decode(replace(case, grid=None))
    outcome = judge(case, symbols, promised)
    if case.grid is not None:
        check_latent(case, case.grid, promised[1] if promised else 0, symbols, found)
    tally.add(Tally({f"{case.kind}: {outcome}": 1}))
    has_many_channels = promised is not None and len(promised[0]) > 1 and promised[0][0] >= MANY
    if is_sample or size >= MIB or has_many_channels:
        peak = peak_bytes(case, 0 if case.way == "huge" else size, found is None)
        if size >= MIB and case.grid is None:
            tally.memory_ratio = max(tally.memory_ratio, peak / size)
