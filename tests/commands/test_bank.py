"""`splitlearn bank` on a small sweep over the embedded digits, and `splitlearn test` of what it has written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from splitlearn.codecs import Huffman
from splitlearn.commands.bank import _is
from splitlearn.config.sweep_trial import ConfigTrial
from splitlearn.deploy import export_bottleneck, load_bank
from splitlearn.models import SplitModel, resnet8, split
from splitlearn.quantizers import MinMax
from splitlearn.sweep import Axes, Space, Study, Trial
from splitlearn.tasks import write_results
from tests.commands.conftest import Run

ROOT = Path(__file__).parents[2]
CONFIGS = ["--config", str(ROOT / "configs/trainer.yaml"), "--config", str(ROOT / "configs/quickstart.yaml")]
SHORT = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.limit_train_batches", "8"]
AXES = Axes("val/bits_per_pixel", "val/accuracy")
SPACE = """
model.model.net.at: {choice: [layer3]}
model.model.bottleneck.channels: {choice: [2, 8, 16]}
model.model.quantizer.step: {uniform: [0.5, 2]}
"""
TRIALS = 3


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep, run in this process."""
    folder = tmp_path_factory.mktemp("sweeps") / "small"
    space = folder / "space.yaml"
    folder.mkdir()
    space.write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        run = ConfigTrial((*CONFIGS, *SHORT), folder, folder.name, folder / "features", "float16", 1)
        study = Study(str(folder / "journal.log"), folder.name)
        study.create(Space.read(space), TRIALS, 0, {"rate": AXES.rate, "score": AXES.score})
        while claim := study.claim():
            study.finish(claim, run(claim.number, claim.values))
        for trial in AXES.frontier(study.trials()):
            study.note_test(trial.number, run.test(trial.number, trial.values, trial.metrics))
    return folder


def frontier_of(sweep: Path) -> list[Trial]:
    return AXES.frontier(Study(str(sweep / "journal.log"), sweep.name).trials())


def words(sweep: Path, out: Path, *more: str) -> list[str]:
    return ["bank", "--sweep", str(sweep), "--out", str(out), *more]


def results_of(folder: Path) -> dict[str, Any]:
    (found,) = folder.rglob("results.json")
    content: dict[str, Any] = json.loads(found.read_text())
    return {name: value for name, value in content.items() if name.startswith("test/")}


