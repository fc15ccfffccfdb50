"""Workers as processes: what they see, and how their end is told."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from splitlearn.sweep import LauncherError, Worker
from splitlearn.sweep.launchers import Processes


@dataclass(frozen=True)
class Note:
    """Work that notes, in a process of its own, which GPUs it sees, and then ends as it is told."""

    path: Path
    kills: bool = False
    fails: bool = False

    def __call__(self) -> None:
        """Work."""
        own = multiprocessing.get_context("fork").Process(target=self.note)  # as loaders of data have them
        own.start()
        own.join()
        if self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails:
            raise RuntimeError("as it was told")

    def note(self) -> None:
        """Write what is seen."""
        self.path.write_text(os.environ["CUDA_VISIBLE_DEVICES"])


def ended(worker: Worker) -> Worker:
    while not worker.has_ended():
        time.sleep(0.05)
    return worker


@pytest.mark.slow
def test_workers_take_turns_on_gpus_and_tell_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    launcher = Processes(gpus=0.5)
    work: list[Callable[[], None]] = [
        Note(tmp_path / "0"),
        Note(tmp_path / "1", kills=True),
        Note(tmp_path / "2", fails=True),
    ]
    workers = [launcher.start(number, each) for number, each in enumerate(work)]
    assert [ended(worker).error() for worker in workers] == ["", "", "it ended with status 1"]
    assert [(tmp_path / str(number)).read_text() for number in range(3)] == ["3", "3", "5"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"
    launcher.close()


def test_close_ends_what_is_left(tmp_path: Path) -> None:
    launcher = Processes()
    worker = launcher.start(0, signal.pause)
    assert not worker.has_ended()
    launcher.close()
    assert worker.has_ended()


@pytest.mark.parametrize(
    ("gpus", "given"), [(0, ["", "", ""]), (1, ["a", "b", "c"]), (2, ["a,b", "a,b", "a,b"]), (0.3, ["a", "a", "a"])]
)
def test_shares_of_three_gpus(monkeypatch: pytest.MonkeyPatch, gpus: float, given: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b,c")
    launcher = Processes(gpus=gpus)
    assert [launcher.visible(number) for number in range(3)] == given


@pytest.mark.parametrize(("cpus", "gpus"), [(0, None), (1, -1), (1, 1.5)])
def test_shares_that_cannot_be_are_refused(cpus: int, gpus: float | None) -> None:
    with pytest.raises(ValueError, match="a worker takes"):
        Processes(cpus, gpus)


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    with pytest.raises(LauncherError, match="a worker is to have 4 GPUs, this machine offers 2: lower --gpus"):
        Processes(gpus=4)
