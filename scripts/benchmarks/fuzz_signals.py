"""Stop commands at random moments, by SIGTERM, SIGINT and SIGKILL, alone or with their group; then let them go on.

What may come of it:
    status    143 and 130 as documented, 137 after SIGKILL; 0 where the command had ended before
    orphans   none: five seconds after the command has ended, no process that it has started is left
    errors    no traceback, and after SIGTERM and SIGINT one line that says so
    the end   launched again until it ends, the command leaves what it leaves undisturbed: steps, trials, exports

    scripts/benchmarks/fuzz_signals                            every command, forty moments
    scripts/benchmarks/fuzz_signals --command ddp --moments 9 --seed 7

Moments are drawn between the launch and the time that the command takes undisturbed. A signal that comes while Python
starts or ends ends the process by itself: its status is then -15 or -2, which shells tell as 143 and 130.
Leaves counts and violations as JSON; exit status 1 if there is a violation.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from splitlearn.files import write_json

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
EPOCHS, TRIALS, ATTEMPTS = 6, 2, 8
MARK = "SPLITLEARN_FUZZ"  # in the environment of whatever a command starts
ORPHANS = 5.0  # seconds

TRAINER: dict[str, Any] = {
    "accelerator": "cpu",
    "max_epochs": EPOCHS,
    "limit_train_batches": 4,
    "limit_test_batches": 2,
}
TRAINER |= {"limit_val_batches": 1, "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}


@dataclass(frozen=True)
class Command:
    """A command line that can be stopped and launched again.

    Attributes:
        words: behind `splitlearn`.
        resumed: what is added when a checkpoint is there.
        end: what it has left, to compare with an undisturbed one's.
    """

    words: tuple[str, ...]
    resumed: tuple[str, ...]
    end: Callable[[Path], Any]


def fitted(folder: Path) -> Any:
    """Epoch and step of the newest state."""
    newest = max(folder.glob("runs/small/version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    state = torch.load(newest, weights_only=True)
    return [state["epoch"], state["global_step"]]


def swept(folder: Path) -> Any:
    """Points, and what they have measured."""
    with (folder / "swept/trials.csv").open() as file:
        return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def staged(folder: Path) -> Any:
    """Exports of both stages, and how far each was trained."""
    states = [next(folder.glob(f"runs/{name}/version_*/checkpoints/last.ckpt")) for name in ("one", "two")]
    epochs = [torch.load(path, weights_only=True)["epoch"] for path in states]
    return [epochs, sorted(str(path.relative_to(folder)) for path in folder.glob("runs/*/*.safetensors"))]


LAST = ("--ckpt_path", "last")
FIT, TWO = ("fit", "--config", "small.yaml"), ("--trainer.devices", "2", "--trainer.strategy", "ddp")
SWEEP = ("sweep", "--config", "small.yaml", "--space", "space.yaml", "--trials", str(TRIALS), "--out", "swept")
COMMANDS = {
    "fit": Command(FIT, LAST, fitted),
    "ddp": Command((*FIT, *TWO), LAST, fitted),
    "stages": Command(("stages", "--config", "small.yaml", "--stages", "one.yaml,two.yaml"), (), staged),
    "sweep": Command(SWEEP, (), swept),
}


def prepare(folder: Path) -> None:
    """Write the configs of a small network on the embedded digits."""
    content = yaml.safe_load((ROOT / "configs/quickstart.yaml").read_text())
    network = content["model"]["init_args"]["model"]["init_args"]["net"]["init_args"]["model"]
    network["init_args"]["weights"] = str(ROOT / network["init_args"]["weights"])
    content["data"] = {"class_path": "splitlearn.data.Digits", "init_args": {"batch_size": 64}}
    logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "runs", "name": "small"}}
    best = {"monitor": "val/accuracy", "mode": "max", "auto_insert_metric_name": False, "filename": "best"}
    content |= {"seed_everything": 0, "trainer": TRAINER | {"devices": 1, "logger": logger}, "checkpoint": best}
    (folder / "small.yaml").write_text(yaml.safe_dump(content))
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"trainer": {"logger": {"init_args": {"name": name}}}}))
    (folder / "space.yaml").write_text("model.rate_weight: {log_uniform: [0.1, 1]}\n")


def launch(command: Command, folder: Path, mark: str) -> subprocess.Popen[bytes]:
    """Start a command in a group of its own."""
    more = command.resumed if list(folder.glob("runs/small/version_*/checkpoints/last.ckpt")) else ()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", MARK: mark}
    words = [sys.executable, "-m", "splitlearn", *command.words, *more]
    with (folder / "out.txt").open("wb") as out, (folder / "err.txt").open("wb") as err:
        return subprocess.Popen(words, cwd=folder, env=environment, stdout=out, stderr=err, process_group=0)


def left(mark: str) -> list[str]:
    """Command lines of processes that carry a mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}\0".encode() in (folder / "environ").read_bytes() + b"\0":
                found.append((folder / "cmdline").read_text().replace("\0", " ").strip() or folder.name)
        except OSError:
            continue
    return found


