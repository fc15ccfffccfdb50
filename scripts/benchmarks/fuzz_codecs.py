"""Fuzz every codec of the package with damaged payloads: two million by default.

What a payload is, and what may come of it:
    whole         a code or a container as it was written: exactly the symbols
    code          a bare code, damaged: CodecError, or symbols of the right shape below `levels`
    elsewhere     a bare code, whole or damaged, read with another shape or alphabet: the same
    container     a container, damaged: CodecError, or exactly the symbols and floats
    forged code   a container with a damaged code or a lying header, its checksum made right: as for a bare code
    forged header a container with a damaged header, its checksum made right: as for a bare code
    huge          a small code of several symbols, bare or in a container, read as two billion symbols: CodecError,
                  and nothing is allocated for them

A third of them is read as latents too, by `decode_latent` and `unpack_latents`: what comes out are the floats that the
symbols stand for, bit for bit, or both are refused, and nothing is written beside the array that is to hold the latent.

Nothing raises anything else, warns, crashes, hangs or takes long, and no decode holds more memory than `allowed_bytes`:
tracemalloc sees what Python and numpy hold, a limit on the address space stops everything else. Codecs are tried
without tables and, where they learn any, with tables, and with each switch of the constructor the other way. They run
in worker processes: a crash costs one batch of one codec, and the payload at fault is found in a file that the worker
writes before each decode.

    scripts/benchmarks/fuzz_codecs                                all codecs; about four minutes on one core
    scripts/benchmarks/fuzz_codecs --codec Huffman --seed 7       one codec, other payloads
    scripts/benchmarks/fuzz_codecs --codec package.module.Mine    a codec of your own

Leaves counts and violations as JSON; exit status 1 if there is a violation.
"""

from __future__ import annotations

import faulthandler
import importlib
import inspect
import json
import math
import mmap
import pickle
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path

from scripts.benchmarks.fuzzing import parser_of, progress_bar, report, tally_cells
from splitlearn import codecs
from splitlearn.codecs import Codec
from splitlearn.discovery import concrete_classes
from splitlearn.testing import random_symbols
from splitlearn.testing.damage import Case, draw_cases
from splitlearn.testing.verdict import Tally, ViolationError, address_space, examine

BATCH = 2000  # payloads between two messages of a worker
BULK_EVERY = 8  # batches: the last of them starts with an array of a million symbols
SAMPLE = 64  # the memory of one decode in so many is measured; of all with a mebibyte of symbols or many channels
HEADROOM = 1 << 30  # growth of the address space while a batch runs
TRACE = 1 << 26  # size of the file that holds the payload being decoded
HANG = 300  # seconds that a batch may take


@dataclass(frozen=True)
class Task:
    """A batch of payloads, the same whenever it is run.

    Attributes:
        codec: import path of the class.
        arguments: of its constructor.
        is_static: whether the codec has static tables.
        seed: that of the run.
        batch: its number.
        payloads: how many.
    """

    codec: str
    arguments: dict[str, bool]
    is_static: bool
    seed: int
    batch: int
    payloads: int

    @property
    def row(self) -> str:
        """Return the name of the table's row that the batch counts in."""
        arguments = f"({', '.join(self.arguments)})" if self.arguments else ""
        return self.codec.rpartition(".")[2] + arguments + ", static" * self.is_static


@cache
def discover() -> dict[str, type[Codec]]:
    """Return the codecs of the package by import path."""
    return {f"{cls.__module__}.{cls.__name__}": cls for cls in concrete_classes(codecs, Codec)}


def load(path: str) -> type[Codec]:
    """Return the codec of an import path."""
    module, _, name = path.rpartition(".")
    cls: type[Codec] = getattr(importlib.import_module(module), name)
    return cls


def variants(path: str) -> list[dict[str, bool]]:
    """Return the arguments to try: the defaults, and each switch the other way."""
    parameters = inspect.signature(load(path)).parameters.values()
    return [{}, *({p.name: not p.default} for p in parameters if isinstance(p.default, bool))]


@lru_cache(32)
def make(path: str, arguments: tuple[tuple[str, bool], ...], is_static: bool, levels: int, channels: int) -> Codec:
    """Return a codec, with tables learnt for `levels` and for arrays of so many channels or without."""
    codec = load(path)(**dict(arguments))
    shape = (channels, 20, 100) if channels < 100 else (channels, 2, 4)
    return codec.fitted([random_symbols(shape, levels, 0.3, 7)], levels) if is_static else codec


