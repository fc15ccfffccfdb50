"""`splitlearn sweep` and `splitlearn pareto` on the embedded digits."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning import LightningDataModule, Trainer, seed_everything
from PIL import Image

from splitlearn.config.build import task_from
from splitlearn.config.sweep_data import facts_of
from splitlearn.config.sweep_trial import ConfigTrial
from splitlearn.data import ImageFolder
from splitlearn.deploy import load_bottleneck
from splitlearn.deploy.bottleneck_file import read_export
from splitlearn.models import resnet8
from splitlearn.sweep import TPE
from tests.commands.conftest import Run

ROOT = Path(__file__).parents[2]
CONFIG = ["--config", str(ROOT / "configs/trainer.yaml"), "--config", str(ROOT / "configs/quickstart.yaml")]
QUICK = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
SPACE = """
model.model.bottleneck.channels: {choice: [2, 8]}
model.model.bottleneck.stride: {choice: [1, 2]}
model.rate_weight: {log_uniform: [0.03, 1]}
"""
CONDITIONAL = """
model.model.bottleneck.channels: {log_int: [2, 32]}
model.model.quantizer: {choice: [Step, MinMax]}
model.model.quantizer.step: {uniform: [0.5, 4], when: {model.model.quantizer: Step}}
model.model.quantizer.bits: {int: [2, 6], when: {model.model.quantizer: MinMax}}
where: [encoder_macs < 3e4]
"""
SMALL = """
model:
  init_args: {model: {init_args: {net: {init_args: {example: [3, 65, 65], model: {init_args: {weights: null}}}}}}}
