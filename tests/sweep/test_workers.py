"""The loop that watches workers, with a launcher of one's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from splitlearn.sweep import Claim, Launcher, LauncherError, State, Study, TrialLost, Worker, run_sweep
from splitlearn.sweep.space import Value
from tests.sweep.test_study import created, storage


class Here(Launcher):
    """Works in this process, at once."""

    is_closed = False

    def start(self, number: int, work: Callable[[], None]) -> Worker:
        kept = [os.dup(descriptor) for descriptor in (1, 2)]  # workers redirect what they print
        try:
            work()
            return Ended("")
        except Exception as error:
            return Ended(str(error))
        finally:
            for descriptor, before in zip((1, 2), kept, strict=True):
                os.dup2(before, descriptor)
                os.close(before)

    def close(self) -> None:
        self.is_closed = True


class Ended(Worker):
    def __init__(self, told: str) -> None:
        self.told = told

    def has_ended(self) -> bool:
        return True

    def error(self) -> str:
        return self.told


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitlearn.sweep.workers.LOOK_SECONDS", 0)


def measured(number: int, values: Mapping[str, Value]) -> Mapping[str, float]:
    return {"rate": float(values["x"]), "score": 0.5}


def test_a_trial_that_loses_a_process_of_its_own_is_run_again(tmp_path: Path) -> None:
    created(tmp_path, 3)
    numbers: list[int] = []

    def run(number: int, values: Mapping[str, Value]) -> Mapping[str, float]:
        numbers.append(number)
        if numbers.count(1) == 1 and number == 1:
            raise TrialLost("a process of trial 1 was killed")
        return measured(number, values)

    trials = run_sweep(storage(tmp_path), "sweep", run, 1, tmp_path / "logs", launcher=Here())
    assert {trial.state for trial in trials} == {State.FINISHED}
    assert sorted(numbers) == [0, 1, 1, 2]


def test_an_error_of_the_storage_loses_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created(tmp_path, 3)
    finish, calls = Study.finish, []

    def interrupted(study: Study, claim: Claim, metrics: Mapping[str, float]) -> None:
        calls.append(claim.number)
        if len(calls) == 2:
            raise ConnectionError("the server is being started again")
        finish(study, claim, metrics)

    monkeypatch.setattr(Study, "finish", interrupted)
    trials = run_sweep(storage(tmp_path), "sweep", measured, 1, tmp_path / "logs", launcher=Here())
    assert {trial.state for trial in trials} == {
        State.FINISHED
    }  # although the worker's process lives, it is known gone
    assert sorted(calls) == [0, 1, 1, 2]


def test_workers_that_cannot_work_end_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(study: Study, worker: str) -> None:
        raise RuntimeError("no splitlearn on this machine")

    created(tmp_path, 3)
    monkeypatch.setattr(Study, "claim", broken)
    launcher = Here()
    with pytest.raises(LauncherError, match=r"before a trial does \(no splitlearn on this machine\)"):
        run_sweep(storage(tmp_path), "sweep", measured, 2, tmp_path / "logs", launcher=launcher)
    assert launcher.is_closed
