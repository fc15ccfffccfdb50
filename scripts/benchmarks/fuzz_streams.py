"""Send videos over a way that damages, loses, doubles and reorders their payloads: two million by default.

What a payload may be, and what must come of it:
    honest        as it was sent, in any order, once or twice: exactly its symbols if the frame that it refers to is the
                  last one here, else MissingReferenceError, or LateFrameError if a later one was here
    damaged       changed somewhere, or with parts of other frames: CodecError
    forged        its code is changed and its checksum made right, for a receiver of its own: CodecError, or symbols of
                  the right shape below `levels`

A payload that is refused changes nothing: the frames behind it arrive as if it had not come. Each video ends with a key
frame and another one, which always arrive exactly. Nothing else is raised, no decode takes long, and none holds more
memory than `allowed_bytes`. Frames are small, so that there are many. Each kind of stream is tried in a process of its
own: one that dies is a violation, and the payload at fault is found in a file that was written before each decode.

    scripts/benchmarks/fuzz_streams                          all kinds; about ten minutes on one core
    scripts/benchmarks/fuzz_streams --stream "two tensors"   those with this in their name
    scripts/benchmarks/fuzz_streams --seed 7                 other payloads

Leaves counts and violations as JSON; exit status 1 if there is a violation.
"""

from __future__ import annotations

import copy
import math
import random
import tempfile
import time
import tracemalloc
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.benchmarks.fuzzing import parser_of, progress_bar, report, run_apart, tally_cells, work_apart
from splitlearn.codecs import (
    Carrier,
    CodecError,
    ContextRANS,
    Huffman,
    LateFrameError,
    MissingReferenceError,
    PayloadCoder,
    StreamCoder,
    StreamReceiver,
)
from splitlearn.codecs.container import sealed
from splitlearn.numpy_quantizers import MinMaxGrid, StepGrid
from splitlearn.testing.damage import damaged
from splitlearn.testing.verdict import MIB, SLOW, Tally, ViolationError, address_space

Tensors = list[tuple[NDArray[np.uint8], tuple[float, ...]]]
STEP = 1000  # payloads between two messages of a worker
SAMPLE = 64  # the memory of one decode in so many is measured
HEADROOM = 1 << 30  # growth of the address space while a worker runs
FRAMES = 24  # of a video
COPIES = 12  # most damaged or forged copies of a payload
WRAP = 1 << 32
KEY, REPEAT = 0xD0, 0xD2  # first bytes
FATES = {"sent": 60, "lost": 12, "doubled": 8, "late": 12, "damaged": 8}  # weights


@dataclass(frozen=True)
class Frame:
    """A frame as it was sent.

    Attributes:
        sequence: its number.
        payload: its bytes.
        before: what it refers to; None for key frames.
        tensors: what it stands for.
    """

    sequence: int
    payload: bytes
    before: Tensors | None
    tensors: Tensors


@dataclass
class Knowledge:
    """What a receiver knows: the number and the tensors of the last frame that it took."""

    sequence: int | None = None
    tensors: Tensors | None = None

    def outcome(self, frame: Frame) -> str:
        """Return what must come of an honest frame."""
        if self.sequence is not None and not 0 < (frame.sequence - self.sequence) % WRAP < WRAP // 2:
            return "late"
        return "exact" if frame.before is None or same_symbols(frame.before, self.tensors) else "missing"


def same_symbols(one: Tensors, other: Tensors | None) -> bool:
    """Return whether the symbols of two frames are equal."""
    return other is not None and all(np.array_equal(a, b) for (a, _), (b, _) in zip(one, other, strict=True))


def same(one: Tensors, other: Tensors) -> bool:
    """Return whether two frames are equal."""
    return same_symbols(one, other) and all(a == b for (_, a), (_, b) in zip(one, other, strict=True))


