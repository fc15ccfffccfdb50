"""Whole runs: train, be killed, go on, test, export, profile, log."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from splitlearn.config.loading import load_task
from splitlearn.deploy import export_network, load_bottleneck, read_export
from splitlearn.models import SplitModel
from tests.commands.conftest import SMALL, Run, run_in
from tests.networks import digits, network

CHECKPOINTS = Path("runs/small/version_0/checkpoints")


def epoch_of(path: Path) -> int:
    epoch: int = torch.load(path, weights_only=True)["epoch"]
    return epoch


def metrics(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def test_fit_test_export(fit: Run, run: Run) -> None:
    assert fit("--trainer.callbacks", "splitlearn.tasks.StaticTables").status == 0
    assert {p.name for p in CHECKPOINTS.iterdir()} == {"best.ckpt", "last.ckpt"}
    assert Path("runs/small/version_0/config.yaml").is_file()

    outcome = run("test", "--config", "small.yaml", "--ckpt_path", "last")
    assert outcome.status == 0
    results = Path("runs/small/version_1/results.json")
    assert f"results: {results}" in outcome.out
    record: dict[str, Any] = json.loads(results.read_text())
    assert record.keys() >= {"test/accuracy", "test/accuracy_top5", "test/bytes_per_image", "test/bits_per_pixel"}
    assert record["test/bits_per_pixel"] == pytest.approx(8 * record["test/bytes_per_image"] / 1024)
    assert record["versions"]["torch"] == version("torch")
    assert record["config"]["test"]["data"]["init_args"]["batch_size"] == 16
    assert record["command"] == "splitlearn test --config small.yaml --ckpt_path last"

    task = load_task(CHECKPOINTS / "last.ckpt")
    model = task.model
    assert isinstance(model, SplitModel)
    assert not task.training
    payloads = model.compress(digits(32))
    assert record["test/bytes_per_image"] == pytest.approx(sum(map(len, payloads)) / 32)

    words = ("export", "--ckpt_path", str(CHECKPOINTS / "last.ckpt"), "--out", "exported")
    refused = run(*words, "--results", str(results))
    assert "is of a part of the test images, by trainer.limit_test_batches: without that, test" in refused.error
    whole = ("test", "--config", "small.yaml", "--ckpt_path", "last", "--trainer.limit_test_batches", "null")
    assert run(*whole).status == 0
    results = Path("runs/small/version_2/results.json")
    record = json.loads(results.read_text())
    outcome = run(*words, "--results", str(results))
    assert outcome.status == 0
    path = Path("exported/bottleneck.safetensors")
    assert str(path) in outcome.out
    manifest, tensors = read_export(path)
    assert manifest["metrics"] == {k: v for k, v in record.items() if k.startswith("test/")}
    assert "codecs.0.lengths" in tensors
    assert manifest["bottlenecks"][0]["init_args"]["channels"] == 8

    other = run(*whole, "--model.model.quantizer.step", "0.25")
    assert other.status == 0, other.err
    refused = run(*words, "--results", "runs/small/version_3/results.json")
    assert "was measured with another quantizer of the model than" in refused.error
    assert run("test", "--config", "small.yaml").status == 0
    refused = run(*words, "--results", "runs/small/version_4/results.json")
    assert "version_4/results.json is of another checkpoint than" in refused.error
    Path("edited.json").write_text(results.read_text().replace('"step": 0.5', '"step": 0.7'))
    assert (
        "edited.json was changed or written by an earlier splitlearn" in run(*words, "--results", "edited.json").error
    )
    Path("empty.json").write_text("{}")
    assert run(*words, "--results", "empty.json").error.startswith("empty.json holds no test metrics")
    assert run(*words, "--results", "none.json").error.startswith("no results at none.json")


@pytest.mark.slow
def test_an_exported_bottleneck_goes_on_working(fit: Run, run: Run) -> None:
    """With the backbone's weights in a file, as in every real use."""
    weights = export_network(network(), "backbone.safetensors")
    assert fit("--model.model.net.model.weights", str(weights)).status == 0
    assert run("export", "--ckpt_path", str(CHECKPOINTS / "best.ckpt"), "--out", "exported").status == 0
    other = export_network(network(1), "other.safetensors")
    words = ["test", "--config", "small.yaml", "--ckpt_path", "last"]
    refused = run(*words, "--model.model.net.model.weights", str(other))
    assert "has other weights than other.safetensors in the config, and would replace them" in refused.error
    assert run(*words, "--model.model.net.model.weights", str(weights)).status == 0
    loaded = load_bottleneck("exported/bottleneck.safetensors", network())
    trained = load_task(CHECKPOINTS / "best.ckpt").model
    assert isinstance(trained, SplitModel)
    assert loaded.compress(digits(3)) == trained.compress(digits(3))

    argument = ["--model.model=splitlearn.deploy.load_bottleneck", "--model.model.path=exported/bottleneck.safetensors"]
    argument += ["--model.model.backbone=splitlearn.models.resnet20", f"--model.model.backbone.weights={weights}"]
    outcome = run("test", "--config", "small.yaml", *argument)
    assert outcome.status == 0, outcome.err
    record = json.loads(next(Path("runs/small").glob("version_2/results.json")).read_text())
    sizes = [len(payload) for payload in trained.compress(digits(32))]
    assert record["test/bytes_per_image"] == pytest.approx(sum(sizes) / 32)


