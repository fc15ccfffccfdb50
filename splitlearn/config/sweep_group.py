"""Trials of a sweep that train together in one process, on the same batches of cached features."""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning import LightningModule, Trainer

from splitlearn.config.build import trainer_of
from splitlearn.config.sweep_processes import SweepTrial
from splitlearn.config.sweep_trial import ConfigTrial, without_own_output
from splitlearn.data.held_out import HeldOutImages
from splitlearn.models import frozen_tensors
from splitlearn.resource_errors import brief, described, shortage
from splitlearn.sweep import Next, Progress, TrialLost
from splitlearn.sweep.distributions import Value
from splitlearn.tasks import KeepFreedMemory, StopsAtOnce, WholeFileIO
from splitlearn.tasks.member import Member, obstacles
from splitlearn.tasks.results import fingerprint
from splitlearn.tasks.together import MembersLoggers, TasksTogether

STATE = "epoch.ckpt"  # in the folder of a trial, while it trains
MOST = 32  # trials of a group: more would save little, since loading is then a hundredth of the work
UNKNOWN = 4 << 30  # bytes of memory that are assumed to be free where the system does not say
OWN = ("logger", "callbacks", "gradient_clip_val", "gradient_clip_algorithm")  # settings of each member
ALIKE = (
    *("accelerator", "devices", "max_epochs", "limit_train_batches", "limit_val_batches", "limit_test_batches"),
    *("check_val_every_n_epoch", "log_every_n_steps", "num_sanity_val_steps", "deterministic", "benchmark"),
    *("default_root_dir", "enable_progress_bar", "enable_model_summary", "enable_checkpointing", "inference_mode"),
)  # settings of the group's trainer, equal for all


def trainer_obstacles(given: Namespace) -> list[str]:
    """Return the settings of a trainer that keep a trial from training together with others; empty if none does.

    Settings beside `OWN` and `ALIKE`, such as a strategy, a precision or accumulated gradients, must be Lightning's
    defaults. `obstacles` in `splitlearn.tasks.member` lists what else needs a loop of its own.
    """
    defaults = {name: each.default for name, each in inspect.signature(Trainer.__init__).parameters.items()}
    others = [name for name, _ in given.items() if name in defaults and name not in (*OWN, *ALIKE)]
    found = [f"trainer.{name}" for name in others if given[name] != defaults[name]]
    if not isinstance(given.max_epochs, int) or given.max_epochs < 1:
        found.append("trainer.max_epochs, which must be set")
    return found


def obstacles_of(trial: ConfigTrial, values: Mapping[str, Value], task: LightningModule) -> list[str]:
    """Return what keeps trials from training together; empty if nothing does.

    Args:
        trial: the sweep's trials.
        values: values of a point.
        task: the task of a point.
    """
    settings = trial.parse(values)
    found = ["--cache none"] if trial.features is None else []
    found += trainer_obstacles(settings.trainer)
    if found:
        return found
    without_own_output(settings.trainer)
    try:
        trainer: Any = trainer_of(settings)
    except Exception as error:  # which each trial reports
        return [f"a trainer that cannot be made ({brief(error)})"]
    several = ["several processes of a trial"] if trainer.world_size > 1 else []
    return several + obstacles(task, trainer.callbacks, trainer.loggers)


