"""Several tasks that train in one `Trainer.fit`, on the same batches, each as if it were alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import torch
from lightning import LightningModule
from lightning.pytorch.loggers import Logger
from torch import nn

from splitlearn.resource_errors import shortage
from splitlearn.tasks.member import Member

__all__ = ["TasksTogether"]


AfterEpoch: TypeAlias = Callable[[int, Mapping[int, Mapping[str, float]]], None]


class TasksTogether(LightningModule):
    """A group of tasks that share a Trainer, its data and its loop; each trains as it would alone, bit for bit.

        batch ─┬→ task 0: loss → backward → optimizer → scheduler
               ├→ task 1: …
               └→ …

    Each task has its own optimizer, scheduler, gradient clipping, callbacks and random numbers: torch's random state is
    exchanged whenever a task's turn comes. What a task logs is logged as `NUMBER/name`. A task that raises an error
    ends alone; a lack of memory ends the group, unless it is a group of one.

    `obstacles` in `splitlearn.tasks.member` lists what needs a loop of its own and cannot be a member. The Trainer must
    have neither gradient clipping nor callbacks of the members; `Member` has them.

    Args:
        members: the tasks by number.
        after_epoch: called after each epoch, and validation, with the number of epochs that are done and the `metrics`
            by then; it may `stop` members.
    """

    def __init__(self, members: Mapping[int, Member], after_epoch: AfterEpoch = lambda epoch, metrics: None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.members = dict(members)
        self.tasks = nn.ModuleDict({str(number): member.task for number, member in members.items()})
        self.steps = nn.Parameter(torch.zeros(1))  # of an optimizer that counts the batches for Lightning
        self._after_epoch = after_epoch
        for number, member in members.items():
            vars(member.task)["log"] = partial(self._log_of, number)

    @property
    def live(self) -> dict[int, Member]:
        """The members that have neither ended with an error nor been stopped."""
        return {number: member for number, member in self.members.items() if member.is_live}

    def metrics(self) -> dict[int, dict[str, float]]:
        """Return the latest value of all that each live member has logged in this run of the Trainer, or before it."""
        found = {number: dict(member.metrics) for number, member in self.live.items()}
        for name, value in self.trainer.callback_metrics.items():
            number, _, rest = name.partition("/")
            if number.isdigit() and int(number) in found:
                found[int(number)][rest] = float(value)
        return found

    def stop(self, number: int) -> None:
        """Let a member train no further."""
        self.members[number].is_live = False
        if not self.live:
            self.trainer.should_stop = True

    def setup(self, stage: str) -> None:
        """Attach the tasks to the Trainer, and set them and their callbacks up."""
        for member in self.live.values():
            member.task.trainer = self.trainer
        self._each("setup", stage)

    def configure_optimizers(self) -> Any:
        """Make the optimizers of the tasks; return one that counts batches."""
        for member in self.live.values():
            with self._turn(member):
                member.make_optimizer()
        return torch.optim.SGD([self.steps])

    def on_fit_start(self) -> None:
        """Call the same of the tasks."""
        self._each("on_fit_start")

    def on_train_start(self) -> None:
        """Restore the state of members that go on, and call the same of the tasks."""
        for member in self.live.values():
            with self._turn(member):
                member.restore(self.device)
        self._each("on_train_start")

    def on_train_epoch_start(self) -> None:
        """Call the same of the tasks."""
        self._each("on_train_epoch_start")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Skip the rest of the epoch if no task is left."""
        return None if any(member.is_live for member in self.members.values()) else -1

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Let each task take a step on the batch."""
        is_last = self.trainer.is_last_batch
        for member in self.members.values():
            if member.is_live:
                with self._turn(member):
                    member.step(batch, batch_idx, is_last)
        self.optimizers().step()  # type: ignore[union-attr]

    def on_train_epoch_end(self) -> None:
        """Call the same of the tasks and let schedulers watch their metrics, then call `after_epoch`."""
        self._each("on_train_epoch_end")
        metrics = self.metrics()
        for number, member in self.live.items():
            with self._turn(member):
                member.watch(metrics[number])
        if self.live:
            self._after_epoch(self.current_epoch + 1, metrics)
        else:
            self.trainer.should_stop = True

    def on_train_end(self) -> None:
        """Call the same of the tasks."""
        self._each("on_train_end")

    def on_fit_end(self) -> None:
        """Call the same of the tasks."""
        self._each("on_fit_end")

    def teardown(self, stage: str) -> None:
        """Call the same of the tasks, after keeping what they have logged."""
        if stage == "fit":
            for number, metrics in self.metrics().items():
                self.members[number].metrics = metrics
        self._each("teardown", stage)

    def on_validation_start(self) -> None:
        """Call the same of the tasks."""
        self._each("on_validation_start")

    def on_validation_epoch_start(self) -> None:
        """Call the same of the tasks."""
        self._each("on_validation_epoch_start")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Let each task validate the batch."""
        for member in self.live.values():
            with self._turn(member):
                outputs = member.task.validation_step(batch, batch_idx)
                member.call("on_validation_batch_end", outputs, batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Call the same of the tasks."""
        self._each("on_validation_epoch_end")

    def on_validation_end(self) -> None:
        """Call the same of the tasks."""
        self._each("on_validation_end")

    def on_test_start(self) -> None:
        """Call the same of the tasks."""
        self._each("on_test_start")

    def on_test_epoch_start(self) -> None:
        """Call the same of the tasks."""
        self._each("on_test_epoch_start")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Let each task test the batch."""
        for member in self.live.values():
            with self._turn(member):
                member.task.on_test_batch_start(batch, batch_idx)
                member.task.test_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Call the same of the tasks."""
        self._each("on_test_epoch_end")

    def on_test_end(self) -> None:
        """Call the same of the tasks."""
        self._each("on_test_end")

    def _each(self, hook: str, *arguments: Any) -> None:
        for member in self.live.values():
            with self._turn(member):
                member.call(hook, *arguments)

    @contextmanager
    def _turn(self, member: Member) -> Iterator[None]:
        """Let a member draw its own random numbers, and end it if it raises an error."""
        member.random.begin(self.device)
        start = time.perf_counter()
        try:
            yield
        except Exception as error:
            if shortage(error) == "memory" and len(self.members) > 1:
                raise
            member.end(error)
        member.seconds += time.perf_counter() - start
        if not self.trainer.sanity_checking:  # after which Lightning, too, takes up the random state from before
            member.random.end(self.device)

    def _log_of(self, number: int, name: str, value: Any, **options: Any) -> None:
        self.log(f"{number}/{name}", value, **options)


class MembersLoggers(Logger):
    """Logger that gives each member's loggers what this member has logged.

    Args:
        loggers: the loggers of each member, by its number.
    """

    def __init__(self, loggers: Mapping[int, Sequence[Logger]]) -> None:
        super().__init__()
        self.loggers = loggers

    @property
    def name(self) -> str | None:
        """None: the members' loggers have names."""
        return None

    @property
    def version(self) -> int | str | None:
        """None, as for the name."""
        return None

    def log_hyperparams(self, *arguments: Any, **named: Any) -> None:
        """Do nothing: a group has no hyper-parameters."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Divide metrics `NUMBER/name` among the members; others, such as the epoch, are for all."""
        own: dict[int, dict[str, float]] = {}
        shared: dict[str, float] = {}
        for name, value in metrics.items():
            number, slash, rest = name.partition("/")
            if slash and number.isdigit():
                own.setdefault(int(number), {})[rest] = value
            else:
                shared[name] = value
        for member, found in own.items():
            for logger in self.loggers[member]:
                logger.log_metrics(found | shared, step)

    def save(self) -> None:
        """Save all."""
        for logger in self._all():
            logger.save()

    def finalize(self, status: str) -> None:
        """Finalize all."""
        for logger in self._all():
            logger.finalize(status)

    def _all(self) -> Iterator[Logger]:
        return (logger for each in self.loggers.values() for logger in each)
