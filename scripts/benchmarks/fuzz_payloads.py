"""Throw forged payloads, their checksums made right, at whole models: a hundred thousand by default.

Whatever the bytes, `decompress` gives a prediction or raises CodecError (what is done to them: see
splitlearn/testing/forged_payloads.py; models: payload_models.py). Nothing else is raised, no part of another image's
payload is taken, no decode takes long, and none makes the process larger than twice what the largest honest payload
takes, and 64 MiB. No payload makes anything be imported. Each model is tried in a process of its own: one that dies is
a violation like others, and the payload at fault is found in a file that was written before each decode.

    scripts/benchmarks/fuzz_payloads                             all models; about fifteen minutes on one core
    scripts/benchmarks/fuzz_payloads --model "Mask R-CNN"        those with this in their name
    scripts/benchmarks/fuzz_payloads --seed 7                    other payloads

Leaves counts and violations as JSON; exit status 1 if there is a violation.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from scripts.benchmarks.fuzzing import parser_of, progress_bar, report, run_apart, tally_cells, work_apart
from scripts.benchmarks.payload_models import MODELS, Subject
from splitlearn.codecs import CodecError
from splitlearn.models import EarlyExitModel
from splitlearn.testing.verdict import MIB, SLOW, Tally, ViolationError, forget_peak, resident

STEP = 100  # payloads between two messages of a worker
EXTRA = 64 * MIB  # bytes by which a forged payload may exceed twice what an honest one takes


def decode(subject: Subject, payload: bytes) -> tuple[Any, int, float]:
    """Return the prediction (None if the payload is refused), bytes by which the process grew, and milliseconds."""
    before, start = forget_peak(), time.thread_time()
    try:
        found = subject.model.decompress([payload])
    except CodecError:
        found = None
    return found, resident("VmHWM") - before, (time.thread_time() - start) * 1e3


def judge(subject: Subject, way: str, payload: bytes, found: Any) -> str:
    """Return `refused` or `prediction`; raises ViolationError if it must be refused, or stands for something else."""
    if found is None:
        if way == "honest" or payload in subject.honest:
            raise ViolationError("an honest payload is refused")
        return "refused"
    if way == "exchange" and subject.parts > 1 and payload not in subject.honest:
        raise ViolationError("a part of another image's payload is taken")
    if isinstance(subject.model, EarlyExitModel) and payload and bool(found.isnan().any()):
        raise ViolationError("the prediction is that of an empty payload")
    return "prediction"


def allowance(subject: Subject) -> int:
    """Return how many bytes a payload may take, after kernels are compiled and what is loaded late is loaded."""
    for payload in [*subject.honest, *subject.largest, b"\0" * 40]:
        decode(subject, payload)
    return 2 * max(decode(subject, payload)[1] for payload in subject.largest) + EXTRA


def packages() -> set[str]:
    """Return the names of what is imported."""
    return {name.partition(".")[0] for name in list(sys.modules)}


def fuzz(
    name: str, payloads: int, seed: int, trace: Callable[[bytes], None] = lambda payload: None, tell: Any = None
) -> Tally:
    """Return what came of a model's payloads, up to the first violation.

    Args:
        name: of the model, in `MODELS`.
        payloads: how many.
        seed: of all chance.
        trace: is called before each decode.
        tell: is called with a number of payloads that are done, if given.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    subject, rng, tally = MODELS[name](), random.Random(f"{seed} {name}"), Tally()
    allowed = allowance(subject)
    known, loaded = packages(), len(sys.modules)
    way, payload = "", b""
    try:
        for number in range(payloads):
            way, payload = subject.draw(rng)
            trace(payload)
            found, grown, ms = decode(subject, payload)
            outcome = judge(subject, way, payload, found)
            tally.add(Tally({f"{way}: {outcome}": 1}, ms, grown / allowed))
            if grown > allowed or ms > 1e3 * SLOW:
                raise ViolationError(
                    f"it takes {grown / MIB:.0f} MiB, {allowed / MIB:.0f} are allowed, and {ms:.0f} ms"
                )
            if len(sys.modules) != loaded:
                loaded = len(sys.modules)
                if packages() - known:
                    raise ViolationError(f"it imports {packages() - known}")
            if tell is not None and number % STEP == STEP - 1:
                tell(STEP)
    except Exception as error:
        problem = str(error) if isinstance(error, ViolationError) else f"raised {error!r}"
        tally.violation = {"problem": problem, "model": name, "seed": seed, "way": way, "payload": payload.hex()}
    return tally


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz, print, leave a JSON file; return the exit status."""
    parser = parser_of(__doc__, "fuzz_payloads", "payloads", 100_000)
    parser.add_argument("--model", default="", help="only models whose name holds this")
    args = parser.parse_args(argv)
    if args.worker:
        work_apart(fuzz, args.model, args.payloads, args.seed, args.worker)
        return 0
    names = [name for name in MODELS if args.model in name]
    if not names:
        parser.error(f"no model's name holds {args.model!r}; there are {', '.join(MODELS)}")
    start, share, tallies = time.monotonic(), math.ceil(args.payloads / len(names)), {}
    with tempfile.TemporaryDirectory() as folder, progress_bar() as progress:
        bar = progress.add_task("payloads", total=share * len(names))
        for number, name in enumerate(names, 1):
            progress.update(bar, description=name.ljust(40))
            command = [str(Path(__file__).with_suffix("")), "--model", name]
            command += ["--payloads", str(share), "--seed", str(args.seed)]
            tallies[name] = run_apart(command, Path(folder), lambda done: progress.advance(bar, done))
            progress.update(bar, completed=share * number)
    columns = ("model", "payloads", "refused", "predictions", "slowest ms", "memory ÷ allowed")
    cells = {name: tally_cells(tally, ("", "refused", "prediction")) for name, tally in tallies.items()}
    rows, total = {row: asdict(tally) for row, tally in tallies.items()}, sum(t.count() for t in tallies.values())
    return report(args, time.monotonic() - start, columns, cells, rows, total)
