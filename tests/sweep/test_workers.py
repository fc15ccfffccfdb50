"""The loop that watches workers, with a launcher of one's own."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from splitlearn.sweep import (
    Claim,
    Groups,
    LauncherError,
    Progress,
    State,
    Study,
    TrialLost,
    run_sweep,
)
from splitlearn.sweep.distributions import Value
from splitlearn.sweep.workers import _Work
from tests.sweep.here import Here
from tests.sweep.test_study import created, storage


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
    def broken(study: Study, worker: str, drawing: object) -> None:
        raise RuntimeError("no splitlearn on this machine")

    created(tmp_path, 3)
    monkeypatch.setattr(Study, "claim", broken)
    launcher = Here()
    with pytest.raises(LauncherError, match=r"before a trial does \(no splitlearn on this machine\)"):
        run_sweep(storage(tmp_path), "sweep", measured, 2, tmp_path / "logs", launcher=launcher)
    assert launcher.is_closed


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/runs/x"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        MemoryError(),
        np.exceptions.AxisError("of another kind"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("OSError: [Errno 28] No space left on device"),  # of a process of the trial's own
        ZeroDivisionError("of another kind"),
    ],
    ids=repr,
)
def test_what_lacked_disk_or_memory_is_run_by_the_next_launch(tmp_path: Path, error: Exception) -> None:
    created(tmp_path, 2)
    is_short = [True]
    numbers: list[int] = []

    def run(number: int, values: Mapping[str, Value]) -> Mapping[str, float]:
        numbers.append(number)
        if number == 1 and is_short[0]:
            try:
                raise error
            except Exception as reason:
                raise ValueError("the trial could not be written") from reason
        return measured(number, values)

    def launched() -> list[State]:
        return [t.state for t in run_sweep(storage(tmp_path), "sweep", run, 1, tmp_path / "logs", launcher=Here())]

    assert launched() == [State.FINISHED, State.FAILED]
    assert launched() == [State.FINISHED, State.FAILED]  # there is still no room
    is_short[0] = False
    again = "another kind" not in str(error)
    assert launched() == [State.FINISHED, State.FINISHED if again else State.FAILED]
    assert numbers == ([0, 1, 1, 1] if again else [0, 1])


def test_what_always_lacks_memory_is_given_up(tmp_path: Path) -> None:
    created(tmp_path, 2)
    numbers: list[int] = []

    def run(number: int, values: Mapping[str, Value]) -> Mapping[str, float]:
        numbers.append(number)
        if number == 1:
            raise MemoryError
        return measured(number, values)

    lacking = []
    for _ in range(5):
        run_sweep(storage(tmp_path), "sweep", run, 1, tmp_path / "logs", launcher=Here())
        lacking.append([trial.number for trial in Study(storage(tmp_path), "sweep").lacking()])
    assert lacking == [[1], [1], [], [], []]
    assert numbers == [0, 1, 1, 1]
    _, trial = Study(storage(tmp_path), "sweep").trials()
    assert (trial.state, trial.error) == (State.FAILED, "MemoryError: ")


def test_a_group_that_loses_its_worker_is_smaller_the_next_time(tmp_path: Path) -> None:
    created(tmp_path, 8)
    sizes: list[int] = []

    def together(points: Mapping[int, Mapping[str, Value]], progress: Progress) -> None:
        sizes.append(len(points))
        if 3 in points and len(points) > 1:
            raise TrialLost("the system killed it for lack of memory")
        for number, values in points.items():
            progress.finished(number, measured(number, values), seconds=2.5)

    logs, groups = tmp_path / "logs", Groups(together, size=8)
    trials = run_sweep(storage(tmp_path), "sweep", measured, 1, logs, launcher=Here(), groups=groups)
    assert {trial.state for trial in trials} == {State.FINISHED}
    assert {trial.seconds for trial in trials} == {2.5}
    assert sizes[0] == 8
    assert max(sizes[1:]) == 2
    assert 1 in sizes


def test_workers_share_the_trials(tmp_path: Path) -> None:
    study = created(tmp_path, 8)
    work = _Work(storage(tmp_path), "sweep", measured, None, 2, tmp_path / "log", 1, "", None)
    assert [len(work._group(study, size)) for size in (32, 3, 32)] == [4, 3, 1]
    assert work._group(study, 32) == []


def test_an_error_of_a_group_is_that_of_its_trials_and_one_of_the_storage_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created(tmp_path, 3)
    calls: list[int] = []

    def together(points: Mapping[int, Mapping[str, Value]], progress: Progress) -> None:
        calls.append(len(points))
        if len(calls) == 2:
            raise RuntimeError("the data are gone")
        for number, values in points.items():
            progress.finished(number, measured(number, values))

    finish = Study.finish

    def interrupted(study: Study, claim: Claim, metrics: Mapping[str, float]) -> None:
        if len(calls) == 1:
            raise ConnectionError("the server is being started again")
        finish(study, claim, metrics)

    monkeypatch.setattr(Study, "finish", interrupted)
    groups = Groups(together, size=3)
    trials = run_sweep(storage(tmp_path), "sweep", measured, 1, tmp_path / "logs", launcher=Here(), groups=groups)
    assert calls[0] == 3
    assert [trial.error for trial in trials if trial.state is State.FAILED] == ["RuntimeError: the data are gone"]
    assert [trial.state for trial in trials].count(State.FINISHED) == 2
