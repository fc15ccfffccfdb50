"""Trials that train together: each as it would alone, and as a fit with its config does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from splitlearn.config.sweep_group import STATE, GroupedTrials, largest_group, obstacles_of
from splitlearn.config.sweep_trial import ConfigTrial
from splitlearn.sweep import LogUniform, Progress, Space, State, Study, Uniform
from splitlearn.sweep.distributions import Value
from splitlearn.sweep.pruners import NoPruner, SuccessiveHalving
from splitlearn.sweep.rungs import Rungs
from splitlearn.sweep.seeds import seed_of_point
from splitlearn.tasks import ClassificationTask

ROOT = Path(__file__).parents[2]
WORDS = (
    *("--config", "configs/trainer.yaml", "--config", "configs/quickstart.yaml"),
    *("--trainer.accelerator", "cpu", "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "4"),
    *("--data.val_size", "60"),
)
SPACE = Space({"model.model.quantizer.step": Uniform(0.5, 2), "model.rate_weight": LogUniform(0.03, 1)})
SEED = 3
Points = dict[int, Mapping[str, Value]]


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(ROOT)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


def trial_in(folder: Path, features: Path, *more: str) -> ConfigTrial:
    return ConfigTrial((*WORDS, *more), folder / "sweep", "sweep", features, "float16", 1, SEED)


def in_a_group(folder: Path, trial: ConfigTrial, points: Points) -> Study:
    """Run points together, as a worker does."""
    study = Study(str(folder / "journal.log"), "sweep")
    study.create(SPACE, 9, SEED, {"rate": "val/bits_per_pixel", "score": "val/accuracy"})
    claims = [claim for claim in iter(study.claim, None) if claim.number in points]
    GroupedTrials(trial)(points, Progress(study, claims, Rungs(study, NoPruner(), 2)))
    return study


def points_of(*numbers: int) -> Points:
    return {number: SPACE.point(SEED, number) for number in numbers}


def weights_of(trial: ConfigTrial, number: int) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(trial.folder(number) / "trained.ckpt", weights_only=True)["state_dict"]
    return {name: entry for name, entry in state.items() if isinstance(entry, Tensor)}


def check_same_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert expected
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


NOISY = "tests.config.test_sweep_group.NoisyTask"
DIVERGING = "tests.config.test_sweep_group.DivergingTask"


class NoisyTask(ClassificationTask):
    """Draws random numbers at every step, more for some points than for others."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        draws = torch.rand(1 + int(10 * self.rate_weight))
        return super().training_step(batch, batch_idx) * (0.5 + draws.mean())