def picture(shape: tuple[int, ...], levels: int, seed: int) -> NDArray[np.uint8]:
    """Return symbols that resemble their neighbours."""
    steps = np.random.default_rng(seed).integers(-1, 2, shape)
    found: NDArray[np.uint8] = (np.abs(np.cumsum(steps, axis=-1)) % levels).astype(np.uint8)
    return found


def stream_of(carriers: Sequence[Carrier], shapes: Sequence[tuple[int, ...]], **settings: Any) -> StreamCoder:
    """Return a stream of tensors of these shapes."""
    varying = tuple((False,) * len(shape) for shape in shapes)
    return StreamCoder(PayloadCoder(tuple(carriers), 77, tuple(shapes), varying), **settings)


def static(shape: tuple[int, ...], levels: int) -> ContextRANS:
    """Return a code with tables for frames with and without reference."""
    frames = [np.minimum(picture(shape, levels, 1) + (picture(shape, 16, seed) > 12), levels - 1) for seed in range(9)]
    return ContextRANS().fitted_to_sequences([[frame.astype(np.uint8) for frame in frames]], levels)


STREAMS: dict[str, Callable[[], StreamCoder]] = {
    "4 levels": lambda: stream_of([Carrier(ContextRANS(), StepGrid(0.5, 4))], [(3, 6, 7)], key_every=9),
    "16 levels, static": lambda: stream_of(
        [Carrier(static((3, 6, 7), 16), StepGrid(0.5, 16))], [(3, 6, 7)], key_every=None
    ),
    "256 levels": lambda: stream_of([Carrier(ContextRANS(), MinMaxGrid(8))], [(2, 5, 9)], key_every=9),
    "eight lanes": lambda: stream_of([Carrier(ContextRANS(), StepGrid(0.5, 8))], [(9, 23, 41)], key_bytes=4000),
    "two tensors": lambda: stream_of(
        [Carrier(ContextRANS(), StepGrid(0.5, 5)), Carrier(Huffman(), MinMaxGrid(3)), Carrier()],
        [(2, 4, 6), (11,), (6,)],
        skip=0.05,
    ),
}


def shapes_of(stream: StreamCoder) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a frame's tensors."""
    assert stream.coder.shapes is not None
    return stream.coder.shapes


def next_frame(stream: StreamCoder, before: Tensors | None, rng: random.Random) -> Tensors:
    """Return symbols that are mostly those of the frame before, or all others."""
    tensors, change = [], rng.choice((0.0, 0.02, 0.1, 0.3, 1.0))
    for index, carrier in enumerate(stream.coder.carriers):
        shape, seed = shapes_of(stream)[index], rng.randrange(1 << 30)
        fresh = picture(shape, carrier.levels, seed)
        if before is not None:
            moved = np.random.default_rng(seed).random(shape) < change
            fresh = np.where(moved, fresh, before[index][0])
        count = 0 if carrier.quantizer is None else carrier.quantizer.floats_per_image
        tensors.append((fresh, (0.0, 1.0)[:count]))
    return tensors


def forged(stream: StreamCoder, frame: Frame, rng: random.Random) -> bytes:
    """Return a frame with a changed code and the right checksum; only of streams with one tensor."""
    carrier, (symbols, floats) = stream.coder.carriers[0], frame.tensors[0]
    reference = None if frame.before is None else frame.before[0][0]
    code = carrier.codec.encode(symbols, carrier.levels, reference)
    start = frame.payload[: 5 if frame.before is None else 9]
    changed = damaged(code, code, rng)[1]
    context = zlib.crc32(start, stream.coder.context)
    return start + sealed(changed, symbols.shape, carrier.levels, carrier.codec, floats, context)


def allowed_bytes(stream: StreamCoder, payload: bytes) -> int:
    """Return the limit of memory for a decode: symbols eight times, the payload twice, and tables."""
    return 8 * sum(map(math.prod, shapes_of(stream))) + 2 * len(payload) + 2 * MIB


