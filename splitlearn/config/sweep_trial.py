"""Trials of a sweep: a config with the values of a point is fitted, measured and exported, and tested if selected."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from lightning import LightningDataModule, LightningModule, seed_everything
from lightning.pytorch.loggers import Logger

from splitlearn.config.build import TASK, instantiated, parsed, plain, seed_of, trainer_of
from splitlearn.config.export_config import write_launch
from splitlearn.config.messages import UsageError, one_sentence
from splitlearn.config.monitors import check_monitors
from splitlearn.data import ImageDataModule
from splitlearn.data.held_out import HeldOutImages
from splitlearn.deploy import NothingToExportError, export_model
from splitlearn.files import whole_file
from splitlearn.models import CoderModel
from splitlearn.sweep.distributions import Value
from splitlearn.sweep.seeds import seed_of_point
from splitlearn.tasks import KeepFreedMemory, StopsAtOnce, quieten, write_results
from splitlearn.tasks.keep_frozen import kept_types
from splitlearn.tasks.train_from_cache import cached_features
from splitlearn.tasks.trained_weights import load_trained, save_trained

WEIGHTS, CONFIG, BOTTLENECK = "trained.ckpt", "config.yaml", "bottleneck.safetensors"  # in the folder of a trial
FORKS = ("ddp_spawn", "ddp_fork", "ddp_notebook")  # strategies


@contextmanager
def _wandb_run_of_its_own() -> Iterator[None]:
    """End the wandb run of a trial, which would otherwise also receive the logs of the next trial."""
    status = 1
    try:
        yield
        status = 0
    finally:
        if wandb := sys.modules.get("wandb"):
            wandb.finish(status)


@dataclass(frozen=True)
class ConfigTrial:
    """Runs the trials of a sweep, each a config of `splitlearn fit` with other values; can be sent to other processes.

    Attributes:
        words: command-line arguments: `--config FILE …`, and settings of all trials.
        out: folder of the sweep, with a folder trials/NNN for each trial.
        name: name of the sweep, and wandb's group.
        features: folder for cached features of frozen heads; None to run the head in every epoch.
        precision: precision of cached features.
        views: number of augmented versions of each training image in the cache.
        seed: seed of the sweep, which gives each point its first weights, and all points the order of cached batches.
    """

    words: tuple[str, ...]
    out: Path
    name: str
    features: Path | None
    precision: str
    views: int
    seed: int = 0

    def __call__(self, number: int, values: Mapping[str, Value]) -> dict[str, float]:
        """Fit one point, measure it on validation images and export it; return its metrics."""
        return self.run(number, self.parse(values))

    @_wandb_run_of_its_own()
    def run(self, number: int, settings: Namespace) -> dict[str, float]:
        """Run a point with parsed settings; only the first of several training processes measures and exports.

        Metrics `val/…` are measured with real payloads on validation images. Metrics that only the validation during
        training logs, such as the estimate `val/estimated_bits`, are those of its last epoch. Test images are not used.
        """
        config = self.prepared(number, settings)
        task, data, trainer = self.built(settings)
        held_out = HeldOutImages(data)
        trainer.callbacks += [KeepFreedMemory(), StopsAtOnce()]
        with kept_types(task):
            trainer.fit(task, data)
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if trainer.world_size > 1:
            is_first = trainer.is_global_zero
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            if not is_first:
                return metrics
        measured = _measured(settings, task, held_out, "val/")
        return self.finish(number, task, metrics, measured, config, trainer.loggers, trainer.global_step)

    def finish(
        self,
        number: int,
        task: Any,
        logged: Mapping[str, float],
        measured: Mapping[str, float],
        config: Mapping[str, Any],
        loggers: Sequence[Logger],
        steps: int,
    ) -> dict[str, float]:
        """Write weights, export and results of a trained point; return its metrics.

        Args:
            number: number of the point.
            task: its task.
            logged: metrics that the task logged while it trained.
            measured: metrics `val/…` of real payloads, which take precedence.
            config: settings of the point.
            loggers: loggers that get what was measured.
            steps: number of training steps.
        """
        for logger in loggers:
            logger.log_metrics(dict(measured), steps)
            logger.save()
        metrics = {**logged, **measured}
        if (sizes := task.model.complexity()) is not None:
            metrics |= {f"bottleneck/{name}": float(value) for name, value in asdict(sizes).items()}
        save_trained(task, self.folder(number) / WEIGHTS)
        self._write(number, task, metrics, config)
        return metrics

    def test(self, number: int, values: Mapping[str, Value], metrics: Mapping[str, float]) -> dict[str, float]:
        """Test the model of a finished point; return the metrics `test/…`, also added to its results.json and export.

        Raises FileNotFoundError if its weights are not on this machine.
        """
        settings = self.parse(values)
        config = self.prepared(number, settings)
        settings.trainer.logger = False
        task, data, _ = self.built(settings)
        load_trained(task, self.folder(number) / WEIGHTS)
        found = _measured(settings, task, data, "test/")
        self._write(number, task, {**metrics, **found}, config)
        return found

    def is_here(self, number: int) -> bool:
        """Return whether the weights of a point are on this machine."""
        return (self.folder(number) / WEIGHTS).is_file()

    def folder(self, number: int) -> Path:
        """Return the folder of a point."""
        return self.out / "trials" / f"{number:03}"

    def prepared(self, number: int, settings: Namespace) -> dict[str, Any]:
        """Adapt the settings of a point to a trial, in place, and return the whole config, as it was given.

        Writes config.yaml into the point's folder, with which `splitlearn fit` trains as the trial does.
        """
        quieten()
        folder = self.folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        settings.seed_everything = seed_of_point(self.seed, number)
        config = plain(settings)
        self._write_config(folder, config)
        _name_loggers(settings.trainer, folder, self.name)
        without_own_output(settings.trainer)
        return config

    def _write_config(self, folder: Path, config: Mapping[str, Any]) -> None:
        if self.features is not None:
            config = {**config, "trainer": dict(config["trainer"])}
            cache = {"folder": str(self.features), "precision": self.precision, "views": self.views, "seed": self.seed}
            first = {"class_path": "splitlearn.tasks.TrainFromCache", "init_args": cache}
            own = config["trainer"]["callbacks"] or []
            config["trainer"]["callbacks"] = [first, *(own if isinstance(own, list) else [own])]
        given = {section: each for section, each in config.items() if each is not None}
        with whole_file(folder / CONFIG) as temporary:
            temporary.write_text(yaml.safe_dump(given, sort_keys=False))

    def built(self, settings: Namespace) -> tuple[Any, Any, Any]:
        """Return task, data and trainer, equal for a trial and its test."""
        seed_everything(seed_of(settings), verbose=False)
        built = instantiated(settings)
        return built.model, self.data_of(built.model.model, built.data), built.trainer

    def _write(self, number: int, task: Any, metrics: Mapping[str, float], config: Mapping[str, Any]) -> None:
        folder = self.folder(number)
        if getattr(task.model, "frozen", False):
            with suppress(NothingToExportError):
                export_model(task.model, folder, metrics)
            if (bottleneck := folder / BOTTLENECK).is_file():
                write_launch(bottleneck, f"trial {number} of a sweep", f"trial_{number:03}", config)
        write_results(folder, metrics, config, folder / WEIGHTS)

    def parse(self, values: Mapping[str, Value]) -> Namespace:
        """Return the settings of a point.

        Raises UsageError if a parameter's path or value does not fit the config, or a trial would need several machines
        or forked processes, or monitors a metric with the wrong mode.
        """
        # name and value in one word, because a value may begin with a minus
        settings = parsed([*self.words, *(f"--{name}={value}" for name, value in values.items())])
        if settings.trainer.num_nodes > 1:
            raise UsageError("a trial runs on one machine, several share the sweep: leave --trainer.num_nodes at 1")
        if str(settings.trainer.strategy).startswith(FORKS):
            raise UsageError("processes of a trial are started as commands, not forked: use --trainer.strategy ddp")
        check_monitors(settings.trainer)
        return settings

    def build(self, values: Mapping[str, Value]) -> tuple[LightningModule, Any]:
        """Return the task and data of a point, without a trainer."""
        settings = self.parse(values)
        torch.manual_seed(0)
        del settings["trainer"]
        built = instantiated(settings, TASK)
        return built.model, built.data

    def first(self, points: Iterable[Mapping[str, Value]]) -> tuple[LightningModule, Any]:
        """Try to build the points in order; return task and data of the first that can be built.

        Points that cannot be built become failed trials when workers run them. Raises UsageError if the space does not
        fit the config, or no point can be built.
        """
        reason: Exception | None = None
        for values in points:
            self.parse(values)
            try:
                return self.build(values)
            except Exception as error:  # constructors may raise anything
                reason = error
        raise UsageError(f"none of the points drawn can be built: {one_sentence(reason or ValueError())}") from reason

    def data_of(self, model: Any, data: Any) -> Any:
        """Return the training data of a trial: cached features, computed if missing, or `data` without a cache.

        Raises UsageError if a cache is set, but the model has no frozen head or the data are not images.
        """
        if self.features is None:
            return data
        frozen = isinstance(model, CoderModel) and model.frozen
        if not frozen or not isinstance(data, ImageDataModule):
            raise UsageError(
                f"features of {type(model).__name__} on {type(data).__name__} are not cached: launch with --cache none"
            )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        found = cached_features(self.features, model, data, self.precision, self.views, device, self.seed)
        model.to("cpu")
        return found


def _measured(settings: Namespace, task: LightningModule, data: LightningDataModule, prefix: str) -> dict[str, float]:
    """Return the metrics of a test as `prefix…`; in one process, because several would count some images twice."""
    settings = settings.clone()
    settings.trainer.logger = False
    trainer: Any = trainer_of(settings)
    if trainer.world_size > 1:
        settings.trainer.devices, settings.trainer.strategy = 1, "auto"
        trainer = trainer_of(settings)
    trainer.callbacks += [KeepFreedMemory(), StopsAtOnce()]
    with kept_types(task):
        trainer.test(task, data, verbose=False)
    return {prefix + name.removeprefix("test/"): float(value) for name, value in trainer.callback_metrics.items()}


def _name_loggers(trainer: Any, folder: Path, group: str) -> None:
    """Set a trial's folder in its loggers, and the sweep's name as group of wandb."""
    loggers = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
    for logger in loggers:
        if not hasattr(logger, "init_args"):
            continue
        wanted = {"save_dir": str(folder), "name": "log", "version": ""}
        if "Wandb" in logger.class_path:
            wanted = {"save_dir": str(folder), "name": f"{group}-{folder.name}", "group": group}
        for name, value in wanted.items():
            logger.init_args[name] = value


def without_own_output(trainer: Any) -> None:
    """Switch off a trial's own progress bar, summary and checkpoints in the settings of its trainer."""
    trainer.enable_progress_bar = trainer.enable_model_summary = trainer.enable_checkpointing = False