def fuzz(task: Task, trace: Callable[[Case], None] = lambda case: None) -> Tally:
    """Return what came of the payloads of a batch, up to the first violation; `trace` is called before each decode."""
    rng = random.Random(f"{task.seed} {task.row} {task.batch}")

    def codec(levels: int, channels: int) -> Codec | None:
        if channels == 0 and task.is_static:
            return None  # there are no tables for no channel
        return make(task.codec, tuple(task.arguments.items()), task.is_static, levels, channels)

    is_bulk = task.batch % BULK_EVERY == BULK_EVERY - 1
    cases = draw_cases(codec, list(discover().values()), rng, is_bulk)
    tally = Tally()
    case: Case | None = None
    with address_space(HEADROOM), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            while tally.count() < task.payloads:
                case = None
                case = next(cases)
                trace(case)
                examine(case, tally, rng.randrange(SAMPLE) == 0)
        except Exception as error:
            problem = str(error) if isinstance(error, ViolationError) else f"raised {error!r}"
            tally.violation = {"problem": problem, **asdict(task), **(case.record() if case else {})}
    return tally


def work(trace_file: str) -> None:
    """Do the tasks that come as lines of JSON and answer each with the JSON of its tally."""
    faulthandler.enable()
    with open(trace_file, "r+b") as file, mmap.mmap(file.fileno(), TRACE) as room:

        def trace(case: Case) -> None:
            data = pickle.dumps(case.record())
            room[: len(data)] = data

        for line in sys.stdin:
            faulthandler.dump_traceback_later(HANG, exit=True)
            tally = fuzz(Task(**json.loads(line)), trace)
            faulthandler.cancel_dump_traceback_later()
            print(json.dumps(asdict(tally)), flush=True)


class Worker:
    """Runs `fuzz` in another process, and in a new one after that died."""

    def __init__(self, folder: str) -> None:
        self._trace, self._errors = Path(folder, "trace"), Path(folder, "errors")
        self._process: subprocess.Popen[str] | None = None

    def run(self, task: Task) -> Tally:
        """Return the tally of a batch; that the process died is a violation."""
        if self._process is None:
            with self._trace.open("wb") as file, self._errors.open("w") as errors:
                file.truncate(TRACE)
                command = [sys.executable, str(Path(__file__).with_suffix("")), "--worker", str(self._trace)]
                self._process = subprocess.Popen(command, stdin=-1, stdout=-1, stderr=errors, text=True)
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(asdict(task)), file=self._process.stdin, flush=True)
        if answer := self._process.stdout.readline():
            return Tally(**json.loads(answer))
        status, said = self.close(), self._errors.read_text().partition("\n\nExtension modules:")[0]
        problem = f"the process died with status {status}: {said[:1000]}"
        with self._trace.open("rb") as file, suppress(pickle.UnpicklingError):  # where it died before any payload
            return Tally(violation={"problem": problem, **asdict(task), **pickle.load(file)})
        return Tally(violation={"problem": problem, **asdict(task)})

    def close(self) -> int | None:
        """End the process and return its exit status."""
        status = None
        if self._process:
            self._process.communicate()
            status, self._process = self._process.returncode, None
        return status


def plan(names: Sequence[str], payloads: int, seed: int) -> list[Task]:
    """Return the batches: `payloads` shared out to the codecs, and among each codec's kinds."""
    tasks = []
    paths = [path for name in names for path in discover() if path.endswith(f".{name}")] if names else list(discover())
    paths += [name for name in names if "." in name and name not in paths]
    for path in paths:
        statics = (False, True) if make(path, (), True, 8, 1).tables() else (False,)
        kinds = [(arguments, is_static) for arguments in variants(path) for is_static in statics]
        share = math.ceil(payloads / len(paths) / len(kinds))
        sizes = [min(BATCH, share - start) for start in range(0, share, BATCH)]
        tasks += [Task(path, *kind, seed, batch, size) for kind in kinds for batch, size in enumerate(sizes)]
    return sorted(tasks, key=lambda task: task.batch)


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz, print, leave a JSON file; return the exit status."""
    parser = parser_of(__doc__, "fuzz_codecs", "payloads", 2_000_000)
    parser.add_argument("--codec", action="append", default=[], help="class name or import path; may be repeated")
    args = parser.parse_args(argv)
    if args.worker:
        work(str(args.worker))
        return 0
    start = time.monotonic()
    tasks = plan(args.codec, args.payloads, args.seed)
    if not tasks:
        parser.error(f"no codec is called {args.codec}; there are {', '.join(discover())}")
    tallies = {task.row: Tally() for task in sorted(tasks, key=lambda task: task.row)}
    with tempfile.TemporaryDirectory() as folder, progress_bar() as progress:
        worker = Worker(folder)
        bar = progress.add_task("payloads", total=sum(task.payloads for task in tasks))
        for task in tasks:
            progress.update(bar, description=task.row.ljust(30))
            if not tallies[task.row].violation:
                tallies[task.row].add(worker.run(task))
            progress.advance(bar, task.payloads)
        worker.close()
    columns = ("codec", "payloads", "refused", "other", "exact", "slowest ms", "memory ÷ output")
    cells = {row: tally_cells(tally, ("", "refused", "other", "exact")) for row, tally in tallies.items()}
    rows, total = {row: asdict(tally) for row, tally in tallies.items()}, sum(t.count() for t in tallies.values())
    return report(args, time.monotonic() - start, columns, cells, rows, total)