class Examiner:
    """Gives payloads to a receiver and compares what comes of them with what must come."""

    def __init__(self, stream: StreamCoder, rng: random.Random, trace: Callable[[bytes], None]) -> None:
        self.stream, self.rng, self.trace = stream, rng, trace
        self.receiver, self.known, self.tally = stream.receiver(), Knowledge(), Tally()

    def unpack(self, receiver: StreamReceiver, payload: bytes) -> tuple[str, Tensors | None]:
        """Return `late`, `missing`, `refused` or `taken`, and what was taken."""
        self.trace(payload)
        is_sample = self.rng.randrange(SAMPLE) == 0
        start = time.thread_time()
        if is_sample:
            tracemalloc.start()
        try:
            found, outcome = receiver.unpack(payload), "taken"
        except LateFrameError:
            found, outcome = None, "late"
        except MissingReferenceError:
            found, outcome = None, "missing"
        except CodecError:
            found, outcome = None, "refused"
        finally:
            ms, peak = (time.thread_time() - start) * 1e3, 0
            if is_sample:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
        self.tally.slowest_ms = max(self.tally.slowest_ms, ms)
        self.tally.memory_ratio = max(self.tally.memory_ratio, peak / allowed_bytes(self.stream, payload))
        if ms > 1e3 * SLOW or peak > allowed_bytes(self.stream, payload):
            raise ViolationError(f"it takes {ms:.0f} ms and {peak} bytes")
        return outcome, found

    def count(self, way: str, outcome: str) -> None:
        """Count an outcome."""
        key = f"{way}: {outcome}"
        self.tally.outcomes[key] = self.tally.outcomes.get(key, 0) + 1

    def honest(self, frame: Frame) -> str:
        """Give the receiver a frame as it was sent; return what came of it."""
        expected = self.known.outcome(frame)
        outcome, found = self.unpack(self.receiver, frame.payload)
        if found is not None:
            outcome = "exact" if same(found, frame.tensors) else "wrong"
        if outcome != expected:
            raise ViolationError(f"an honest frame is {outcome}, and must be {expected}")
        if outcome == "exact":
            self.known = Knowledge(frame.sequence, frame.tensors)
        self.count("honest", outcome)
        return outcome

    def damaged(self, payload: bytes) -> None:
        """Give the receiver a damaged payload, which is no honest one."""
        outcome, found = self.unpack(self.receiver, payload)
        if found is not None or self.receiver.sequence != self.known.sequence:
            raise ViolationError("a damaged payload is taken, or remembered")
        self.count("damaged", outcome)

    def forged(self, payload: bytes) -> None:
        """Give a copy of the receiver a payload with a changed code and the right checksum."""
        outcome, found = self.unpack(copy.copy(self.receiver), payload)
        for (symbols, _), shape, carrier in zip(
            found or [], shapes_of(self.stream), self.stream.coder.carriers, strict=found is not None
        ):
            if symbols.shape != shape or symbols.dtype != np.uint8 or symbols.max(initial=0) >= carrier.levels:
                raise ViolationError("symbols of another shape, or not below levels, come out")
        self.count("forged", "other" if found is not None else outcome)