data: {init_args: {image_size: 65, val_size: 2}}
"""


class SoonTPE(TPE):
    """Learns from two trials on."""

    def __init__(self) -> None:
        super().__init__(startup=2)


class NothingHeldOut(LightningDataModule):
    """Has no images for validation."""

    def train_dataloader(self) -> Any:
        return []


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> Path:
    monkeypatch.chdir(ROOT)
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return path


def words(space: Path, out: Path, *more: str) -> list[str]:
    cache = ["--cache_dir", str(space.parent / "features")]
    return ["sweep", *CONFIG, *QUICK, "--space", str(space), "--out", str(out), *cache, *more]


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_sweep_leaves_trials_frontier_and_weights(space: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "sweep"
    outcome = run(*words(space, out, "--trials", "2", "--by", "model.model.bottleneck.stride"))
    assert outcome.status == 0, outcome.error
    told = json.loads((out / "pareto.json").read_text())
    assert told["curves"]["all"]["trials"] == 2
    assert 1 <= told["curves"]["all"]["frontier_points"] <= 2
    rows = rows_of(out)
    assert [row["state"] for row in rows] == ["finished"] * 2
    assert (out / "pareto.png").stat().st_size > 0
    weights, chosen = ROOT / "checkpoints/resnet8_digits.safetensors", {p["trial"] for p in told["frontier"]}
    for number, row in enumerate(rows):
        results = json.loads((out / f"trials/{number:03}/results.json").read_text())
        export = out / f"trials/{number:03}/bottleneck.safetensors"
        manifest, _ = read_export(export)
        loaded = load_bottleneck(export, resnet8(weights=str(weights)))
        named = task_from(yaml.safe_load(export.with_suffix(".yaml").read_text())["model"]).model
        image = torch.rand(1, 3, 32, 32)
        assert named.compress(image) == loaded.compress(image)  # type: ignore[operator, union-attr]
        assert (row["test/accuracy"] != "") == (number in chosen)
        for name, images in (("val/accuracy", 300), *([("test/accuracy", 297)] if number in chosen else [])):
            assert results[name] == manifest["metrics"][name] == float(row[name])
            right = images * float(row[name])
            assert right == pytest.approx(round(right), abs=1e-3)  # of these images, and of all of them


@pytest.mark.slow
def test_a_sweep_is_lengthened_and_not_repeated(space: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "sweep"
    assert run(*words(space, out, "--trials", "2")).status == 0
    finished = (out / "trials/000/results.json").stat().st_mtime_ns
    assert run(*words(space, out, "--trials", "3")).status == 0
    assert (out / "trials/000/results.json").stat().st_mtime_ns == finished  # not run again
    assert len(rows_of(out)) == 3

    shown = run("pareto", "--out", str(out), "--at", "0.1,1", "--baseline", str(out / "trials.csv"))
    assert (shown.status, "not reached" in shown.out, "+0.0 %" in shown.out) == (0, True, True)
    told = json.loads((out / "pareto.json").read_text())
    assert set(told["curves"]["all"]["rate_at"]) == {"0.1", "1"}
    outcome = run(*words(space, out, "--trials", "3", "--seed", "1"))
    assert (outcome.status, "with another seed: launch it as it was begun" in outcome.error) == (2, True)
    outcome = run(*words(space, out, "--trials", "3", "--model.num_classes", "11"))
    assert (outcome.status, "with another config (model.num_classes): launch it" in outcome.error) == (2, True)


def test_data_tell_themselves_from_others_wherever_they_lie(tmp_path: Path) -> None:
    for root, names in (("a", "xyz"), ("b", "xyz"), ("c", "xyw")):
        for part in ("train", "test"):
            for number, name in enumerate(names):
                file = tmp_path / root / part / "cat" / f"{name}{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8)).save(file)
    one, same, other = (facts_of(ImageFolder(tmp_path / root, 8, val_size=1)) for root in "abc")
    assert one == same != other
    assert one is not None
    assert (one["train"], one["val"], one["test"], one["classes"]) == (2, 1, 3, ["cat"])
    assert one["test_files"] == ["x0.png", "z2.png"]
    assert facts_of(NothingHeldOut()) is None


@pytest.mark.slow
def test_cached_features_train_the_same(space: Path, tmp_path: Path) -> None:
    values = {"model.model.bottleneck.channels": 4, "model.rate_weight": 0.3}
    found = []
    for features in (None, tmp_path / "features"):
        trial = ConfigTrial((*CONFIG, *QUICK), tmp_path / str(features is None), "sweep", features, "float32", 1)
        seed_everything(0, verbose=False)
        task, data = trial.build(values)
        data.train_transform = None
        trainer = Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
        )
        seed_everything(0, verbose=False)
        chosen = trial.data_of(task.model, data)
        if features is not None:
            chosen.seed = None  # the order of image loaders
        seed_everything(0, verbose=False)
        trainer.fit(task, chosen)
        trainer.test(task, chosen, verbose=False)
        model: Any = task.model
        found.append(({n: float(v) for n, v in trainer.callback_metrics.items()}, model.coder.bottlenecks.state_dict()))
    (without, weights), (cached, its_weights) = found
    assert cached == pytest.approx(without, abs=1e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(its_weights[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("model.model.bottleneck.chanels: {choice: [2]}", [], "chanels"),
        ("model.rate_weight: {uniform: [1, 0]}", [], "a range goes from a number to a larger one"),
        (SPACE, ["--by", "model.rate_wight"], "--by model.rate_wight is no parameter of"),
        (SPACE, ["--cache", "float8"], "--cache has no 'float8', did you mean"),
        (
            "model.model.quantizer.step: {choice: [1.0e+38]}",
            ["--trials", "2"],
            "none of the points drawn can be built: step must be positive",
        ),
        (
            SPACE,
            ["--score", "val/miou"],
            "--score val/miou is not measured by ClassificationTask; it measures val/acc",
        ),
        (
            SPACE,
            ["--score", "test/accuracy"],
            "would select by test images, which biases their results: use val",
        ),
        (SPACE, ["--rate", "test/bytes_per_image"], "use val/bytes_per_image; the frontier is tested at"),
        (SPACE, ["--data.val_size", "0", "--trials", "1"], "batch_size and val_size must be at least 1"),
        (
            SPACE,
            ["--data", "tests.commands.test_sweep_command.NothingHeldOut"],
            "NothingHeldOut has no validation images",
        ),
        (SPACE, ["--trials", "0"], "must be at least 1, and --seed at least 0; got 0"),
        (SPACE, ["--storage", "postgresql+psycopg://localhost:1/none"], "cannot be used"),
        (SPACE, ["--launcher", "Rayy"], "--launcher has no 'Rayy', did you mean Ray?; it takes Processes, Ray"),
        (
            SPACE,
            ["--launcher", "splitlearn.codecs.Raw"],
            "derived from splitlearn.sweep.Launcher, got splitlearn",
        ),
        (SPACE, ["--sampler", "sobl"], "--sampler has no 'sobl', did you mean Sobol?; it takes TPE, Random, Sobol"),
        (SPACE, ["--sampler", "splitlearn.codecs.Raw"], "derived from splitlearn.sweep.Sampler, got splitlearn"),
        (
            SPACE + "where: [parameters < 100]",
            [],
            "none of 100 points drawn meets parameters < 100 (parameters is ",
        ),
        (
            SPACE + "where: device_mac < 5e6",
            [],
            "where: device_mac < 5e6 names device_mac, no number of the model, did you mean device_macs?; it has",
        ),
        (SPACE + "where: [device_macs & 5e6]", [], "where takes conditions such as device_macs < 5e6"),
        ("a: {choice: [1]}\nb: {int: [1, 2], when: {a: 2}}", [], "b: its when asks for a 2, which is never drawn"),
        (SPACE, ["--cpus", "0"], "--launcher processes cannot be made: a worker takes 1 CPU or more"),
        (SPACE, ["--trainer.num_nodes", "2"], "a trial runs on one machine, several share the sweep"),
        (SPACE, ["--trainer.strategy", "ddp_spawn"], "started as commands, not forked: use --trainer.strategy ddp"),
        (SPACE, ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/map"], "set its mode to max"),
    ],
)
def test_what_cannot_be_swept_is_told(
    space: Path, tmp_path: Path, run: Run, text: str, more: list[str], message: str
) -> None:
    space.write_text(text)
    outcome = run(*words(space, tmp_path / "out", *more))
    assert outcome.status == 2
    assert message in outcome.error
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_sweep_learns_from_its_trials(space: Path, tmp_path: Path, run: Run) -> None:
    space.write_text(CONDITIONAL)
    out = tmp_path / "sweep"
    outcome = run(*words(space, out, "--trials", "4", "--sampler", "tests.commands.test_sweep_command.SoonTPE"))
    assert outcome.status == 0, outcome.error
    rows = rows_of(out)
    assert [(row["trial"], row["state"]) for row in rows] == [(str(number), "finished") for number in range(4)]
    step, bits = "model.model.quantizer.step", "model.model.quantizer.bits"
    for number, row in enumerate(rows):
        config = yaml.safe_load((out / f"trials/{number:03}/config.yaml").read_text())
        quantizer = config["model"]["init_args"]["model"]["init_args"]["quantizer"]
        name = row["model.model.quantizer"]
        assert quantizer["class_path"].endswith(f".{name}")
        assert (row[step] != "", row[bits] != "") == (name == "Step", name == "MinMax")
        assert float(row[step] or row[bits]) == quantizer["init_args"]["step" if name == "Step" else "bits"]
        assert float(row["bottleneck/encoder_macs"]) < 30_000
    shown = run("pareto", "--out", str(out), "--html", "--by", "model.model.quantizer")
    assert (shown.status, (out / "pareto.html").is_file()) == (0, True)
    assert "–" in shown.out
    alone = run("pareto", "--out", str(out), "--beside", str(out))
    assert (alone.status, alone.error) == (2, "--beside is for the page: add --html true")
    refused = run("pareto", "--out", str(out), "--html", "--beside", str(tmp_path))
    assert (refused.status, refused.error.startswith("no sweep at")) == (2, True)


@pytest.mark.slow
def test_a_trial_that_cannot_be_trained_is_recorded(space: Path, tmp_path: Path, run: Run) -> None:
    space.write_text("model.model.quantizer.step: {choice: [1.0, 1.0e+38]}")
    out = tmp_path / "out"
    outcome = run(*words(space, out, "--trials", "3", "--seed", "2"))
    rows = rows_of(out)
    states = {row["state"] for row in rows}
    assert states == {"finished", "failed"}, outcome.error
    assert all("step" in row["error"] for row in rows if row["state"] == "failed")


@pytest.mark.slow
def test_a_sweep_over_deeplab(mask_folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The config and the space of Datta et al. 2022 for segmentation, with random weights and on small images."""
    monkeypatch.chdir(ROOT)
    config = ROOT / "configs/datta2022/deeplabv3_resnet50.yaml"
    space = ROOT / "configs/spaces/datta2022_segmentation.yaml"
    small = tmp_path / "small.yaml"
    small.write_text(SMALL)
    outcome = run(
        *["sweep", "--config", str(ROOT / "configs/trainer.yaml"), "--config", str(config), "--config", str(small)],
        *[*QUICK, "--data.root", str(mask_folder)],
        *["--space", str(space), "--trials", "2", "--score", "val/miou", "--views", "2"],
        *["--cache_dir", str(tmp_path / "features"), "--out", str(tmp_path / "out")],
    )
    assert outcome.status == 0, outcome.error
    rows = rows_of(tmp_path / "out")
    assert [row["state"] for row in rows] == ["finished"] * 2
    assert all(0 <= float(row["val/miou"]) <= 1 for row in rows)
    assert list((tmp_path / "features").iterdir())  # one for each trial, since random weights are a trial's own


@pytest.mark.slow
def test_every_trial_is_a_run_of_wandb_in_the_sweeps_group(
    space: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = pytest.importorskip("wandb.proto.wandb_internal_pb2", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "our_group"
    assert run(*words(space, out, "--trials", "2", "--trainer.logger", "WandbLogger")).status == 0
    group = bytes([proto.RunRecord.RUN_GROUP_FIELD_NUMBER << 3 | 2, len(out.name)]) + out.name.encode()
    for trial in ("000", "001"):
        (record,) = (out / "trials" / trial).glob("wandb/offline-run-*/run-*.wandb")
        content = record.read_bytes()
        assert group in content
        assert f"our_group-{trial}".encode() in content
        assert b"val/bytes_per_image" in content


def test_pareto_needs_a_sweep(tmp_path: Path, run: Run) -> None:
    outcome = run("pareto", "--out", str(tmp_path))
    assert (outcome.status, outcome.error.startswith("no sweep at")) == (2, True)
