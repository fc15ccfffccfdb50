"""LightningCLI, configured."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

from splitlearn.analysis import complexity
from splitlearn.cli.run_folder import experiment_folder, new_run_folder, newest_checkpoint
from splitlearn.files import whole_file
from splitlearn.models import SplitModel
from splitlearn.tasks import KeepFreedMemory, LastCheckpoint, quieten, write_results
from splitlearn.tasks.loading import CONFIG_KEY, load_weights_into, read_checkpoint

STRICT = {"exit_on_error": False, "allow_abbrev": False}


class ConfigInCheckpoint(SaveConfigCallback):
    """Save the full config, as plain data, in the run folder and inside every checkpoint."""

    def __init__(
        self, parser: LightningArgumentParser, config: Namespace, folder: Path, settings: dict[str, Any]
    ) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.folder = folder
        self.settings = settings

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml."""
        with whole_file(self.folder / self.config_filename) as temporary:
            temporary.write_text(yaml.safe_dump(self.settings, sort_keys=False))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the settings, so that `splitlearn export` needs the checkpoint alone."""
        checkpoint[CONFIG_KEY] = self.settings


class SplitCLI(LightningCLI):
    """Checkpoints that survive a kill, `--ckpt_path last` that finds them, and results.json after a test."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Make the best checkpoints a section of their own; the newest is always kept, as last.ckpt."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Refuse a damaged checkpoint before LightningCLI looks for settings in it."""
        super().parse_arguments(parser, args)
        path = self.config[self.config.subcommand].get("ckpt_path")
        if path is not None and Path(path).is_file():
            read_checkpoint(path)

    def before_instantiate_classes(self) -> None:
        """Choose the run folder; resolve `--ckpt_path last`. A resumed run keeps its checkpoints where they are."""
        config = self.config[self.subcommand]
        config.checkpoint.save_last = False  # LastCheckpoint does so
        if config.get("ckpt_path") == "last":
            config.ckpt_path = str(newest_checkpoint(experiment_folder(config.trainer)))
        self.folder = new_run_folder(config.trainer)
        resumed = self.subcommand == "fit" and config.get("ckpt_path")
        checkpoints = Path(config.ckpt_path).parent if resumed else self.folder / "checkpoints"
        config.checkpoint.dirpath = config.checkpoint.dirpath or str(checkpoints)
        self.trainer_defaults["callbacks"][0].dirpath = os.path.realpath(config.checkpoint.dirpath)
        self.settings = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        self.save_config_kwargs = {"folder": self.folder, "settings": self.settings[self.subcommand]}

    def before_fit(self) -> None:
        """Refuse a checkpoint of another architecture before anything runs."""
        path = self.config[self.subcommand].get("ckpt_path")
        if path is not None and path not in ("best", "hpc", "registry"):
            load_weights_into(self.model, read_checkpoint(path), path)

    def before_test(self) -> None:
        """Likewise, and warn that an untrained bottleneck is about to be tested."""
        self.before_fit()
        model = getattr(self.model, "model", None)
        trained = isinstance(model, SplitModel) and any(p.requires_grad for p in model.parameters())
        if trained and self.config[self.subcommand].get("ckpt_path") is None:
            print("warning: this bottleneck is untrained; did you mean --ckpt_path last?", file=sys.stderr)

    before_validate = before_predict = before_test

    def after_test(self) -> None:
        """Leave results.json in the run folder."""
        metrics = dict(self.trainer.callback_metrics)
        if isinstance(self.model.model, SplitModel):
            metrics |= {f"bottleneck/{name}": value for name, value in asdict(complexity(self.model.model)).items()}
        if self.trainer.is_global_zero:
            print(f"results: {write_results(self.folder, metrics, self.settings)}")

    def after_predict(self) -> None:
        """Leave predictions.csv in the run folder: number of the image, and what the task has found in it."""
        names = getattr(self.datamodule, "class_names", None)
        self.model.write_predictions(self.folder, self.trainer.predict_loop.predictions, names)
        print(f"predictions: {self.folder / 'predictions.csv'}")


def run_trainer_command() -> None:
    """Run the subcommand of LightningCLI that this process's command line names."""
    quieten()
    SplitCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=ConfigInCheckpoint,
        trainer_defaults={
            "callbacks": [LastCheckpoint(), KeepFreedMemory()],
            "plugins": [{"class_path": "splitlearn.tasks.WholeFileIO"}],
        },
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        parser_kwargs={"prog": "splitlearn", **STRICT}
        | {command: STRICT for command in ("fit", "validate", "test", "predict")},
    )
