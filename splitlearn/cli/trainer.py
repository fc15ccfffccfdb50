"""LightningCLI, configured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback

from splitlearn.tasks import LastCheckpoint, quieten, write_results
from splitlearn.tasks.loading import CONFIG_KEY, load_weights_into, read_checkpoint

STRICT = {"exit_on_error": False, "allow_abbrev": False}


class ConfigInCheckpoint(SaveConfigCallback):
    """Save the full config beside the checkpoints, and inside them."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the settings as plain data, so that `splitlearn export` needs the checkpoint alone."""
        checkpoint[CONFIG_KEY] = yaml.safe_load(self.parser.dump(self.config, skip_none=False))


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
        """Leave last.ckpt to its own callback; resolve `--ckpt_path last` to the newest of this experiment."""
        config = self.config[self.subcommand]
        config.checkpoint.save_last = False  # LastCheckpoint does so
        if config.get("ckpt_path") == "last":
            config.ckpt_path = str(newest_checkpoint(experiment_folder(config.trainer)))

    def before_test(self) -> None:
        """Refuse a checkpoint of another architecture before anything runs."""
        self._check_checkpoint()

    before_validate = before_predict = before_fit = before_test

    def after_test(self) -> None:
        """Leave results.json in the run folder."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        if self.trainer.is_global_zero:
            path = write_results(folder, self.trainer.callback_metrics, config)
            print(f"results: {path}")

    def _check_checkpoint(self) -> None:
        path = self.config[self.subcommand].get("ckpt_path")
        if path is not None and path not in ("best", "hpc", "registry"):
            load_weights_into(self.model, read_checkpoint(path), path)


def run_trainer_command() -> None:
    """Run the subcommand of LightningCLI that this process's command line names."""
    quieten()
    SplitCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=ConfigInCheckpoint,
        trainer_defaults={"callbacks": [LastCheckpoint()], "plugins": [{"class_path": "splitlearn.tasks.WholeFileIO"}]},
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        parser_kwargs={"prog": "splitlearn", **STRICT}
        | {command: STRICT for command in ("fit", "validate", "test", "predict")},
    )


def experiment_folder(trainer: Any) -> Path:
    """Return where this experiment's runs lie: the logger's folder and name, or the trainer's root folder."""
    loggers = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
    for logger in loggers:
        arguments = getattr(logger, "init_args", None)
        if arguments is not None and arguments.get("save_dir"):
            return Path(arguments.save_dir) / (arguments.get("name") or "")
    return Path(trainer.default_root_dir or ".")


def newest_checkpoint(folder: Path) -> Path:
    """Return the last.ckpt below `folder` that was written last.

    Raises:
        FileNotFoundError: if there is none.
    """
    found = sorted(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"no last.ckpt below {folder}: nothing to resume, start without --ckpt_path")
    return found[-1]
