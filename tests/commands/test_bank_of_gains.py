"""`splitlearn bank` of one model of many rates, and `splitlearn test` of what it has written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from splitlearn.commands import main
from splitlearn.config.gain_rates import evenly_placed
from splitlearn.deploy import load_bank
from splitlearn.models import resnet8
from tests.commands.conftest import Run

ROOT = Path(__file__).parents[2]
TRAINER = ["--config", str(ROOT / "configs/trainer.yaml")]
SHORT = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.limit_train_batches", "4"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a model of three rates that has trained for a few steps."""
    folder = tmp_path_factory.mktemp("gains")
    config = yaml.safe_load((ROOT / "configs/quickstart.yaml").read_text())
    config["trainer"]["callbacks"] = [{"class_path": "splitlearn.tasks.LearntTables"}]
    task = config["model"]["init_args"]
    task["model"]["init_args"]["quantizer"] = {"class_path": "splitlearn.quantizers.Step", "init_args": {"step": 0.5}}
    task["model"] = {
        "class_path": "splitlearn.models.GainModel",
        "init_args": {"model": task["model"], "rate_weights": [4.0, 1.0, 0.25]},
    }
    task["rate_loss"] = {"class_path": "splitlearn.losses.FactorizedRate"}
    config["data"] = str(ROOT / "configs/data/digits.yaml")
    file = folder / "gains.yaml"
    file.write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr("sys.argv", ["splitlearn", "fit", *TRAINER, "--config", str(file), *SHORT, *place(folder)])
        assert main() == 0
    (found,) = folder.rglob("best.ckpt")
    return found


def place(folder: Path) -> list[str]:
    return ["--trainer.logger.save_dir", str(folder), "--trainer.logger.name", "run"]


def results_of(folder: Path) -> dict[str, Any]:
    (found,) = folder.rglob("results.json")
    content: dict[str, Any] = json.loads(found.read_text())
    return content


@pytest.mark.slow
def test_each_rate_is_measured_and_can_be_tested(
    checkpoint: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    out = tmp_path / "out" / "bank.safetensors"
    outcome = run("bank", "--ckpt_path", str(checkpoint), "--out", str(out), "--rates", "5", "--licence", "MIT")
    assert outcome.status == 0, outcome.error
    assert "5 rates of one network of" in outcome.out
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["licence"] == "MIT"
    model = load_bank(out, resnet8(weights=ROOT / "checkpoints/resnet8_digits.safetensors"))
    measured = [point.bytes_per_image for point in model.points]
    assert measured == sorted(measured)
    assert measured == [record["metrics"][f"rate_{rate}/val/bytes_per_image"] for rate in range(5)]
    assert [point.score for point in model.points] == [record["metrics"][f"rate_{r}/val/accuracy"] for r in range(5)]
    assert len({id(coder.bottlenecks) for coder in model.rates}) == 1
    test = ["test", *TRAINER, "--config", str(out.with_suffix(".yaml")), "--trainer.accelerator", "cpu"]
    sizes = []
    for rate in (0, 4):
        folder = tmp_path / f"runs{rate}"
        outcome = run(*test, *place(folder), "--model.model.rate", str(rate))
        assert outcome.status == 0, outcome.error
        sizes.append(results_of(folder)["test/bytes_per_image"])
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ([], 2, "give what the bank is made of: --sweep FOLDER, or --ckpt_path FILE of a GainModel"),
        (["--ckpt_path", "CHECKPOINT", "--where", "a=1"], 2, "--where, --storage and --name go with --sweep"),
        (
            ["--ckpt_path", "CHECKPOINT", "--score", "val/miou"],
            2,
            "has no val/miou: give --score, one of val/accuracy, val/acc",
        ),
        (["--sweep", "folder", "--data_root", "images"], 2, "--data_root goes with --ckpt_path"),
        (["--ckpt_path", "nowhere.ckpt"], 1, "nowhere.ckpt"),
    ],
)
def test_what_makes_no_bank_is_told(
    checkpoint: Path,
    tmp_path: Path,
    run: Run,
    words: list[str],
    status: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    given = [str(checkpoint) if word == "CHECKPOINT" else word for word in words]
    outcome = run("bank", "--out", str(tmp_path / "bank.safetensors"), *given)
    assert outcome.status == status
    assert message in outcome.error
    assert not list(tmp_path.glob("bank*"))


def test_an_export_of_many_rates_names_the_command_that_writes_them(
    checkpoint: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    outcome = run("export", "--ckpt_path", str(checkpoint), "--out", str(tmp_path))
    assert outcome.status == 1
    assert "write them with splitlearn bank --ckpt_path FILE" in outcome.error


def test_positions_reach_from_the_first_rate_to_the_last() -> None:
    assert evenly_placed(5, 3) == [0, 0.5, 1, 1.5, 2]
    assert evenly_placed(1, 3) == [2]