@pytest.mark.slow
def test_a_whole_network_is_exported_as_weights(fit: Run, run: Run) -> None:
    Path("whole.yaml").write_text(
        SMALL.split("model:\n  class_path")[0]
        + """
model:
  class_path: splitlearn.tasks.ClassificationTask
  init_args:
    num_classes: 10
    model: {class_path: splitlearn.models.InputModel, init_args: {network: {class_path: splitlearn.models.resnet20}}}
data: {class_path: splitlearn.data.Digits, init_args: {batch_size: 16}}
"""
    )
    assert run("fit", "--config", "whole.yaml").status == 0
    outcome = run("export", "--ckpt_path", str(CHECKPOINTS / "last.ckpt"), "--out", "exported")
    assert outcome.status == 0
    weights = Path("exported/network.safetensors").absolute()
    assert fit("--model.model.net.model.weights", str(weights), "--trainer.fast_dev_run", "true").status == 0
    refused = fit("--ckpt_path", str(CHECKPOINTS / "last.ckpt"))
    assert refused.status == 1
    assert "belongs to another architecture" in refused.error


@pytest.mark.slow
def test_the_newest_state_is_kept_though_it_is_not_the_best(fit: Run) -> None:
    """The first epoch has the smallest `epoch`, so by that measure none that follows is better."""
    outcome = fit("--trainer.max_epochs", "3", "--checkpoint.monitor", "epoch", "--checkpoint.mode", "min")
    assert outcome.status == 0, outcome.err
    assert {path.name: epoch_of(path) for path in CHECKPOINTS.iterdir()} == {"best.ckpt": 0, "last.ckpt": 2}


def test_a_damaged_checkpoint_is_told(fit: Run) -> None:
    Path("bad.ckpt").write_bytes(b"PK\x03\x04" + b"junk" * 100)
    outcome = fit("--ckpt_path", "bad.ckpt")
    assert outcome.status == 1
    assert outcome.error.startswith("bad.ckpt is damaged or no checkpoint: use an earlier one")


@pytest.mark.slow
def test_a_killed_run_goes_on(run: Run, fit: Run, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "splitlearn", "fit", "--config", "small.yaml", "--trainer.max_epochs", "10000"]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        last = CHECKPOINTS / "last.ckpt"
        deadline = time.monotonic() + 240
        while not last.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    reached = epoch_of(last)
    saved = torch.load(last, weights_only=True)
    steps, moments = saved["global_step"], saved["optimizer_states"][0]["state"][0]["step"]
    before = metrics(CHECKPOINTS.parent)
    outcome = fit("--ckpt_path", "last", "--trainer.max_epochs", str(reached + 3))
    assert outcome.status == 0, outcome.err
    resumed = Path("runs/small/version_1")
    assert sorted({int(row["epoch"]) for row in metrics(resumed)}) == [reached + 1, reached + 2]
    assert metrics(CHECKPOINTS.parent) == before  # each attempt keeps its own log
    assert not (resumed / "checkpoints").exists()  # the checkpoints go on where they are
    state = torch.load(last, weights_only=True)
    assert state["epoch"] == reached + 2
    assert state["global_step"] - steps == 2 * 2
    assert state["optimizer_states"][0]["state"][0]["step"] - moments == 4  # the optimizer went on, too


def test_validate_and_predict(run: Run) -> None:
    assert run("validate", "--config", "small.yaml").status == 0
    (row,) = metrics(Path("runs/small/version_0"))
    assert float(row["val/estimated_bits"]) > 0
    assert run("predict", "--config", "small.yaml", "--trainer.limit_predict_batches", "1").status == 0
    lines = Path("runs/small/version_1/predictions.csv").read_text().splitlines()
    assert lines[0] == "image,class,name"
    assert len(lines) > 10
    assert all(line.split(",")[1] == line.split(",")[2] for line in lines[1:])  # a digit's name is itself


def test_profile(run: Run) -> None:
    outcome = run("profile", "--model", "resnet20", "--input", "3,32,32", "--depth", "0", "--out", "out")
    assert outcome.status == 0
    assert "layer3" in outcome.out
    assert {path.name for path in Path("out").iterdir()} == {"profile.csv", "profile.png"}