def largest_group(task: torch.nn.Module, workers: int) -> int:
    """Return how many trials like this may share the memory of a worker, at most 32.

    A trial holds its network and a copy of what is frozen of it, and of what trains gradients and two moments. Half of
    the free memory is left to features, activations and others.
    """
    frozen = sum(tensor.nbytes for tensor in frozen_tensors(task).values())
    whole = sum(tensor.nbytes for tensor in (*task.parameters(), *task.buffers()))
    each = max(1, 2 * frozen + 4 * (whole - frozen))
    return max(1, min(MOST, _free_bytes() // 2 // workers // each))


def _free_bytes() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return UNKNOWN


@dataclass(frozen=True)
class _Made:
    """A trial of a group, ready to train.

    Attributes:
        number: number of the point.
        settings: its parsed settings.
        config: the same as plain data, as they were given.
        member: its task.
        data: its cached features.
        epoch: number of epochs that are done.
        steps: number of training steps that are done.
        rungs: what it had logged at each rung that it has reached, by epoch.
    """

    number: int
    settings: Namespace
    config: dict[str, Any]
    member: Member
    data: Any
    epoch: int
    steps: int
    rungs: dict[int, dict[str, float]]

    @property
    def kind(self) -> str:
        """What trials must share to train together: features and batches, the trainer's settings, and the epoch."""
        trainer = {name: self.config["trainer"].get(name) for name in ALIKE}
        return json.dumps([str(self.data.folder), self.data.batch_size, trainer, self.epoch], default=str)


@dataclass(frozen=True)
class GroupedTrials:
    """Runs trials of a sweep: together those that can be, alone the others; can be sent to other processes.

    Trials train together if they have the same features (network, cut, data), batches and trainer, up to loggers,
    callbacks and gradient clipping; others form groups of their own. After every epoch, the state of each is kept in
    its folder, from where it goes on after a kill or a pause.

    Attributes:
        trial: runs single trials.
    """

    trial: ConfigTrial

    def __call__(self, points: Mapping[int, Mapping[str, Value]], progress: Progress) -> None:
        """Fit, measure and export points, given by number, and tell how each fares.

        Raises TrialLost if a process of a trial was killed, and errors of the storage.
        """
        kinds: dict[str, list[_Made]] = {}
        for number, values in points.items():
            try:
                made = self._made(number, values)
                if made is None:
                    progress.finished(number, SweepTrial(self.trial)(number, values))
                else:
                    kinds.setdefault(made.kind, []).append(made)
            except TrialLost:
                raise
            except Exception as error:
                if shortage(error) == "memory" and len(points) > 1:
                    kinds.clear()
                    self._run_halves({n: points[n] for n in points if n in progress.open}, error, progress)
                    return
                self._ended(number, error, progress)
        for group in kinds.values():
            numbers = [made.number for made in group]
            try:
                self._run(group, progress)
            except Exception as error:
                if progress.has_broken:
                    raise
                group.clear()  # and with it the memory that it takes
                self._run_halves({n: points[n] for n in numbers if n in progress.open}, error, progress)

    def _run_halves(self, points: Mapping[int, Mapping[str, Value]], error: Exception, progress: Progress) -> None:
        """Run what is left of a group in two, since it lacks memory or one of its trials breaks all others."""
        if len(points) < 2:
            for number in points:
                self._ended(number, error, progress)
            return
        numbers = list(points)
        halves = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
        reason = "is too large for the memory" if shortage(error) == "memory" else "has failed"
        print(
            f"a group of {len(numbers)} trials {reason} ({described(error)}): it goes on as two of {len(halves[1])} "
            "or fewer",
            flush=True,
        )
        for half in halves:
            self({number: points[number] for number in half}, progress)

    def _ended(self, number: int, error: Exception, progress: Progress) -> None:
        """Record the error of a trial, and leave no state from which it would go on."""
        if progress.has_broken:
            raise error
        traceback.print_exception(error)
        self._state_file(number).unlink(missing_ok=True)
        progress.failed(number, error)

    def _made(self, number: int, values: Mapping[str, Value]) -> _Made | None:
        """Build a trial; None if it needs a loop of its own."""
        settings = self.trial.parse(values)
        if self.trial.features is None or trainer_obstacles(settings.trainer):
            return None
        config = self.trial.prepared(number, settings)
        task, data, trainer = self.trial.built(settings)
        if trainer.world_size > 1 or obstacles(task, trainer.callbacks, trainer.loggers):
            return None
        clip = settings.trainer.gradient_clip_val, settings.trainer.gradient_clip_algorithm
        member = Member(task, trainer.callbacks, trainer.loggers, *clip)
        kept = self._state(number, config) or {"epoch": 0, "steps": 0, "member": None, "rungs": {}}
        member.state = kept["member"]
        return _Made(number, settings, config, member, data, kept["epoch"], kept["steps"], kept["rungs"])

    def _run(self, group: Sequence[_Made], progress: Progress) -> None:
        """Train trials of one kind together, then measure and export them."""
        first = group[0]
        members = {made.number: made.member for made in group}
        trainer: Any = self._trainer(first)

        def after_epoch(epoch: int, metrics: Mapping[int, Mapping[str, float]]) -> None:
            live = {number: metrics[number] for number in together.live}
            for made in (each for each in group if each.number in live):
                if epoch in progress.rungs:
                    made.rungs[epoch] = dict(live[made.number])
                self._keep(made, epoch, trainer.global_step, live[made.number])
            if epoch in progress.rungs:
                for number in self._left_behind(epoch, live, progress):
                    together.stop(number)

        together = TasksTogether(members, after_epoch)
        for epoch in sorted({epoch for made in group for epoch in made.rungs}):  # a kill may have come before
            told = {m.number: m.rungs[epoch] for m in group if epoch in m.rungs and m.member.is_live}
            for number in self._left_behind(epoch, told, progress):
                members[number].is_live = False
        if not together.live:
            return
        if first.epoch < trainer.max_epochs:
            trainer.logger = MembersLoggers({made.number: made.member.loggers for made in group})
            begin_at(trainer, first.epoch, first.steps)
            trainer.fit(together, first.data)
        else:
            for member in members.values():
                member.load_trained()
        steps = trainer.global_step if first.epoch < trainer.max_epochs else first.steps
        self._report_errors(group, progress)
        logged = {number: dict(member.metrics) for number, member in together.live.items()}
        if not logged:
            return
        self._trainer(first).test(together, HeldOutImages(first.data), verbose=False)
        self._report_errors(group, progress)
        found = together.metrics()
        for made in group:
            if made.member.is_live:
                tested = {n.removeprefix("test/"): v for n, v in found[made.number].items() if n.startswith("test/")}
                measured = {f"val/{name}": value for name, value in tested.items()}
                self._finish(made, logged[made.number], measured, steps, progress)

    def _left_behind(self, epoch: int, metrics: Mapping[int, Mapping[str, float]], progress: Progress) -> list[int]:
        """Tell what trials have reached at a rung; return the numbers of those that do not go on now."""
        found = progress.reached(epoch, metrics) if epoch in progress.rungs else {}
        for number, following in found.items():
            if following is Next.STOP:
                self._state_file(number).unlink(missing_ok=True)
        return [number for number, following in found.items() if following is not Next.GO_ON]

    def _finish(
        self, made: _Made, logged: dict[str, float], measured: dict[str, float], steps: int, progress: Progress
    ) -> None:
        task, loggers = made.member.task, made.member.loggers
        try:
            metrics = self.trial.finish(made.number, task, logged, measured, made.config, loggers, steps)
        except Exception as error:
            self._ended(made.number, error, progress)
            return
        progress.finished(made.number, metrics, made.member.seconds)
        self._state_file(made.number).unlink(missing_ok=True)

    def _report_errors(self, group: Iterable[_Made], progress: Progress) -> None:
        for made in group:
            if made.member.error is not None and made.number in progress.open:
                self._ended(made.number, made.member.error, progress)

    def _trainer(self, made: _Made) -> Any:
        """Return a trainer with the settings of a trial that are alike in its group."""
        settings = made.settings.clone()
        settings.trainer.logger, settings.trainer.callbacks, settings.trainer.gradient_clip_val = False, None, None
        trainer: Any = trainer_of(settings)
        trainer.callbacks += [KeepFreedMemory(), StopsAtOnce()]
        return trainer

    def _state_file(self, number: int) -> Path:
        return self.trial.folder(number) / STATE

    def _keep(self, made: _Made, epoch: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Write the state of a trial after an epoch."""
        state = {"config": fingerprint(made.config), "epoch": epoch, "steps": steps, "rungs": made.rungs}
        state["member"] = made.member.state_dict(metrics)
        WholeFileIO().save_checkpoint(state, self._state_file(made.number))

    def _state(self, number: int, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the state from which a trial goes on; None if there is none of this config that can be read."""
        file = self._state_file(number)
        if not file.is_file():
            return None
        try:
            state: dict[str, Any] = WholeFileIO().load_checkpoint(file)
            return state if state["config"] == fingerprint(config) else None
        except Exception as error:  # it is begun anew
            print(f"{file} cannot be read ({described(error)}): trial {number} begins anew", flush=True)
            return None


def begin_at(trainer: Any, epoch: int, steps: int) -> None:
    """Let a new trainer of tasks that train together begin with a later epoch, after so many steps."""
    loop = trainer.fit_loop
    for progress in (loop.epoch_progress.total, loop.epoch_progress.current):
        progress.ready = progress.started = progress.processed = progress.completed = epoch
    total = loop.epoch_loop.manual_optimization.optim_step_progress.total
    total.ready = total.completed = steps
    loop.epoch_loop._batches_that_stepped = steps  # by which loggers count
