"""`splitlearn exits` and `splitlearn stages`, from configs to files, and what they refuse."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from splitlearn.commands.stages import _check_built, _check_settings, _experiment, _moved
from splitlearn.config.loading import load_task
from splitlearn.config.messages import UsageError
from splitlearn.models import EarlyExitModel
from tests.commands.conftest import SMALL, Run

EARLY = """
trainer: {logger: {init_args: {name: early}}}
model:
  class_path: splitlearn.tasks.EarlyExitTask
  init_args:
    num_classes: 10
    model:
      class_path: splitlearn.models.EarlyExitModel
      init_args:
        net:
          class_path: splitlearn.models.split
          init_args:
            model: {class_path: splitlearn.models.resnet8, init_args: {weights: runs/vanilla/network.safetensors}}
            at: layer1
            example: [3, 32, 32]
        quantizer: {class_path: splitlearn.quantizers.MinMax, init_args: {bits: 8}}
        codec: {class_path: splitlearn.codecs.Huffman}
        weights: null
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.002}}
"""
VANILLA = """
trainer: {logger: {init_args: {name: vanilla}}}
model:
  class_path: splitlearn.tasks.ClassificationTask
  init_args:
    num_classes: 10
    model:
      class_path: splitlearn.models.InputModel
      init_args:
        network: {class_path: splitlearn.models.resnet8}
