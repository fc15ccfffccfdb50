"""Files given to commands are data: what they name is made only if a config names it, or they are trusted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from splitlearn.config.trainer import SplitCLI
from splitlearn.models import resnet8
from splitlearn.tasks.loading import CONFIG_KEY
from tests.commands.conftest import SMALL, Run

NET = "model: {class_path: splitlearn.models.resnet20, init_args: {weights: null}}"
OWN = SMALL.replace(NET, "model: {class_path: tests.commands.test_files_of_strangers.Own}")
PLAIN = """
model:
  class_path: splitlearn.tasks.ClassificationTask
  init_args:
    num_classes: 10
    model: {class_path: splitlearn.models.InputModel, init_args: {network: {class_path: splitlearn.models.resnet8}}}
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
"""  # is parsed in half the time, and has an optimizer
MADE: list[str] = []


class Own(torch.nn.Sequential):
    """A network of one's own."""

    def __init__(self) -> None:
        MADE.append("own")
        super().__init__(*resnet8().children())
        self.inner = resnet8()

    def forward(self, images: torch.Tensor) -> Any:
        return self.inner(images)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose config names a class of one's own."""
    from splitlearn.config.build import task_from

    config = yaml.safe_load(OWN.replace("at: layer2", "at: inner.layer2"))
    torch.manual_seed(0)
    task = task_from(config["model"])
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    torch.save({"state_dict": task.state_dict(), CONFIG_KEY: config}, path)
    (path.parent / "config.yaml").write_text(yaml.safe_dump(config))
    return path


def test_export_needs_a_config_or_trust(checkpoint: Path, run: Run) -> None:
    MADE.clear()
    outcome = run("export", "--ckpt_path", str(checkpoint), "--out", "a")
    assert outcome.status == 1
    assert (
        "names the class 'tests.commands.test_files_of_strangers.Own', which is none of splitlearn's own"
        in outcome.error
    )
    assert outcome.error.endswith("give the config that it was trained with, --config FILE")
    assert MADE == []
    for words in (["--config", str(checkpoint.parent / "config.yaml")], ["--trust", "true"]):
        outcome = run("export", "--ckpt_path", str(checkpoint), "--out", "a", *words)
        assert outcome.status == 0, outcome.err
        assert (Path("a") / "bottleneck.safetensors").is_file()