@pytest.mark.slow
def test_each_rate_tests_as_its_trial_did(
    sweep: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    out = tmp_path / "out" / "bank.safetensors"
    outcome = run(*words(sweep, out, "--rates", "2", "--where", "model.model.net.at=layer3", "--licence", "MIT"))
    assert outcome.status == 0, outcome.error
    frontier = [frontier_of(sweep)[i] for i in (0, -1)]
    assert frontier[0].number != frontier[1].number
    assert "2 rates of one network of" in outcome.out
    assert "val/accuracy" in outcome.out
    assert "test/accuracy" in outcome.out
    assert "chosen by test images" not in outcome.out
    assert sorted(path.name for path in out.parent.iterdir()) == ["bank.json", "bank.safetensors", "bank.yaml"]
    record = json.loads(out.with_suffix(".json").read_text())
    model = load_bank(out, resnet8(weights=ROOT / "checkpoints/resnet8_digits.safetensors"))
    assert [p.bytes_per_image for p in model.points] == [t.metrics["val/bytes_per_image"] for t in frontier]
    assert [p.score for p in model.points] == [t.metrics["val/accuracy"] for t in frontier]
    assert record["licence"] == "MIT"
    assert [told["trial"] for told in record["config"]["trials"]] == [trial.number for trial in frontier]
    for rate, trial in enumerate(frontier):
        place = ["--trainer.logger.save_dir", str(tmp_path / f"runs{rate}"), "--trainer.accelerator", "cpu"]
        config = [*CONFIGS[:2], "--config", str(out.with_suffix(".yaml"))]
        outcome = run("test", *config, *place, "--model.model.rate", str(rate))
        assert outcome.status == 0, outcome.error
        found = results_of(tmp_path / f"runs{rate}")
        assert found == results_of(sweep / f"trials/{trial.number:03}")
        assert found.items() <= trial.metrics.items()
        assert record["metrics"][f"rate_{rate}/test/accuracy"] == found["test/accuracy"]
        assert record["metrics"][f"rate_{rate}/val/accuracy"] == trial.metrics["val/accuracy"]


@pytest.mark.slow
def test_a_budget_is_a_setting_of_the_config(
    sweep: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    out = tmp_path / "bank.safetensors"
    assert run(*words(sweep, out, "--where", "model.model.net.at=layer3", "--rates", "2")).status == 0
    frontier = frontier_of(sweep)
    place = ["--trainer.logger.save_dir", str(tmp_path / "runs"), "--trainer.accelerator", "cpu"]
    test = ["test", *CONFIGS[:2], "--config", str(out.with_suffix(".yaml")), *place]
    outcome = run(*test, "--model.model.budget", "20")
    assert outcome.status == 1
    assert "in this batch takes" in outcome.error
    assert "over the budget of 20: allow" in outcome.error
    outcome = run(*test, "--model.model.budget", "100000")
    assert outcome.status == 0, outcome.error
    assert results_of(tmp_path / "runs")["test/accuracy"] == frontier[-1].metrics["test/accuracy"]
    outcome = run(*test, "--model.model.budget", "100", "--model.model.rate", "0")
    assert outcome.status != 0
    assert "take a rate or a budget, not both" in outcome.error


def config_with(net: dict[str, Any]) -> dict[str, Any]:
    model = {"init_args": {"model": {"init_args": {"net": net}}}, "class_path": "my.Task"}
    return {"model": model, "data": {}}


def test_a_bank_has_one_cut(tmp_path: Path, run: Run) -> None:
    network, folder, space = resnet8(), tmp_path / "two", tmp_path / "space.yaml"
    space.write_text("model.model.net.at: {choice: [layer2, layer3]}")
    study = Study(str(folder / "journal.log"), folder.name)
    study.create(Space.read(space), 2, 1, {"rate": AXES.rate, "score": AXES.score})
    while claim := study.claim():
        at = str(claim.values["model.model.net.at"])
        metrics = {"val/bytes_per_image": 10.0 + claim.number, "val/accuracy": claim.number / 10}
        trial = folder / f"trials/{claim.number:03}"
        model = SplitModel(split(network, at, (3, 32, 32)), MinMax(4), Huffman())
        export_bottleneck(model, trial / "bottleneck.safetensors", metrics)
        write_results(trial, metrics, config_with({"class_path": "my.net", "init_args": {"model": {}}}))
        study.finish(claim, metrics | {AXES.rate: metrics["val/bytes_per_image"]})
    assert {trial.values["model.model.net.at"] for trial in frontier_of(folder)} == {"layer2", "layer3"}
    outcome = run(*words(folder, tmp_path / "bank.safetensors", "--trust", "true"))
    assert outcome.status == 2
    assert "a bank shares one cut; choose trials, e.g. --where model.model.net.at=layer3" in outcome.error
    for trial in folder.glob("trials/*"):
        write_results(trial, {}, config_with({"class_path": "my.net"}))
    outcome = run(
        *words(folder, tmp_path / "bank.safetensors", "--where", "model.model.net.at=layer3", "--trust", "true")
    )
    assert outcome.status == 1
    assert "names no network at model.model.net.model" in outcome.error
    assert not list(tmp_path.glob("bank*"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--rates", "9"], "--rates must lie in 1…8, since three bits name a payload's rate; got 9"),
        (["--where", "model.model.net.att=layer3"], "has no parameter 'model.model.net.att', did you mean"),
        (["--where", "model.model.net.at=layer1"], "in this sweep model.model.net.at is layer"),
        (["--out", "bank"], "--out is given more than once"),
        (["--name", "other"], "holds no sweep 'other': it holds small"),
        (["--storage", "nowhere.log"], "no sweep at nowhere.log: give the --out of its launch"),
    ],
)
def test_what_makes_no_bank_is_told(sweep: Path, tmp_path: Path, run: Run, more: list[str], message: str) -> None:
    copy = tmp_path / "small"
    copy.mkdir()
    shutil.copy(sweep / "journal.log", copy)
    outcome = run(*words(copy, tmp_path / "bank.safetensors", *more))
    assert outcome.status == 2
    assert message in outcome.error
    assert not list(tmp_path.glob("bank*"))


def test_missing_weights_are_told(sweep: Path, tmp_path: Path, run: Run) -> None:
    copy = tmp_path / "small"
    copy.mkdir()
    shutil.copy(sweep / "journal.log", copy)
    outcome = run(*words(copy, tmp_path / "bank.safetensors", "--where", "model.model.net.at=layer3"))
    assert outcome.status == 2
    assert "bottleneck.safetensors is missing: copy the folder from the machine that ran" in outcome.error
    outcome = run(*words(copy, tmp_path / "bank", "--where", "model.model.net.at=layer3"))
    assert (outcome.status, outcome.error.startswith("--out must be the name of a .safetensors file")) == (2, True)


def test_folders_of_other_trials_are_refused(sweep: Path, tmp_path: Path, run: Run) -> None:
    copy = tmp_path / "small"
    shutil.copytree(sweep, copy)
    first, last = (copy / f"trials/{frontier_of(sweep)[i].number:03}" for i in (0, -1))
    shutil.copy(first / "bottleneck.safetensors", last)
    outcome = run(*words(copy, tmp_path / "bank.safetensors"))
    assert outcome.status == 2
    assert f"{last / 'bottleneck.safetensors'} is of another trial, " in outcome.error
    assert not list(tmp_path.glob("bank*"))


def test_a_sweep_that_has_only_begun_is_told(tmp_path: Path, run: Run) -> None:
    study = Study(str(tmp_path / "begun/journal.log"), "begun")
    path = tmp_path / "space.yaml"
    path.write_text("a: {choice: [1]}")
    study.create(Space.read(path), 1, 0, {"rate": AXES.rate, "score": AXES.score})
    outcome = run(*words(tmp_path / "begun", tmp_path / "bank.safetensors"))
    assert (outcome.status, "begun has finished: continue it with splitlearn sweep" in outcome.error) == (2, True)


def test_numbers_of_where_may_be_written_in_several_ways() -> None:
    assert all(_is(0.001, text) for text in ("0.001", "1e-3", ".001"))
    assert _is(8, "8")
    assert not _is("050", "50")
    assert not _is(0.001, "layer3")