"""
REGULARISED = EARLY.replace("name: early", "name: regularised").replace(
    "weights: null", "weights: runs/early/early_exit.safetensors"
).replace("init_args: {weights: runs/vanilla/network.safetensors}", "init_args: {weights: null}") + (
    "    rate_loss: {class_path: splitlearn.losses.EntropyRate}\n    rate_weight: 0.5\n"
)
UNTRAINED = EARLY[EARLY.index("model:") :].replace("weights: runs/vanilla/network.safetensors", "weights: null")
STAGES = {"vanilla": VANILLA, "early": EARLY, "regularised": REGULARISED}
SHARED = SMALL[: SMALL.index("model:")] + SMALL[SMALL.index("data:") :]


@pytest.fixture
def configs(run: Run) -> Run:
    Path("shared.yaml").write_text(SHARED)
    for name, text in STAGES.items():
        Path(f"{name}.yaml").write_text(text)
    return run


@pytest.mark.slow
def test_exits_leaves_tables_of_an_untrained_network(configs: Run) -> None:
    Path("whole.yaml").write_text(SHARED + UNTRAINED)
    outcome = configs("exits", "--config", "whole.yaml", "--out", "found", "--data.batch_size", "100", "--at", "0,1")
    assert outcome.status == 0, outcome.err
    record = json.loads(Path("found/exits.json").read_text())
    assert record["int8_layers"] == 9
    assert record["values"] == 16 * 32 * 32
    assert len(record["accuracies"]) == len(record["float_accuracies"]) == 2
    assert record["table_bytes"]["Huffman"] == 256
    assert record["partition"]["exit_weights"] == 36000
    assert {"command", "machine", "versions", "date"} <= record.keys()
    rows = list(csv.DictReader(Path("found/exits.csv").read_text().splitlines()))
    assert [rows[0]["threshold"], rows[-1]["threshold"]] == ["0.0", "1.0"]
    assert float(rows[0]["Huffman_bytes"]) == 0 < float(rows[-1]["Huffman_bytes"]) == record["bytes"]["Huffman"]
    assert Path("found/exits.png").stat().st_size > 0
    assert record["cheapest"]["0"]["raw"]["bytes_per_image"]["raw"] == 0
    assert record["cheapest"]["1"]["raw"] is None
    assert "100 % are not reached at any threshold" in outcome.out
    assert ("collapsed" in outcome.out) == record["collapsed"]


def test_exits_needs_a_network_with_exits(configs: Run) -> None:
    outcome = configs("exits", "--config", "small.yaml")
    assert outcome.status == 2
    assert "only an EarlyExitModel has exits" in outcome.error


def test_exits_takes_accuracies(configs: Run) -> None:
    assert "--at takes accuracies" in configs("exits", "--config", "small.yaml", "--at", "85").error


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("vanilla.yaml,absent.yaml", "no config file 'absent.yaml'"),
        (",", "--stages takes config files"),
        ("early.yaml,early.yaml", "give each its own trainer.logger.name"),
    ],
)
def test_stages_refuses_before_anything_runs(configs: Run, files: str, message: str) -> None:
    outcome = configs("stages", "--config", "shared.yaml", "--stages", files)
    assert outcome.status == 2
    assert message in outcome.error
    assert not Path("runs").exists()


def test_stages_refuses_a_stage_that_ends_before_it_validates(configs: Run) -> None:
    every = ("--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval")
    words = ("stages", "--config", "shared.yaml", "--stages", "vanilla.yaml", "--trainer.max_steps", "4", *every)
    outcome = configs(*words, "5")
    assert outcome.status == 2
    assert "vanilla.yaml ends after 4 steps, before its first validation at step 5" in outcome.error
    assert "set --trainer.val_check_interval 4 or lower" in outcome.error
    none = configs("stages", "--config", "shared.yaml", "--stages", "vanilla.yaml", "--trainer.max_steps", "0")
    assert (none.status, "vanilla.yaml trains for no step: set --trainer.max_steps to 1" in none.error) == (2, True)
    assert not Path("runs").exists()


def test_misspelt_exits_and_impossible_thresholds_are_told(configs: Run) -> None:
    Path("whole.yaml").write_text(SHARED + UNTRAINED)
    outcome = configs("fit", "--config", "whole.yaml", "--model.model.exits", "[layer5]")
    assert outcome.status == 1
    assert "no module 'layer5' for an exit in CifarResNet: did you mean layer1" in outcome.error
    outcome = configs("test", "--config", "whole.yaml", "--model.model.threshold", "1.5")
    assert outcome.status == 1
    assert "a threshold must lie in [0, 1]" in outcome.error


def test_a_stage_that_failed_at_once_may_be_begun_otherwise(tmp_path: Path) -> None:
    (tmp_path / "version_0").mkdir()
    (tmp_path / "version_0/config.yaml").write_text("model: {}")
    _check_settings(["--config", "other.yaml"], tmp_path)
    (tmp_path / "version_0/last.ckpt").touch()
    with pytest.raises(UsageError):
        _check_settings(["--config", "other.yaml"], tmp_path)


def test_a_later_stage_is_built_before_the_first_one_trains(run: Run) -> None:
    folder, file = Path("runs/vanilla"), Path("exit.yaml")
    words = ["--config", "small.yaml", "--model.model.net.model.weights", "runs/vanilla/network.safetensors"]
    _check_built(words, file, [folder])  # these weights are to come
    with pytest.raises(UsageError, match=r"exit\.yaml: no module 'layr2' in CifarResNet: did you mean layer2"):
        _check_built([*words, "--model.model.net.at", "layr2"], file, [folder])
    with pytest.raises(UsageError, match=r"exit\.yaml: no weights file at .*network\.safetensors"):
        _check_built(words, file, [Path("runs/elsewhere")])


@pytest.mark.slow
def test_what_a_folder_tells_of_a_stage_is_read_alone(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("runs/small")
    words = ["--config", "small.yaml", "--trainer.limit_val_batches", "0"]
    assert run("fit", *words, "--checkpoint.monitor", "null").status == 0
    _check_settings(words, folder)
    _check_settings([*words, "--trainer.log_every_n_steps", "1"], folder)  # decides nothing
    for name, value in (("seed_everything", "4"), ("trainer.gradient_clip_val", "1")):
        with pytest.raises(UsageError, match=f"runs/small was started with another {name}: launch it with the same"):
            _check_settings([*words, f"--{name}", value], folder)
    with pytest.raises(UsageError, match=r"runs/small was started with another model\.model\.quantizer\.step: launch"):
        _check_settings([*words, "--model.model.quantizer.step", "0.25"], folder)
    (folder / "version_1").mkdir()  # as of a test with other settings
    other = (folder / "version_0/config.yaml").read_text().replace("batch_size: 16", "batch_size: 8")
    (folder / "version_1/config.yaml").write_text(other)
    _check_settings(words, folder)
    (tmp_path / "stranger.py").write_text("from pathlib import Path\nPath('made').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = folder / "version_0/config.yaml"
    config.write_text(config.read_text().replace("splitlearn.quantizers.Step", "stranger.Step"))
    with pytest.raises(UsageError, match="started with another model"):
        _check_settings(words, folder)
    assert not Path("made").exists()
    for text in ("{", "[1]", "a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]"):
        config.write_text(text)
        with pytest.raises(UsageError, match=r"config\.yaml is not valid YAML|was started with another"):
            _check_settings(words, folder)


@pytest.mark.slow
@pytest.mark.usefixtures("configs")
def test_exports_are_found_where_a_setting_moves_them() -> None:
    files = [Path(f"{name}.yaml") for name in STAGES]

    def moved(*words: str) -> list[list[str]]:
        given = ["--config", "shared.yaml", *words]
        return [_moved(given, file, files, [_experiment(given, each) for each in files]) for file in files]

    assert moved() == [[], [], []]
    assert moved("--trainer.logger.save_dir", "other") == [
        [],
        ["--model.model.net.model.weights", "other/vanilla/network.safetensors"],
        ["--model.model.weights", "other/early/early_exit.safetensors"],
    ]


@pytest.mark.slow
def test_three_stages_each_from_the_best_of_the_last(configs: Run) -> None:
    words = ("stages", "--config", "shared.yaml", "--stages", "vanilla.yaml,early.yaml,regularised.yaml")
    failed = configs(*words, "--model.foo", "1")
    assert failed.status == 2
    assert failed.error == "splitlearn.tasks.EarlyExitTask has no setting 'foo'"  # before the first stage begins
    failed = configs(*words, "--data.batch_size", "0")
    assert "the stage vanilla.yaml has failed, see above; correct it, launch again" in failed.err
    done = configs(*words)
    assert done.status == 0, done.err
    for name, file in (("vanilla", "network"), ("early", "early_exit"), ("regularised", "early_exit")):
        assert Path(f"runs/{name}/{file}.safetensors").is_file()
        assert Path(f"runs/{name}/{file}.json").is_file()
        assert f"{name}.yaml: runs/{name}/{file}.safetensors" in done.out
    before = sorted(Path("runs").rglob("version_*"))
    assert configs(*words).status == 0
    assert sorted(Path("runs").rglob("version_*")) == before  # nothing ran again
    other = configs(*words, "--model.num_classes", "11")
    assert (other.status, "runs/vanilla was started with another model.num_classes" in other.error) == (2, True)
    task = load_task(next(Path("runs/regularised").rglob("best.ckpt")))
    assert isinstance(task.model, EarlyExitModel)
