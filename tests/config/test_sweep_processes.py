"""Trials that two processes train together, with Lightning's ddp strategy on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands.test_sweep_command import CONFIG, ROOT, rows_of
from tests.sweep.kills import wait_for

pytestmark = pytest.mark.slow

SPACE = "model.model.quantizer.step: {choice: [1.0, 1.0e+38]}"  # the latter is refused
DDP = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]


def launched(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    (folder / "space.yaml").write_text(SPACE)
    command = [sys.executable, "-m", "splitlearn", "sweep", *CONFIG, *DDP, "--space", str(folder / "space.yaml")]
    command += ["--out", str(folder / "sweep"), "--cache_dir", str(folder / "features"), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def descendants(pid: int) -> list[str]:
    """Command lines of all processes below one, with their numbers in front."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    below, lines = {pid}, []
    for number, parent, *words in sorted((line.split() for line in found.stdout.splitlines()), key=lambda w: int(w[0])):
        if int(parent) in below:
            below.add(int(number))
            lines.append(" ".join([number, *words]))
    return lines


def test_two_processes_train_a_trial_and_one_records_it(tmp_path: Path) -> None:
    sweep = launched(tmp_path, "--trials", "2", "--seed", "2", "--trainer.max_epochs", "1")
    assert sweep.wait() == 0
    rows = rows_of(tmp_path / "sweep")
    states = [row["state"] for row in rows]
    assert sorted(set(states)) == ["failed", "finished"]
    log = (tmp_path / "sweep/logs/worker_0.log").read_text()
    assert log.count("Starting with 2 processes") == states.count("finished")
    for number, row in enumerate(rows):
        if row["state"] == "failed":
            assert "step must be positive" in row["error"]
            continue
        results = json.loads((tmp_path / f"sweep/trials/{number:03}/results.json").read_text())
        assert results["test/accuracy"] == float(row["test/accuracy"])
        images = results["test/accuracy"] * 297  # all test images, none twice
        assert abs(images - round(images)) < 1e-4
        assert int(results["config"]["trainer"]["devices"]) == 2
        assert results["command"].startswith("splitlearn sweep --config")
        assert (tmp_path / f"sweep/trials/{number:03}/bottleneck.safetensors").is_file()


def test_a_trial_that_loses_a_process_is_run_again(tmp_path: Path) -> None:
    sweep = launched(tmp_path, "--trials", "1", "--seed", "1", "--trainer.max_epochs", "8")
    while len(found := [line for line in descendants(sweep.pid) if "sweep_processes" in line]) < 2:
        time.sleep(0.1)
        assert sweep.poll() is None
    metrics = tmp_path / "sweep/trials/000/log/metrics.csv"
    while not metrics.is_file():  # they train by now
        time.sleep(0.1)
        assert sweep.poll() is None
    os.kill(int(found[1].split()[0]), signal.SIGKILL)
    assert sweep.wait() == 0
    (row,) = rows_of(tmp_path / "sweep")
    assert row["state"] == "finished"
    log = (tmp_path / "sweep/logs/worker_0.log").read_text()
    assert "a process of trial 0 was killed" in log
    assert log.count("trial 0: {") == 2


def test_no_process_outlives_a_killed_sweep(tmp_path: Path) -> None:
    sweep = launched(tmp_path, "--trials", "1", "--seed", "1", "--trainer.max_epochs", "50")
    while len(found := [line for line in descendants(sweep.pid) if "sweep_processes" in line]) < 2:
        time.sleep(0.1)
        assert sweep.poll() is None
    sweep.kill()
    sweep.wait()
    wait_for(lambda: not any(Path(f"/proc/{line.split()[0]}").is_dir() for line in found))