def test_paths_in_a_checkpoint_are_not_imported(checkpoint: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where they are those of splitlearn itself, and only compared with a config that is given."""
    content = torch.load(checkpoint, weights_only=True)
    content[CONFIG_KEY]["data"]["class_path"] = "splitlearn.testing.forged_payloads.Forger"
    content[CONFIG_KEY]["model"]["init_args"]["model"]["init_args"]["codec"]["class_path"] = (
        "splitlearn.testing.codec.X"
    )
    torch.save(content, "forged.ckpt")
    for name in [name for name in sys.modules if name.startswith("splitlearn.testing")]:
        monkeypatch.delitem(sys.modules, name)
    outcome = run(
        "export", "--ckpt_path", "forged.ckpt", "--out", "a", "--config", str(checkpoint.parent / "config.yaml")
    )
    assert outcome.error.startswith("forged.ckpt was trained with another codec of the model")
    assert not any(name.startswith("splitlearn.testing") for name in sys.modules)


def test_hyper_parameters_of_a_checkpoint_replace_nothing(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stranger.py").write_text("import torch\nclass Task(torch.nn.Module): ...\n")
    config = yaml.safe_load(SMALL)
    from splitlearn.config.build import task_from

    state = task_from(config["model"]).state_dict()
    hyper = {"_class_path": "stranger.Task", "_instantiator": "lightning.pytorch.cli.instantiate_module"}
    torch.save({"state_dict": state, "hyper_parameters": hyper, "pytorch-lightning_version": "2.6.0"}, "stranger.ckpt")
    taken: list[str] = []
    monkeypatch.setattr(SplitCLI, "after_test", lambda cli: taken.append(type(cli.model).__name__))
    outcome = run("test", "--config", "small.yaml", "--ckpt_path", "stranger.ckpt")
    assert outcome.status == 0, outcome.err
    assert taken == ["ClassificationTask"]
    assert "stranger" not in sys.modules


@pytest.mark.slow
def test_results_are_compared_with_the_config_that_is_given(run: Run) -> None:
    """Also where the checkpoint holds none."""
    from splitlearn.config.build import task_from

    state = task_from(yaml.safe_load(SMALL)["model"]).state_dict()
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.6.0"}, "plain.ckpt")
    whole = ("--trainer.limit_test_batches", "null")
    assert run("test", "--config", "small.yaml", "--ckpt_path", "plain.ckpt", *whole).status == 0
    Path("other.yaml").write_text(SMALL.replace("step: 0.5", "step: 0.25"))
    words = ["export", "--ckpt_path", "plain.ckpt", "--out", "a", "--results", "runs/small/version_0/results.json"]
    assert "holds no config" in run(*words).error
    outcome = run(*words, "--config", "small.yaml")
    assert outcome.status == 0, outcome.err
    assert "was measured with another quantizer of the model than" in run(*words, "--config", "other.yaml").error


@pytest.mark.parametrize("content", ["{", "[1]", '{"test/accuracy": "high"}', "[" * 100_000, '{"config": 3}', "\x00"])
def test_damaged_results_are_named(checkpoint: Path, run: Run, content: str) -> None:
    Path("results.json").write_text(content)
    words = ["--config", str(checkpoint.parent / "config.yaml"), "--results", "results.json"]
    outcome = run("export", "--ckpt_path", str(checkpoint), "--out", "a", *words)
    assert outcome.status == 1
    assert outcome.error.startswith("results.json ")
    assert outcome.error.endswith("let splitlearn test write it again")


def _optimizer(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["optimizer_states"][0]
    return found


ENDLESS: dict[str, Any] = {}
ENDLESS["model"] = ENDLESS
FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "config": lambda content: content.update({CONFIG_KEY: "x"}),
    "endless": lambda content: content.update({CONFIG_KEY: ENDLESS}),
    "keys": lambda content: content.update({CONFIG_KEY: {"model": {3: 4}}, "loops": {}}),
    "loops": lambda content: content.update(loops=7),
    "no loops": lambda content: content.update(loops={"fit_loop": 7}),
    "callbacks": lambda content: content.update(callbacks=5),
    "states": lambda content: content.update(callbacks=dict.fromkeys(content["callbacks"], 5)),
    "version": lambda content: content.update({"pytorch-lightning_version": []}),
    "odd version": lambda content: content.update({"pytorch-lightning_version": "x"}),
    "no version": lambda content: content.pop("pytorch-lightning_version"),
    "epoch": lambda content: content.update(epoch="x"),
    "groups": lambda content: _optimizer(content).update(param_groups=[]),
    "state": lambda content: _optimizer(content).update(state="x"),
    "shapes": lambda content: [s.update(exp_avg=torch.zeros(1)) for s in _optimizer(content)["state"].values()],
}


@pytest.mark.slow
def test_a_forged_checkpoint_is_named(fit: Run) -> None:
    Path("small.yaml").write_text(SMALL[: SMALL.index("model:")] + PLAIN + SMALL[SMALL.index("data:") :])
    words = ["--trainer.limit_val_batches", "0", "--checkpoint.monitor", "null", "--trainer.limit_train_batches", "1"]
    assert fit(*words).status == 0
    last = Path("runs/small/version_0/checkpoints/last.ckpt")
    Path("others").mkdir()
    for name, forge in FORGERIES.items():
        content = torch.load(last, weights_only=True)
        forge(content)
        torch.save(content, "others/forged.ckpt")
        outcome = fit(*words, "--ckpt_path", "others/forged.ckpt", "--trainer.max_epochs", "2")
        assert outcome.status == 1, name
        assert outcome.error.startswith("others/forged.ckpt "), name
        assert outcome.error.endswith(" of the same folder"), name
