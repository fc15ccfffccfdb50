"""What a sweep makes of test images: nothing while it chooses, one test each of what it has chosen."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from splitlearn.config.build import settings_of
from splitlearn.config.sweep_trial import ConfigTrial
from splitlearn.data import Digits
from splitlearn.data.base import Batch
from splitlearn.deploy import load_bottleneck
from splitlearn.deploy.bottleneck_file import read_export
from splitlearn.models import resnet8
from splitlearn.sweep import Axes, Space, State, Study, Trial
from splitlearn.sweep.distributions import Value
from tests.commands.conftest import Run
from tests.commands.test_bank import CONFIGS, ROOT, SHORT, SPACE, TRIALS

AXES = Axes("val/bits_per_pixel", "val/accuracy")
WORDS = (*CONFIGS, *SHORT)
FEW = (
    *("--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1", "--trainer.limit_test_batches", "1"),
    *("--data.batch_size", "8"),
)


class Unlooked(Digits):
    """Test images that nobody is to look at."""

    def load_test(self) -> Dataset[Batch]:
        raise AssertionError("test images were looked at")


class HeldOutTwice(Digits):
    """Validation images that are the test images too."""

    def load_train(self) -> tuple[Dataset[Batch], Dataset[Batch]]:
        train, _ = super().load_train()
        return train, self.load_test()


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep's folder whose trials were run in this process, and nothing tested."""
    folder = tmp_path_factory.mktemp("sweeps")
    (folder / "space.yaml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        study = study_in(folder)
        settings = {"config": settings_of(WORDS), "rate": AXES.rate, "score": AXES.score, "cache": "none", "views": 1}
        study.create(Space.read(folder / "space.yaml"), TRIALS, 0, settings)
        trial = ConfigTrial(WORDS, folder / "out", "out", None, "none", 1)
        while claim := study.claim():
            study.finish(claim, trial(claim.number, claim.values))
    return folder


@pytest.fixture
def folder(trials: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(ROOT)
    return Path(shutil.copytree(trials, tmp_path / "copy"))


def study_in(folder: Path) -> Study:
    return Study(str(folder / "out/journal.log"), "out")


def frontier_in(folder: Path) -> list[int]:
    return [trial.number for trial in AXES.frontier(study_in(folder).trials())]


def numbers_with_a_test(folder: Path) -> list[int]:
    return [trial.number for trial in study_in(folder).trials() if "test/accuracy" in trial.metrics]


def launch(folder: Path, trials: int = TRIALS) -> list[str]:
    place = ["--space", str(folder / "space.yaml"), "--out", str(folder / "out")]
    return ["sweep", *WORDS, *place, "--trials", str(trials), "--cache", "none"]


def rows(path: Path) -> dict[int, dict[str, str]]:
    with path.open() as file:
        return {int(row["trial"]): row for row in csv.DictReader(file)}


def test_a_trial_measures_real_bytes_of_held_out_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    few = ("--trainer.limit_val_batches", "1", "--data", f"{__name__}.Unlooked")
    trial = ConfigTrial((*WORDS, *few), tmp_path, "out", None, "none", 1)
    metrics = trial(0, {})
    assert not [name for name in metrics if name.startswith("test/")]
    assert metrics["val/bytes_per_image"] * 8 / 1024 == pytest.approx(metrics["val/bits_per_pixel"])
    for name in ("val/accuracy", "val/bytes_per_image"):
        assert 300 * metrics[name] == pytest.approx(round(300 * metrics[name]), abs=0.05)  # of all that are held out
    assert metrics["val/bytes_per_image"] != pytest.approx(metrics["val/estimated_bits"] / 8, rel=1e-3)
    assert trial.is_here(0)


@pytest.mark.slow
def test_what_is_chosen_is_tested_once(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert numbers_with_a_test(folder) == []
    frontier, test, calls = frontier_in(folder), ConfigTrial.test, []
    assert len(frontier) > 1, "a kill between two tests needs two"

    def stopped(
        trial: ConfigTrial, number: int, values: Mapping[str, Value], metrics: Mapping[str, float]
    ) -> dict[str, float]:
        calls.append(number)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return test(trial, number, values, metrics)

    monkeypatch.setattr(ConfigTrial, "test", stopped)
    assert run(*launch(folder)).status != 0
    assert numbers_with_a_test(folder) == calls[:1]
    assert run(*launch(folder)).status == 0
    assert sorted(calls) == sorted([*frontier, calls[1]])  # the one that was stopped, once more
    assert sorted(numbers_with_a_test(folder)) == sorted(frontier)
    assert run(*launch(folder)).status == 0
    assert len(calls) == len(frontier) + 1

    for number, row in rows(folder / "out/trials.csv").items():
        results = json.loads((folder / f"out/trials/{number:03}/results.json").read_text())
        manifest, _ = read_export(folder / f"out/trials/{number:03}/bottleneck.safetensors")
        assert (row["test/accuracy"] != "") == (number in frontier)
        for name in ("test/accuracy", "test/bytes_per_image", "val/accuracy", "val/bytes_per_image"):
            assert results.get(name) == manifest["metrics"].get(name) == (float(row[name]) if row[name] else None)
    told = json.loads((folder / "out/pareto.json").read_text())
    assert all("test/accuracy" in point and "val/accuracy" in point for point in told["frontier"])
    assert "test images, which choose nothing" in told["about"]


@pytest.mark.parametrize("kind", ["bottleneck", pytest.param("whole", marks=pytest.mark.slow)])
def test_a_test_is_that_of_the_trained_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Loaded anew, whatever trains, it measures on the same images what the trial has measured."""
    monkeypatch.chdir(ROOT)
    whole = ("--model.model", "splitlearn.models.UnfrozenSplitModel", "--model.distillation", "null")
    more = (*FEW, *(whole if kind == "whole" else ()), "--data", f"{__name__}.HeldOutTwice")
    trial = ConfigTrial((*WORDS, *more), tmp_path, "out", None, "none", 1)
    metrics = trial(0, {})
    found = trial.test(0, {}, metrics)
    assert found == {name: metrics[name.replace("test/", "val/")] for name in found}
    assert (tmp_path / "trials/000/bottleneck.safetensors").is_file() == (kind == "bottleneck")


@pytest.mark.slow
def test_a_trial_that_casts_its_network_ends_as_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights and its export are for the network as its settings build it."""
    monkeypatch.chdir(ROOT)
    more = (*FEW, "--trainer.precision", "bf16-true", "--data", f"{__name__}.HeldOutTwice")
    trial = ConfigTrial((*WORDS, *more), tmp_path, "out", None, "none", 1)
    metrics = trial(0, {})
    export = tmp_path / "trials/000/bottleneck.safetensors"
    first = load_bottleneck(export, resnet8(weights=str(ROOT / "checkpoints/resnet8_digits.safetensors")))
    found = trial.test(0, {}, metrics)
    assert found == {name: metrics[name.replace("test/", "val/")] for name in found}
    second = load_bottleneck(export, resnet8(weights=str(ROOT / "checkpoints/resnet8_digits.safetensors")))
    images = torch.rand(4, 3, 32, 32)
    assert first.compress(images) == second.compress(images)


@pytest.mark.slow
def test_what_was_run_elsewhere_is_named(folder: Path, run: Run) -> None:
    frontier = frontier_in(folder)
    (folder / f"out/trials/{frontier[0]:03}/trained.ckpt").unlink()
    outcome = run(*launch(folder))
    assert outcome.status == 0, outcome.error
    assert f"out/trials/{frontier[0]:03} are on other machines: launch again there" in outcome.out
    assert sorted(numbers_with_a_test(folder)) == sorted(frontier[1:])


@pytest.mark.slow
def test_nothing_is_tested_while_a_trial_is_left(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = study_in(folder).trials()
    left = [replace(first, state=State.RUNNING, metrics={}), *others]
    monkeypatch.setattr("splitlearn.sweep.run_sweep", lambda *_: left)
    outcome = run(*launch(folder))
    assert "1 trials run on other machines: the launch that ends last tests the frontier" in outcome.out
    assert numbers_with_a_test(folder) == []


@pytest.mark.slow
def test_a_trial_that_lacks_memory_keeps_no_other_from_its_test(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object) -> list[Trial]:
        study = study_in(folder)
        study.revive()
        while claim := study.claim():
            study.fail(claim, "RuntimeError: out of memory")
        return study.trials()

    monkeypatch.setattr("splitlearn.sweep.run_sweep", short)
    longer = launch(folder, TRIALS + 1)
    for _ in range(2):
        assert run(*longer).error == (
            f"1 of {TRIALS + 1} trials lacked disk or memory (RuntimeError: out of memory): make room, and launch the "
            "same command again, which runs only these"
        )
        assert sorted(numbers_with_a_test(folder)) == sorted(frontier_in(folder))
    assert run(*longer).status == 0
    assert rows(folder / "out/trials.csv")[TRIALS]["error"] == "RuntimeError: out of memory"


def test_a_sweep_of_before_still_loads(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trials have figures of test images alone."""
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text("x: {choice: [1]}")
    study = Study("out/journal.log", "out")
    study.create(Space.read(Path("space.yaml")), 2, 0, {"rate": "test/bits_per_pixel", "score": "test/accuracy"})
    while claim := study.claim():
        study.finish(claim, {"test/bits_per_pixel": 1.0 + claim.number, "test/accuracy": 0.5 + claim.number / 4})
    outcome = run("pareto", "--out", "out")
    assert outcome.status == 0, outcome.error
    assert "this frontier was chosen by test images, so its figures are better than new images" in outcome.out
    assert len(rows(Path("out/frontier.csv"))) == 2
    assert "chosen by test images" in json.loads(Path("out/pareto.json").read_text())["about"]
    outcome = run("bank", "--sweep", "out", "--out", "bank.safetensors")
    assert "bottleneck.safetensors is missing" in outcome.error
