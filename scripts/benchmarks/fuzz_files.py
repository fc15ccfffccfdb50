"""Fuzz what is read from files with damaged and forged ones, of every kind: 12,000 by default.

What a file is, and what may come of it:
    damaged   bits, bytes or stretches of it are others: the model that was written, or one clear error
    forged    its manifest, config, tables or weights say something else, and every check is made right: a model, or
              one clear error

The kinds: an exported bottleneck, a calibration, a bank, the weights of a network, a network with early exits, and a
checkpoint of a run. A clear error is an exception of splitlearn's own, on one line; nothing else is raised, nothing is
imported, and no loading takes more memory than twice an honest file's and 64 MiB, which a limit on the address space
holds and the resident memory shows. A forged file is one that its forger could have exported: its model may differ.

    scripts/benchmarks/fuzz_files                        all kinds; about ten minutes on one core
    scripts/benchmarks/fuzz_files --kind bank --seed 7   one kind, other files

Leaves counts and violations as JSON; exit status 1 if there is a violation.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.progress import Progress

from scripts.benchmarks.file_kinds import KINDS, Kind, Outcomes, examine, prepare
from scripts.benchmarks.fuzzing import parser_of, progress_bar, report
from splitlearn.tasks import quieten
from splitlearn.testing.damage import damaged
from splitlearn.testing.forged_files import forged


def fuzz(kind: Kind, files: int, seed: int, folder: Path, step: Progress | None = None) -> Outcomes:
    """Return what came of the files of a kind, up to the first violation; the same whenever it is run."""
    rng = random.Random(f"{seed} {kind.name}")
    honest, outcomes = prepare(kind, folder), Outcomes()
    bar = step.add_task(kind.name.ljust(12), total=files) if step else None
    donors = [honest.content[::-1]]  # for pieces of other files
    for number in range(files):
        forgery = forged(honest.content, rng.choice(donors), damaged, rng)
        if forgery.content in donors:  # whole, and maybe right
            forgery = replace(forgery, way="forged")
        donors = [*donors[-3:], forgery.content] if rng.random() < 0.1 else donors
        if problem := examine(honest, forgery, outcomes):
            path = folder / f"{kind.name}_{number}{honest.path.suffix}"
            path.write_bytes(honest.path.read_bytes())
            outcomes.violation = {"problem": problem, "way": forgery.way, "change": forgery.change, "file": str(path)}
            break
        if step and bar is not None:
            step.advance(bar)
    return outcomes


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz, print, leave a JSON file; return the exit status."""
    parser = parser_of(__doc__, "fuzz_files", "files", 12_000)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="may be repeated; by default all")
    args = parser.parse_args(argv)
    quieten()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    start, names = time.monotonic(), args.kind or list(KINDS)
    found = {}
    with progress_bar() as progress:
        for name in names:
            with tempfile.TemporaryDirectory(prefix="splitlearn_files_") as folder:
                found[name] = fuzz(KINDS[name], -(-args.files // len(names)), args.seed, Path(folder), progress)
                if violation := found[name].violation:
                    violation["file"] = str(shutil.copy(violation["file"], args.out.parent))
    columns = ("kind", "files", "refused", "equal", "other", "slowest s", "memory MiB", "allowed MiB")
    cells = {name: each.cells() for name, each in found.items()}
    rows, total = {name: vars(each) for name, each in found.items()}, sum(each.files for each in found.values())
    return report(args, time.monotonic() - start, columns, cells, rows, total)