@pytest.mark.slow
def test_tensorboard(fit: Run) -> None:
    pytest.importorskip("tensorboard")
    outcome = fit("--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "boards")
    assert outcome.status == 0, outcome.err
    assert list(Path("boards").rglob("events.out.tfevents.*"))
    assert list(Path("boards").rglob("last.ckpt"))


@pytest.mark.slow
def test_wandb_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    (tmp_path / "small.yaml").write_text(SMALL)
    words = ["--trainer.logger", "WandbLogger", "--trainer.logger.save_dir", "tracked", "--trainer.logger.offline"]
    (tmp_path / "tracked").mkdir()
    done = run_in(
        tmp_path,
        *("fit", "--config", "small.yaml", *words, "true"),
        WANDB_MODE="offline",
        HOME=str(tmp_path),
        https_proxy="http://127.0.0.1:9",
        http_proxy="http://127.0.0.1:9",
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "tracked").rglob("offline-run-*/*.wandb"))
    (last,) = tmp_path.rglob("last.ckpt")
    assert last.parent == tmp_path / "tracked/small/version_0/checkpoints"  # where any logger's runs lie


@pytest.mark.slow
def test_any_loggers_runs_are_found_again(run: Run, fit: Run) -> None:
    """A logger that has no folder a run of its own: config, checkpoints and results still have one."""
    words = [
        *("--trainer.logger", "lightning.pytorch.loggers.WandbLogger", "--trainer.logger.save_dir", "tracked"),
        *("--trainer.logger.offline", "true"),
    ]
    wandb = pytest.importorskip("wandb")
    assert fit(*words).status == 0
    wandb.finish()  # one process is one run to wandb
    tested = run("test", "--config", "small.yaml", *words, "--ckpt_path", "last")
    assert tested.status == 0, tested.err
    wandb.finish()
    assert fit(*words, "--ckpt_path", "last", "--trainer.max_epochs", "2").status == 0
    wandb.finish()
    found = {str(path) for path in Path("tracked/small").rglob("*") if path.suffix in (".yaml", ".json", ".ckpt")}
    kept = {f"tracked/small/version_0/checkpoints/{name}.ckpt" for name in ("best", "last")}
    configs = {f"tracked/small/version_{n}/config.yaml" for n in range(3)}
    assert found == kept | configs | {"tracked/small/version_1/results.json"}


def can_mount() -> bool:
    """Whether this process may make a small file system of its own."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    words = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=1m", "none", "/mnt"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_a_full_disk_leaves_earlier_checkpoints(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("this process may not mount a file system")
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "disk").mkdir()
    (tmp_path / "kept").mkdir()
    options = "--checkpoint.save_top_k -1 --checkpoint.filename {epoch} --trainer.max_epochs 5"
    script = f"""
        mount -t tmpfs -o size=3m none disk && ln -s "$PWD/disk" runs
        {sys.executable} -m splitlearn fit --config small.yaml {options}
        code=$?
        cp disk/small/version_0/checkpoints/* kept
        exit $code
    """
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("splitlearn: error: ")]
    assert line.startswith("splitlearn: error: the disk is full (")
    assert "Traceback" not in done.stderr
    assert epoch_of(tmp_path / "kept" / "0.ckpt") == 0
    assert epoch_of(tmp_path / "kept" / "last.ckpt") == 0
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"0.ckpt", "last.ckpt"}


def test_an_export_has_a_config_that_tests_it(run: Run) -> None:
    weights = ("--model.model.net.model.weights", "checkpoints/resnet20_cifar10_jpeg.safetensors")
    words = ("--config", "small.yaml", *weights)
    assert run("fit", *words, "--trainer.callbacks", "splitlearn.tasks.StaticTables").status == 0
    assert run("test", *words, "--ckpt_path", "last", "--trainer.limit_test_batches", "null").status == 0
    out = run("export", "--ckpt_path", str(CHECKPOINTS / "last.ckpt"), "--out", "exported").out
    assert "config of a test: exported/bottleneck.yaml" in out
    launch = ("--config", "configs/trainer.yaml", "--config", "exported/bottleneck.yaml")
    outcome = run("test", *launch, "--trainer.accelerator", "cpu")
    assert outcome.status == 0, outcome.err
    assert "untrained" not in outcome.err
    before, after = (
        json.loads(Path(f"runs/{name}/results.json").read_text())
        for name in ("small/version_1", "bottleneck/version_0")
    )
    for name in ("test/accuracy", "test/bytes_per_image", "test/table_bytes"):
        assert after[name] == before[name]


def test_weights_to_start_from_are_no_trained_bottleneck(run: Run) -> None:
    """Neither quantizer nor code tables come from them, so a test of them tells nothing of the export."""
    text = Path("small.yaml").read_text().replace("ClassificationTask", "SelfDistillationTask")
    Path("own.yaml").write_text(text.replace("    num_classes: 10\n    model:", "    model:"))
    words = ("--config", "own.yaml", "--trainer.logger.name", "own")
    assert run("fit", *words, "--checkpoint.monitor", "val/loss", "--checkpoint.mode", "min").status == 0
    assert run("export", "--ckpt_path", "runs/own/version_0/checkpoints/best.ckpt", "--out", "own").status == 0
    outcome = run("test", *words, "--model.weights", "own/bottleneck.safetensors")
    assert outcome.status == 0
    assert "warning: model.weights starts a training, and quantizer and code tables do not come from it" in outcome.err