class DivergingTask(ClassificationTask):
    """Raises an error in the second epoch where rate_weight is below a fifth."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.rate_weight < 0.2 and self.current_epoch == 1:
            raise ArithmeticError("the loss is infinite")
        return super().training_step(batch, batch_idx)


MORE = [
    pytest.param((), id="plain"),
    pytest.param(("--model", NOISY), id="noise", marks=pytest.mark.slow),
    pytest.param(
        ("--trainer.gradient_clip_val", "0.01", "--trainer.callbacks+=ChannelsLast"),
        id="clipped",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        ("--model.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau", "--model.lr_scheduler.patience", "0"),
        id="plateau",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        ("--model.lr_scheduler", "torch.optim.lr_scheduler.StepLR", "--model.lr_scheduler.step_size", "1"),
        id="epochs",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize("more", MORE)
def test_a_trial_of_a_group_is_the_trial_alone(tmp_path: Path, features: Path, more: tuple[str, ...]) -> None:
    together, alone = trial_in(tmp_path / "together", features, *more), trial_in(tmp_path / "alone", features, *more)
    points = points_of(0, 1)
    trials = in_a_group(tmp_path, together, points).trials()
    for number, values in points.items():
        metrics = alone(number, values)
        assert trials[number].state is State.FINISHED, trials[number].error
        assert trials[number].metrics == metrics
        check_same_weights(weights_of(together, number), weights_of(alone, number))
        logs = [(each.folder(number) / "log/metrics.csv").read_text() for each in (together, alone)]
        assert logs[0] == logs[1]
        assert not (together.folder(number) / STATE).exists()
    first = [weights_of(together, number)["model.coder.bottlenecks.0.encoder.0.weight"] for number in points]
    assert not torch.equal(first[0], first[1])


@pytest.mark.slow
def test_a_diverging_trial_ends_alone(tmp_path: Path, features: Path) -> None:
    trial = trial_in(tmp_path, features, "--model", DIVERGING)
    points = points_of(0, 1, 2, 3, 4)
    broken = {number for number, values in points.items() if float(values["model.rate_weight"]) < 0.2}
    assert 0 < len(broken) < 5
    trials = in_a_group(tmp_path, trial, points).trials()[:5]
    assert {t.number for t in trials if t.state is State.FAILED} == broken
    assert {t.error for t in trials if t.number in broken} == {"ArithmeticError: the loss is infinite"}
    assert {t.state for t in trials if t.number not in broken} == {State.FINISHED}
    whole = next(number for number in points if number not in broken)
    alone = trial_in(tmp_path / "alone", features, "--model", DIVERGING)
    assert trials[whole].metrics == alone(whole, points[whole])


class Killed(BaseException):
    """Ends a process, as far as a test can."""


@pytest.mark.slow
def test_a_kill_loses_an_epoch_at_most(tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = points_of(0, 1)
    killed, whole = trial_in(tmp_path / "killed", features), trial_in(tmp_path / "whole", features)
    (tmp_path / "whole").mkdir()
    expected = in_a_group(tmp_path / "whole", whole, points).trials()
    epochs: list[int] = []
    start = ClassificationTask.training_step

    def step(task: ClassificationTask, batch: Any, batch_idx: int) -> Tensor:
        epochs.append(task.current_epoch)
        if task.current_epoch == 1 and batch_idx == 2 and len(epochs) < 100:
            raise Killed
        return start(task, batch, batch_idx)

    monkeypatch.setattr(ClassificationTask, "training_step", step)
    study = Study(str(tmp_path / "journal.log"), "sweep")
    study.create(SPACE, 2, SEED, {"rate": "val/bits_per_pixel", "score": "val/accuracy"})
    claims = [claim for claim in (study.claim("first"), study.claim("first")) if claim]
    with pytest.raises(Killed):
        GroupedTrials(killed)(points, Progress(study, claims, Rungs(study, NoPruner(), 2)))
    assert (killed.folder(0) / STATE).is_file()
    assert study.revive({"first"}) == 2
    epochs += [0] * 100
    before = len(epochs)
    found = in_a_group(tmp_path, killed, points).trials()
    assert set(epochs[before:]) == {1}
    for number in points:
        assert found[number].metrics == expected[number].metrics
        check_same_weights(weights_of(killed, number), weights_of(whole, number))


@pytest.mark.slow
def test_a_paused_trial_goes_on_where_it_was(tmp_path: Path, features: Path) -> None:
    trial, alone = trial_in(tmp_path, features), trial_in(tmp_path / "alone", features)
    study = Study(str(tmp_path / "journal.log"), "sweep")
    study.create(SPACE, 3, SEED, {"rate": "val/bits_per_pixel", "score": "val/accuracy"})
    rungs = Rungs(study, SuccessiveHalving(rungs=[1], keep=0.7), 2)

    def run(count: int) -> None:
        claims = [claim for claim in (study.claim() for _ in range(count)) if claim]
        GroupedTrials(trial)({claim.number: claim.values for claim in claims}, Progress(study, claims, rungs))

    run(2)
    assert [t.state for t in study.trials()] == [State.PAUSED, State.PAUSED, State.WAITING]
    assert study.revive() == 0
    run(1)
    study.revive()
    run(2)
    trials = study.trials()
    assert sorted(t.state.value for t in trials) == ["finished", "finished", "stopped"]
    (stopped,) = [t for t in trials if t.state is State.STOPPED]
    assert (stopped.stopped_after, stopped.stopped_because.endswith("of 3 trials, 2 go on")) == (1, True)
    first = min(t.number for t in trials if t.state is State.FINISHED)
    assert first in (0, 1)  # which waited
    assert trials[first].metrics == alone(first, trials[first].values)


def test_a_group_too_large_for_memory_is_halved(
    tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    start = Trainer.fit
    sizes: list[int] = []

    def fit(trainer: Trainer, model: Any, data: Any) -> None:
        sizes.append(len(model.members))
        if sizes[-1] > 2:
            raise MemoryError("no room")
        start(trainer, model, data)

    monkeypatch.setattr(Trainer, "fit", fit)
    trials = in_a_group(tmp_path, trial_in(tmp_path, features), points_of(0, 1, 2)).trials()
    assert {t.state for t in trials[:3]} == {State.FINISHED}
    assert sizes == [3, 1, 2]
    said = "a group of 3 trials is too large for the memory (MemoryError: no room): it goes on as two of 2 or fewer"
    assert said in capfd.readouterr().out


def test_trials_of_other_cuts_or_batches_form_groups_of_their_own(
    tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_in(tmp_path, features, "--trainer.max_epochs", "1")
    groups: list[list[int]] = []
    monkeypatch.setattr(GroupedTrials, "_run", lambda self, group, progress: groups.append([m.number for m in group]))
    cut, size = "model.model.net.at", "data.batch_size"
    points: Points = {0: {cut: "layer2"}, 1: {cut: "layer3"}, 2: {size: 33}, 3: {cut: "layer3"}}
    GroupedTrials(trial)(points, Progress(None, [], None))  # type: ignore[arg-type]
    assert groups == [[0], [1, 3], [2]]


class OfItsLoop(Callback):
    """May do anything."""


def test_what_needs_a_loop_of_its_own_is_named(tmp_path: Path, features: Path) -> None:
    values = SPACE.point(SEED, 0)
    task, _ = trial_in(tmp_path, features).build(values)

    def found(*more: str) -> list[str]:
        return obstacles_of(trial_in(tmp_path, features, *more), values, task)

    assert found() == []
    assert found("--trainer.callbacks+=tests.config.test_sweep_group.OfItsLoop") == ["OfItsLoop"]
    many = found("--trainer.accumulate_grad_batches", "2", "--trainer.max_steps", "9")
    assert many == ["trainer.max_steps", "trainer.accumulate_grad_batches"]
    assert found("--trainer.devices", "2", "--trainer.strategy", "ddp") == ["trainer.strategy"]
    task.automatic_optimization = False
    assert found() == ["the manual optimization of ClassificationTask"]


def test_groups_are_as_large_as_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    task: LightningModule = LightningModule()
    task.weight = torch.nn.Parameter(torch.zeros(250_000))  # a million bytes, four with gradients and moments
    monkeypatch.setattr("splitlearn.config.sweep_group._free_bytes", lambda: 80_000_000)
    assert [largest_group(task, workers) for workers in (1, 2, 1000)] == [10, 5, 1]


def test_seeds_of_points_differ() -> None:
    seeds = {seed_of_point(seed, number) for seed in range(4) for number in range(50)}
    assert len(seeds) == 200
    assert seed_of_point(0, 0) == seed_of_point(0, 0)
