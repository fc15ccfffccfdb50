"""A task that trains together with others, and what it needs to do so as if it were alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning import Callback, LightningModule
from lightning.pytorch.core.optimizer import _init_optimizers_and_lr_schedulers
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch import Tensor
from torch.optim import Optimizer

from splitlearn.models import frozen_tensors

__all__ = ["Member", "RandomState", "obstacles"]

OWN_LOOP = (
    *("on_train_batch_start", "on_train_batch_end", "on_validation_batch_start", "on_validation_batch_end"),
    *("on_test_batch_end", "on_before_zero_grad", "on_before_backward", "on_after_backward", "backward"),
    *("on_before_optimizer_step", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping"),
    *("lr_scheduler_step", "configure_model", "on_validation_model_eval", "on_validation_model_train"),
    *("on_test_model_eval", "on_test_model_train", "on_before_batch_transfer", "on_after_batch_transfer"),
    *("transfer_batch_to_device", "train_dataloader", "val_dataloader", "prepare_data"),
)  # hooks of a LightningModule that `TasksTogether` does not call


def obstacles(task: LightningModule, callbacks: Sequence[Callback], loggers: Sequence[Logger]) -> list[str]:
    """Return what keeps a task from training together with others; empty if nothing does.

    It needs a loop of its own if it optimizes manually or overrides a hook in `OWN_LOOP`, or if a callback or logger
    does not state `trains_together = True`, by which a class says that it acts on its task alone. Lightning's CSVLogger
    is known to.
    """
    found = [f"{type(task).__name__}.{name}" for name in OWN_LOOP if is_overridden(name, task, LightningModule)]
    found += [] if task.automatic_optimization else [f"the manual optimization of {type(task).__name__}"]
    others = [*callbacks, *(logger for logger in loggers if type(logger).__name__ != "CSVLogger")]
    return found + [type(each).__name__ for each in others if not getattr(each, "trains_together", False)]


class RandomState:
    """Torch's random state of one member, which is taken up and put down again.

    The first state is that of the moment when the object is made, on the CPU; GPUs begin with the same seed.
    """

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        self.gpu: Tensor | None = None  # not known before the first turn
        self.seed = torch.initial_seed()

    def begin(self, device: torch.device) -> None:
        """Set the generators of CPU and device to this state."""
        torch.set_rng_state(self.cpu)
        if device.type == "cuda":
            if self.gpu is None:
                torch.cuda.manual_seed(self.seed)
            else:
                torch.cuda.set_rng_state(self.gpu, device)

    def end(self, device: torch.device) -> None:
        """Note the state of the generators."""
        self.cpu = torch.get_rng_state()
        if device.type == "cuda":
            self.gpu = torch.cuda.get_rng_state(device)


class Member:
    """A task of a group, with all that is its own.

    Args:
        task: the task, just built, while torch's random state is the one with which it is to train.
        callbacks: its callbacks, beside those that it configures itself.
        loggers: its loggers.
        clip_value: largest norm or value of its gradients, as `gradient_clip_val` of a Trainer; None for no limit.
        clip_algorithm: "norm" or "value"; None is "norm".

    Attributes:
        error: what has ended the task; None while nothing has.
        is_live: whether it trains.
        metrics: what it logged in runs of the Trainer that have ended.
        random: its random state.
        state: state to go on from; None to begin.
        seconds: time that its turns have taken.
    """

    def __init__(
        self,
        task: LightningModule,
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Logger] = (),
        clip_value: float | None = None,
        clip_algorithm: str | None = None,
    ) -> None:
        self.task, self.loggers = task, list(loggers)
        self.random = RandomState()
        configured = task.configure_callbacks()
        own = list(configured) if isinstance(configured, Sequence) else [configured]
        self.callbacks = [c for c in callbacks if type(c) not in {type(each) for each in own}] + own
        self.clip_value, self.clip_algorithm = clip_value, clip_algorithm
        self.error: Exception | None = None
        self.is_live = True
        self.metrics: dict[str, float] = {}
        self.state: Mapping[str, Any] | None = None
        self.seconds = 0.0
        self._optimizers: list[Optimizer] = []
        self._schedulers: list[LRSchedulerConfig] = []

    def call(self, hook: str, *arguments: Any) -> None:
        """Call a hook of the callbacks, and then of the task."""
        for callback in self.callbacks:
            getattr(callback, hook)(self.task.trainer, self.task, *arguments)
        getattr(self.task, hook)(*arguments)

    def make_optimizer(self) -> None:
        """Make optimizer and schedulers as Lightning does.

        Raises:
            ValueError: if the task configures more than one optimizer.
        """
        self._optimizers, self._schedulers = _init_optimizers_and_lr_schedulers(self.task)
        if len(self._optimizers) > 1:
            raise ValueError(f"{type(self.task).__name__} has {len(self._optimizers)} optimizers, and one can be used")

    def step(self, batch: Any, batch_idx: int, is_last: bool) -> None:
        """Train on a batch, in the order of Lightning's automatic optimization."""
        (optimizer,) = self._optimizers

        def closure() -> Any:
            output = self.task.training_step(batch, batch_idx)
            loss = output["loss"] if isinstance(output, Mapping) else output
            optimizer.zero_grad()
            if loss is not None:
                loss.backward()
            if self.clip_value:
                self.task.clip_gradients(optimizer, self.clip_value, self.clip_algorithm)
            return loss

        optimizer.step(closure)
        self._next_rates("step", batch_idx + 1)
        if is_last:
            self._next_rates("epoch", self.task.current_epoch + 1)

    def watch(self, metrics: Mapping[str, float]) -> None:
        """Let schedulers that watch a metric see it, at the end of an epoch.

        Raises:
            ValueError: if it was not logged.
        """
        for config in self._schedulers:
            if config.reduce_on_plateau and (self.task.current_epoch + 1) % config.frequency == 0:
                if (monitor := str(config.monitor)) in metrics:
                    scheduler: Any = config.scheduler
                    scheduler.step(metrics[monitor])
                elif config.strict:
                    raise ValueError(f"ReduceLROnPlateau watches {monitor}, which the task does not log")

    def _next_rates(self, interval: str, count: int) -> None:
        for config in self._schedulers:
            if not config.reduce_on_plateau and config.interval == interval and count % config.frequency == 0:
                scheduler: Any = config.scheduler
                scheduler.step()

    def end(self, error: Exception) -> None:
        """End the task with an error, and let its callbacks undo what they did."""
        self.error, self.is_live = error, False
        for callback in self.callbacks:
            callback.on_exception(self.task.trainer, self.task, error)

    def state_dict(self, metrics: Mapping[str, float]) -> dict[str, Any]:
        """Return what the task needs to go on later, and its metrics: tensors and plain data, no frozen weights."""
        frozen = frozen_tensors(self.task).keys()
        return {
            "task": {name: entry for name, entry in self.task.state_dict().items() if name not in frozen},
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "schedulers": [config.scheduler.state_dict() for config in self._schedulers],
            "random": {"cpu": self.random.cpu, "gpu": self.random.gpu},
            "metrics": dict(metrics),
        }

    def restore(self, device: torch.device) -> None:
        """Go on from `state`, if there is one, once the optimizer is made; torch's random state is set, too."""
        if self.state is None:
            return
        self.load_trained()
        for optimizer, kept in zip(self._optimizers, self.state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        for config, kept in zip(self._schedulers, self.state["schedulers"], strict=True):
            config.scheduler.load_state_dict(kept)
        self.random.cpu, self.random.gpu = (self.state["random"][name] for name in ("cpu", "gpu"))
        self.random.begin(device)

    def load_trained(self) -> None:
        """Take weights, code tables and metrics from `state`, which must be there."""
        assert self.state is not None
        self.task.load_state_dict(self.state["task"], strict=False)
        self.metrics = dict(self.state["metrics"])
