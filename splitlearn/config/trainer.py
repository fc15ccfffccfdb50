"""LightningCLI, configured for the commands `fit`, `validate`, `test` and `predict`."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from jsonargparse.typing import register_type
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

from splitlearn.config.build import CURRENT_PATHS
from splitlearn.config.messages import UsageError
from splitlearn.config.monitors import check_monitors
from splitlearn.config.named_weights import check_named_weights
from splitlearn.config.options import with_shipped
from splitlearn.config.parsers import TrainerParser
from splitlearn.config.precheck import TRAINER_COMMANDS
from splitlearn.config.run_folder import RunFolder, experiment_folder, newest_checkpoint
from splitlearn.config.same_data import check_same_data, check_same_draw
from splitlearn.data import ImageDataModule
from splitlearn.discovery import with_current_paths
from splitlearn.files import whole_file
from splitlearn.models import CompressionModel
from splitlearn.processes import PARENT, Stopped
from splitlearn.resource_errors import shortage
from splitlearn.tasks import KeepFreedMemory, LastCheckpoint, PredictionWriter, StopsAtOnce, quieten, write_results
from splitlearn.tasks.checkpoints import forget_foreign_files
from splitlearn.tasks.loading import (
    CLASSES_KEY,
    CONFIG_KEY,
    DRAWN_KEY,
    CheckpointError,
    check_layout,
    load_weights_into,
    read_checkpoint,
)

register_type(torch.device, str, torch.device)  # StochasticWeightAveraging has one among its settings
STRICT = {"exit_on_error": False, "allow_abbrev": False, "parser_mode": CURRENT_PATHS}


class ConfigInCheckpoint(SaveConfigCallback):
    """Saves the full config as plain data in the run folder and in every checkpoint."""

    def __init__(
        self, parser: LightningArgumentParser, config: Namespace, run: RunFolder, settings: dict[str, Any]
    ) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.run = run
        self.settings = settings

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Share the first process's folder with all processes, and save there."""
        self.run.path = Path(trainer.strategy.broadcast(str(self.run.path)))
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml."""
        with whole_file(self.run.path / self.config_filename) as temporary:
            temporary.write_text(yaml.safe_dump(self.settings, sort_keys=False))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove paths of another run from restored callbacks."""
        forget_foreign_files(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the settings, so that `splitlearn export` needs only the checkpoint."""
        checkpoint[CONFIG_KEY] = self.settings
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, ImageDataModule):
            checkpoint[CLASSES_KEY] = list(data.class_names)
            checkpoint[DRAWN_KEY] = data.drawn_from


class SplitCLI(LightningCLI):
    """LightningCLI with crash-safe checkpoints, `--ckpt_path last` and `best`, and results.json after a test."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=ConfigInCheckpoint,
            trainer_defaults={
                "callbacks": [LastCheckpoint(), KeepFreedMemory(), StopsAtOnce()],
                "plugins": [{"class_path": "splitlearn.tasks.WholeFileIO"}],
            },
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=TrainerParser,
            parser_kwargs={"prog": "splitlearn", **STRICT}
            | {command: STRICT | {"description": TRAINER_COMMANDS[command]} for command in self.subcommands()},
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return only the subcommand of the command line, since parsers of all take four times as long to make."""
        command = sys.argv[1]
        return {command: LightningCLI.subcommands()[command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add a section for the best checkpoints; the latest checkpoint is always kept as last.ckpt."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse with current class paths; check monitored metrics and the checkpoint before anything is built."""
        self.config = parser.parse_args(with_current_paths(with_shipped(sys.argv[1:])))
        if self.config.subcommand == "fit":
            check_monitors(self.config.fit.trainer, self.config.fit.checkpoint)
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path is not None and Path(path).is_file():
            check_layout(read_checkpoint(path), path)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: LightningCLI would replace the config by hyper-parameters of the checkpoint."""

    def before_instantiate_classes(self) -> None:
        """Choose the run folder and find `--ckpt_path last` or `best`; a resumed run keeps its checkpoints' folder."""
        config = self.config[self.subcommand]
        config.checkpoint.save_last = False  # done by LastCheckpoint
        if config.get("ckpt_path") in ("last", "best"):
            config.ckpt_path = str(newest_checkpoint(experiment_folder(config.trainer), config.ckpt_path))
        if self.subcommand == "predict":
            config.return_predictions = False  # they are written to a file
        resumed = self._resumed()
        text = self.parser.dump(self.config, skip_none=False, skip_validation=True)  # parsing has checked it
        self.settings = yaml.safe_load(text)
        again = self.settings[self.subcommand] | ({"ckpt_path": None} if self.subcommand == "fit" else {})
        self.save_config_kwargs = {"run": self.run, "settings": again}
        self.run.reserve(config.trainer)
        if self.subcommand == "fit":
            self.run.keep_checkpoints(config.checkpoint.dirpath, resumed)
            config.checkpoint.dirpath = str(self.run.checkpoints)
            self.trainer_defaults["callbacks"][0].dirpath = os.path.realpath(self.run.checkpoints)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Remove checkpoint callbacks if checkpoints are disabled, as Lightning refuses the combination."""
        if config.get("enable_checkpointing") is False:
            ours: list[Callback] = self.trainer_defaults["callbacks"]
            self.trainer_defaults["callbacks"] = [each for each in ours if not isinstance(each, Checkpoint)]
            callbacks = [each for each in callbacks if not isinstance(each, Checkpoint)]
        return super()._instantiate_trainer(config, callbacks)

    def _run_subcommand(self, subcommand: str) -> None:
        """Name the checkpoint in errors if its state cannot be restored, or does not fit the optimizer."""
        try:
            super()._run_subcommand(subcommand)
        except Exception as error:
            path = self.config[subcommand].get("ckpt_path")
            if path is None or not _came_of_restoring(error):
                raise
            raise CheckpointError(
                f"{path} does not fit this run ({type(error).__name__}: {' '.join(str(error).split())[:300]}): use its "
                "training config, or an earlier checkpoint of the same folder"
            ) from error

    def _resumed(self) -> Path | None:
        """Return the checkpoint that `fit` resumes from; raises UsageError if a config sets it.

        A resumed run overwrites files, so the command line must ask for it.
        """
        path = self.config[self.subcommand].get("ckpt_path")
        if self.subcommand != "fit" or path is None:
            return None
        if not any(word.split("=")[0] == "--ckpt_path" for word in sys.argv):
            raise UsageError(
                f"a config sets the checkpoint {path}: to resume a run, give --ckpt_path {path} on the command line; "
                "to start a new one, --ckpt_path null"
            )
        return Path(path) if Path(path).is_file() else None

    def before_fit(self) -> None:
        """Refuse a checkpoint of another architecture or another draw of validation images before anything runs."""
        if (content := self._load_checkpoint()) is not None:
            settings = self.settings[self.subcommand]
            check_same_draw(("seed", "val_size"), self.datamodule, settings["data"], content, settings["ckpt_path"])

    def _load_checkpoint(self) -> dict[str, Any] | None:
        """Load the weights of the checkpoint in the settings into the model, and return its content."""
        path = self.config[self.subcommand].get("ckpt_path")
        if path is None or path in ("best", "hpc", "registry"):
            return None
        content = read_checkpoint(path)
        check_named_weights(self.model, self.settings[self.subcommand]["model"], content, path)
        load_weights_into(self.model, content, path)
        return content

    def before_test(self) -> None:
        """Load and check the checkpoint, compare its data with the config's, and warn of an untrained bottleneck."""
        if (content := self._load_checkpoint()) is not None:
            settings = self.settings[self.subcommand]
            check_same_data(self.datamodule, settings["data"], content, settings["ckpt_path"])
        model: Any = getattr(self.model, "model", None)
        is_new = self.config[self.subcommand].get("ckpt_path") is None
        if is_new and getattr(model, "coder", None) is not None and any(p.requires_grad for p in model.parameters()):
            print(f"warning: {self._told_untrained()}", file=sys.stderr)

    def _told_untrained(self) -> str:
        if self.settings[self.subcommand]["model"].get("init_args", {}).get("weights") is None:
            return "this bottleneck is untrained; did you mean --ckpt_path last?"
        return (
            "model.weights starts a training, and quantizer and code tables do not come from it: test with --ckpt_path "
            "best, or with the config that splitlearn export writes beside its file"
        )

    before_validate = before_test

    def before_predict(self) -> None:
        """Prepare as for a test, and add the writer of predictions, which needs all processes."""
        self.before_test()
        self.trainer.callbacks.append(PredictionWriter(self.run.path))  # type: ignore[attr-defined]

    def after_test(self) -> None:
        """Write results.json to the run folder."""
        metrics = dict(self.trainer.callback_metrics)
        model = self.model.model
        sizes = model.complexity() if isinstance(model, CompressionModel) else None
        metrics |= {} if sizes is None else {f"bottleneck/{name}": value for name, value in asdict(sizes).items()}
        if self.trainer.is_global_zero:
            path = self.config[self.subcommand].get("ckpt_path")
            tested = Path(path) if path is not None and Path(path).is_file() else None
            print(f"results: {write_results(self.run.path, metrics, self.settings, tested)}")

    def after_predict(self) -> None:
        """Print the path of the predictions."""
        if self.trainer.is_global_zero:
            print(f"predictions: {self.run.path / 'predictions.csv'}")


def _came_of_restoring(error: Exception) -> bool:
    """Return whether Lightning or an optimizer failed on the content of a checkpoint with an unclear message."""
    steps = traceback.extract_tb(error.__traceback__)
    if (
        shortage(error)
        or isinstance(error, MisconfigurationException)
        or "splitlearn" in Path(steps[-1].filename).parts
    ):
        return False
    connector = [step.name.strip("_") for step in steps if step.filename.endswith("checkpoint_connector.py")]
    in_optimizer = Path(steps[-1].filename).parts[-3:-1] == ("torch", "optim")
    return in_optimizer or any(name.startswith(("restore", "resume")) for name in connector)


def run_trainer_command() -> None:
    """Run the LightningCLI subcommand of this process's command line."""
    quieten()
    run = RunFolder()
    if run.is_first:
        os.environ[PARENT] = str(os.getpid())  # for further processes of Lightning
    try:
        SplitCLI(run)
    except Stopped as stop:
        for note in run.notes():
            stop.add_note(note)
        raise
    except OSError as error:
        if shortage(error) == "disk" and error.filename is None:
            error.filename = str(run.path)  # for instance of a log
        raise
    finally:
        run.release()