def play(examiner: Examiner, rng: random.Random) -> None:
    """Send one video."""
    stream = examiner.stream
    sender, sent, delayed = stream.sender(), list[Frame](), deque[Frame]()
    sender.sequence = rng.choice((0, 0, WRAP - 7, WRAP // 2 - 3))
    examiner.receiver, examiner.known = stream.receiver(), Knowledge()
    before: Tensors | None = None
    for number in range(FRAMES + 2):
        is_end = number >= FRAMES
        if number == FRAMES or rng.random() < 0.03:
            sender.request_key()
        tensors, sequence = next_frame(stream, before, rng), sender.sequence
        payload = sender.pack(tensors)
        if payload[0] == REPEAT:
            assert before is not None
            tensors = before
        frame = Frame(sequence, payload, None if payload[0] == KEY else before, tensors)
        sent.append(frame)
        before = tensors
        honest = {each.payload for each in sent}
        for _ in range(rng.randrange(COPIES + 1)):
            victim = rng.choice(sent[-3:])
            if len(stream.coder.carriers) == 1 and victim.payload[0] != REPEAT and rng.random() < 0.2:
                examiner.forged(forged(stream, victim, rng))
            elif (changed := damaged(victim.payload, rng.choice(sent).payload, rng)[1]) not in honest:
                examiner.damaged(changed)
        fate = "sent" if is_end else rng.choices(list(FATES), list(FATES.values()))[0]
        if fate == "late":
            delayed.append(frame)
        outcomes = [examiner.honest(frame) for _ in range({"sent": 1, "doubled": 2}.get(fate, 0))]
        if is_end and outcomes != ["exact"]:
            raise ViolationError(f"frame {number - FRAMES} from a key frame on is {outcomes[0]}")
        if "missing" in outcomes and rng.random() < 0.5:
            sender.request_key()
        while delayed and not is_end and rng.random() < 0.4:
            examiner.honest(delayed.popleft())


def fuzz(
    name: str,
    payloads: int,
    seed: int,
    trace: Callable[[bytes], None] = lambda payload: None,
    tell: Callable[[int], None] = lambda number: None,
) -> Tally:
    """Return what came of a stream's payloads, up to the first violation.

    Args:
        name: of the stream, in `STREAMS`.
        payloads: how many, at least.
        seed: of all chance.
        trace: is called before each decode.
        tell: is called with a number of payloads that are done.
    """
    last = b""

    def keep(payload: bytes) -> None:
        nonlocal last
        last = payload
        trace(payload)

    rng = random.Random(f"{seed} {name}")
    examiner, told = Examiner(STREAMS[name](), rng, keep), 0
    with address_space(HEADROOM):
        try:
            while (done := examiner.tally.count()) < payloads:
                play(examiner, rng)
                if done >= told + STEP:
                    tell(done - told)
                    told = done
        except Exception as error:
            problem = str(error) if isinstance(error, ViolationError) else f"raised {error!r}"
            violation = {"problem": problem, "stream": name, "seed": seed, "payload": last.hex()}
            return replace(examiner.tally, violation=violation)
    return examiner.tally


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz, print, leave a JSON file; return the exit status."""
    parser = parser_of(__doc__, "fuzz_streams", "payloads", 2_000_000)
    parser.add_argument("--stream", default="", help="only streams whose name holds this")
    args = parser.parse_args(argv)
    if args.worker:
        work_apart(fuzz, args.stream, args.payloads, args.seed, args.worker)
        return 0
    names = [name for name in STREAMS if args.stream in name]
    if not names:
        parser.error(f"no stream's name holds {args.stream!r}; there are {', '.join(STREAMS)}")
    start, share, tallies = time.monotonic(), math.ceil(args.payloads / len(names)), {}
    with tempfile.TemporaryDirectory() as folder, progress_bar() as progress:
        bar = progress.add_task("payloads", total=share * len(names))
        for number, name in enumerate(names, 1):
            progress.update(bar, description=name.ljust(20))
            command = [str(Path(__file__).with_suffix("")), "--stream", name]
            command += ["--payloads", str(share), "--seed", str(args.seed)]
            tallies[name] = run_apart(command, Path(folder), lambda done: progress.advance(bar, done))
            progress.update(bar, completed=share * number)
    outcomes = ("refused", "missing", "late", "exact", "other")
    columns = ("stream", "payloads", *outcomes, "slowest ms", "memory ÷ allowed")
    cells = {name: tally_cells(tally, ("", *outcomes)) for name, tally in tallies.items()}
    rows, total = {row: asdict(tally) for row, tally in tallies.items()}, sum(t.count() for t in tallies.values())
    return report(args, time.monotonic() - start, columns, cells, rows, total)