def problems(process: subprocess.Popen[bytes], signum: int, mark: str, folder: Path) -> list[str]:
    """What is wrong with the end of a command that was told to stop."""
    status, said, found = process.wait(), (folder / "err.txt").read_text(), []
    wanted = {-signum, 0} if signum == signal.SIGKILL else {128 + signum, -signum, 0}
    if status not in wanted:
        found.append(f"status {status} after {signal.Signals(signum).name}: {said[-300:]}")
    if signum != signal.SIGKILL and "Traceback" in said and status != -signum:
        found.append(f"traceback: {said[-600:]}")
    if status == 128 + signum and not any(word in said for word in ("terminated", "interrupted")):
        found.append("it does not say that it was stopped")
    deadline = time.monotonic() + ORPHANS
    while (there := left(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found + [f"left after {ORPHANS} s: {line}" for line in there]


def moment(name: str, seconds: float, expected: Any, rng: random.Random, folder: Path) -> dict[str, Any]:
    """Stop a command once, and let it go on to its end; return what came of it."""
    command, signum, group = COMMANDS[name], rng.choice(SIGNALS), rng.random() < 0.3
    mark, after = f"{os.getpid()}_{rng.random()}", rng.uniform(0, seconds)
    process = launch(command, folder, mark)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        (os.killpg if group else os.kill)(process.pid, signum)
    told = {"command": name, "signal": signum.name, "group": group, "after": round(after, 2)}
    found = problems(process, signum, mark, folder)
    told["status"] = process.returncode
    for _ in range(ATTEMPTS):
        if launch(command, folder, mark).wait() == 0:
            break
    else:
        return told | {"violations": [*found, f"it does not go on: {(folder / 'err.txt').read_text()[-600:]}"]}
    if (end := command.end(folder)) != expected:
        found.append(f"it ends with {end}, undisturbed with {expected}")
    return told | {"violations": found}


def main(argv: Sequence[str] | None = None) -> int:
    """Stop commands, print and leave a JSON file; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", action="append", choices=list(COMMANDS), help="may be repeated")
    parser.add_argument("--moments", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz_signals/results.json"))
    args = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background, all would ignore it
    rng, rows, known = random.Random(args.seed), [], {}
    for number in range(args.moments):
        name = (args.command or list(COMMANDS))[number % len(args.command or COMMANDS)]
        with tempfile.TemporaryDirectory(prefix="splitlearn_fuzz_") as temporary:
            folder = Path(temporary)
            prepare(folder)
            if name not in known:
                start = time.monotonic()
                if launch(COMMANDS[name], folder, "undisturbed").wait():
                    raise SystemExit(f"{name} fails undisturbed: {(folder / 'err.txt').read_text()[-900:]}")
                known[name] = time.monotonic() - start, COMMANDS[name].end(folder)
                for old in ("runs", "swept"):
                    subprocess.run(["rm", "-rf", str(folder / old)], check=True)
            rows.append(moment(name, *known[name], rng, folder))
        print(rows[-1], flush=True)
    wrong = [row for row in rows if row["violations"]]
    counts = Counter(f"{row['command']} {row['signal']} {row['status']}" for row in rows)
    write_json(args.out, {"settings": vars(args), "counts": dict(sorted(counts.items())), "moments": rows})
    print(f"{len(rows)} moments, {len(wrong)} with violations; {args.out} written")
    return int(bool(wrong))
