"""What fuzzers share: options, progress, processes of their own, the table of outcomes, the record."""

from __future__ import annotations

import argparse
import faulthandler
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from splitlearn.files import whole_file, write_json
from splitlearn.testing.verdict import Tally

LONG = 300  # bytes of a payload that are printed; longer ones go to a file of their own


def parser_of(doc: str | None, name: str, unit: str, count: int) -> argparse.ArgumentParser:
    """Return a parser for `count` of a unit, e.g. "payloads", and results in a folder named like the script."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(f"--{unit}", type=int, default=count, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs", name, "results.json"))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)  # file that tells what a worker died of
    return parser


def progress_bar() -> Progress:
    """Return a bar with counts."""
    return Progress(*Progress.get_default_columns(), MofNCompleteColumn())


def tally_cells(tally: Tally, ways: Sequence[str]) -> list[str]:
    """Return counts, the time of the slowest decode and the most memory as cells of a table."""
    return [*(f"{tally.count(way):,}" for way in ways), f"{tally.slowest_ms:.1f}", f"{tally.memory_ratio:.2f}"]


def report(
    args: argparse.Namespace,
    seconds: float,
    columns: Sequence[str],
    cells: Mapping[str, Sequence[str]],
    rows: Mapping[str, dict[str, Any]],
    total: int,
) -> int:
    """Print outcomes and violations, leave them as JSON, and return the exit status: 1 if there is a violation.

    Args:
        args: options of the script.
        seconds: how long it took.
        columns: of the table: what is fuzzed, e.g. "codec"; what was made, e.g. "payloads"; outcomes.
        cells: of all columns but the first, by row.
        rows: the same for the JSON file; with `violation`, None if there is none.
        total: how many were made.
    """
    from splitlearn.tasks import run_record  # here: workers need no Lightning

    table, console = Table(*columns), Console(width=110)
    for name, counts in cells.items():
        table.add_row(name, *counts)
    console.print(table)
    violations = [row["violation"] for row in rows.values() if row["violation"]]
    for number, found in enumerate(violations):
        payload, file = found.get("payload", ""), args.out.with_suffix(f".violation{number}.hex")
        if len(payload) > 2 * LONG:
            with whole_file(file) as temporary:
                temporary.write_text(payload)
            found = {**found, "payload": f"{len(payload) // 2} bytes, see {file}"}
        console.print("VIOLATION", found, markup=False)
    record = {**run_record(), "settings": vars(args), columns[1]: total, "seconds": seconds, f"{columns[0]}s": rows}
    write_json(args.out, record)
    print(f"{total:,} {columns[1]}, {len(violations)} violations, {seconds:.0f} s; {args.out} written")
    return int(bool(violations))


def work_apart(fuzz: Callable[..., Tally], name: str, count: int, seed: int, trace_file: Path) -> None:
    """Fuzz one subject in this process for `run_apart`; print a line of JSON now and then, the tally as the last.

    Args:
        fuzz: called with name, count, seed, what is to be called with each payload before it is decoded, and what is to
            be called with numbers of payloads that are done.
        name: of the subject.
        count: of payloads.
        seed: of all chance.
        trace_file: receives the payload that is being decoded.
    """
    faulthandler.enable()
    with trace_file.open("wb", buffering=0) as file:

        def trace(payload: bytes) -> None:
            file.seek(0)
            file.truncate()
            file.write(payload)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's of large files, torch's of what it will move
            tally = fuzz(name, count, seed, trace, lambda number: print(number, flush=True))
    print(json.dumps(asdict(tally)), flush=True)


def run_apart(command: Sequence[str], folder: Path, advance: Callable[[int], None]) -> Tally:
    """Return what came of a subject's payloads in another process; that it died is a violation.

    Args:
        command: script and options; its worker calls `work_apart`.
        folder: for files of the worker.
        advance: called with numbers of payloads that are done.
    """
    trace, errors = folder / "trace", folder / "errors"
    command = [sys.executable, *command, "--worker", str(trace)]
    with errors.open("w") as said, subprocess.Popen(command, stdout=-1, stderr=said, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("{"):
                return Tally(**json.loads(line))
            advance(int(line))
    problem = f"the process died with status {process.returncode}: {errors.read_text()[-1000:]}"
    payload = trace.read_bytes().hex() if trace.exists() else ""
    return Tally(violation={"problem": problem, "command": list(command), "payload": payload})
