"""Decisions at rungs: the same, whoever comes when; what is stopped, when and why is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from splitlearn.sweep import (
    Groups,
    Next,
    Progress,
    Standing,
    State,
    Study,
    SuccessiveHalving,
    Trial,
    hypervolume,
    run_sweep,
)
from splitlearn.sweep.distributions import Value
from splitlearn.sweep.progress import RUNG_RATE
from splitlearn.sweep.rungs import Rungs
from tests.sweep.here import Here
from tests.sweep.test_study import created, storage
from tests.sweep.test_workers import measured

PRUNER = SuccessiveHalving(rungs=[1, 2])


def standing_of(number: int) -> Standing:
    """Points on three fronts."""
    return Standing(1.0 + number, 0.1 * number - 0.35 * (number % 3))


class Trained:
    """Trains groups without computing: each trial reaches the rungs from where it was, and then its end."""

    def __init__(self, epochs: int = 4, breaks: Sequence[int] = ()) -> None:
        self.epochs, self.breaks, self.at, self.steps = epochs, list(breaks), dict[int, int](), 0

    def __call__(self, points: Mapping[int, Mapping[str, Value]], progress: Progress) -> None:
        for number in set(points) & set(self.breaks):
            progress.failed(number, ArithmeticError("it diverged"))
        for epoch in range(1, self.epochs + 1):
            for_now = [n for n in progress.open if self.at.get(n, 0) < epoch]
            self.steps += len(for_now)
            self.at |= dict.fromkeys(for_now, epoch)
            if epoch in progress.rungs and for_now:
                told = {n: {RUNG_RATE: standing_of(n).rate, "score": standing_of(n).score} for n in for_now}
                progress.reached(epoch, told)
        for number in progress.open:
            progress.finished(number, {"rate": standing_of(number).rate, "score": standing_of(number).score})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitlearn.sweep.workers.LOOK_SECONDS", 0)


def swept(folder: Path, size: int, trials: int = 12, trained: Trained | None = None) -> tuple[list[Trial], int]:
    """Return the trials of a sweep in groups of a size, and the epochs that they trained for."""
    folder.mkdir(exist_ok=True)
    created(folder, trials)
    run = trained or Trained()
    groups = Groups(run, size, PRUNER, run.epochs)
    logs = folder / "logs"
    return run_sweep(storage(folder), "sweep", measured, 1, logs, launcher=Here(), groups=groups), run.steps


def test_decisions_are_the_same_in_groups_of_any_size(tmp_path: Path) -> None:
    found = {size: swept(tmp_path / str(size), size) for size in (12, 5, 1)}
    for trials, steps in found.values():
        assert [t.state for t in trials].count(State.FINISHED) == 3
        assert steps == 12 + 6 + 2 * 3  # epochs 1, 2, and 3 and 4
    outcomes = [
        [(t.number, t.state, t.stopped_after, t.stopped_because) for t in trials] for trials, _ in found.values()
    ]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert {t.stopped_after for t in found[5][0] if t.state is State.STOPPED} == {1, 2}
    reasons = {t.stopped_because for t in found[5][0] if t.stopped_after == 2}
    assert all(reason.endswith("of 6 trials, 3 go on") for reason in reasons)


def test_failed_trials_are_not_waited_for(tmp_path: Path) -> None:
    trials, _ = swept(tmp_path, 5, trained=Trained(breaks=[0, 7]))
    assert {t.number for t in trials if t.state is State.FAILED} == {0, 7}
    assert [t.state for t in trials].count(State.FINISHED) == 3  # of 10, 5, of which 3


def test_trials_added_later_are_compared_among_themselves(tmp_path: Path) -> None:
    before, _ = swept(tmp_path, 12)
    after, _ = swept(tmp_path, 12, 20)
    assert after[:12] == before
    assert [t.state for t in after[12:]].count(State.FINISHED) == 2


def test_a_trial_waits_for_others_and_goes_on(tmp_path: Path) -> None:
    study = created(tmp_path, 2)
    rungs = Rungs(study, SuccessiveHalving(rungs=[1]), 2)
    first, second = (study.claim() for _ in range(2))
    assert first is not None
    assert second is not None
    one, other = (Progress(study, [claim], rungs) for claim in (first, second))
    assert one.reached(1, {0: {RUNG_RATE: 1.0, "score": 0.5}}) == {0: Next.PAUSE}
    assert one.open == []
    assert study.revive() == 0  # nothing is decided
    assert [t.state for t in study.trials()] == [State.PAUSED, State.RUNNING]
    assert other.reached(1, {1: {RUNG_RATE: 2.0, "score": 0.4}}) == {1: Next.STOP}
    waiting, stopped = Study(storage(tmp_path), "sweep").trials()
    assert (stopped.state, stopped.stopped_after) == (State.STOPPED, 1)
    assert stopped.stopped_because == "front 2 of 2; of 2 trials, 1 go on"
    assert waiting.state is State.PAUSED
    assert study.revive() == 1
    again = study.claim()
    assert again is not None
    assert again.number == 0
    assert Progress(study, [again], rungs).reached(1, {0: {RUNG_RATE: 9.0, "score": 0.0}}) == {0: Next.GO_ON}


def test_a_killed_trial_is_waited_for_until_it_is_given_up(tmp_path: Path) -> None:
    study = created(tmp_path, 3)
    rungs = Rungs(study, SuccessiveHalving(rungs=[1]), 2)
    claims = [claim for claim in (study.claim(f"worker {n}") for n in range(3)) if claim]
    told = {n: {RUNG_RATE: 1.0 + n, "score": 0.5} for n in (0, 1)}
    assert set(Progress(study, claims[:2], rungs).reached(1, told).values()) == {Next.PAUSE}
    study.lose(claims[2])
    rungs.settle()
    assert [t.state for t in study.trials()][:2] == [State.PAUSED] * 2
    rungs.settle(given_up=True)
    assert [t.state for t in study.trials()][:2] == [State.PAUSED, State.STOPPED]


def test_values_of_a_parameter_are_compared_each_by_itself(tmp_path: Path) -> None:
    study = created(tmp_path, 4)
    rungs = Rungs(study, SuccessiveHalving(rungs=[1]), 2, by="x")  # which differs in all
    claims = [claim for claim in iter(study.claim, None)]
    told = {n: {RUNG_RATE: 1.0 + n, "score": 0.5} for n in range(4)}
    assert set(Progress(study, claims, rungs).reached(1, told).values()) == {Next.GO_ON}


def test_halving_takes_two_fifths_of_the_epochs_and_keeps_the_frontier() -> None:
    """On learning curves whose order after an eighth of the epochs is roughly that of the end."""
    random, shares = np.random.default_rng(0), []
    for _ in range(20):
        rates = np.exp(random.uniform(0, 4, 32))
        scores = 1 - np.exp(-rates / 20) * random.uniform(0.6, 1.0, 32)
        left, pruner, epochs, steps = list(range(32)), SuccessiveHalving(), 16, 0
        before = 0
        for epoch in pruner.rungs(epochs):
            steps += len(left) * (epoch - before)
            before = epoch
            noisy = scores + random.normal(0, 0.03 * (1 - epoch / epochs), 32)
            stopped = pruner.stopped({n: Standing(float(rates[n]), float(noisy[n])) for n in left})
            left = [n for n in left if n not in stopped]
        steps += len(left) * (epochs - before)
        assert steps <= 0.4 * 32 * epochs
        points = np.stack([rates, scores], 1)
        shares.append(hypervolume(points[left], 60, 0) / hypervolume(points, 60, 0))
    assert np.mean(shares) > 0.97
