"""Who trains, and what is logged, when a part of a network learns to give what another network's layers give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning import Callback, LightningModule
from torch import Tensor, nn

from splitlearn.losses import FactorizedRate, RateLoss
from splitlearn.models import CompressionModel, Normalize, check_name, freeze, thaw
from splitlearn.models.cutting import is_detector
from splitlearn.models.images import like
from splitlearn.models.layer_outputs import Kept, changed_output, in_order, layer_outputs, watched
from splitlearn.outputs import Boxes
from splitlearn.quantizers import Quantizer
from splitlearn.tasks.checkpoints import OwnFiles
from splitlearn.tasks.checks import check_weights
from splitlearn.tasks.keep_frozen import KeepFrozen
from splitlearn.tasks.precision import check_precision, full_precision
from splitlearn.tasks.schedules import LRSchedulerCallable, OptimizerCallable, SameSchedule
from splitlearn.tasks.student_scores import StudentScores
from splitlearn.tasks.training import optimizers
from splitlearn.uncast import widened

Batch = tuple[Tensor | Sequence[Tensor], Tensor | list[Boxes]]


class DistillationTask(LightningModule):
    """Train parts of a student to give what a teacher's layers give; the teacher needs no labels, and runs no further.

        images ┬→ teacher, frozen: … layer → … layer → stop
               │                      ↕ loss      ↕ loss
               └→ student:  [new part] → … layer → stop

        loss = sum over pairs of criterion(student's layer, teacher's layer) + rate_weight · rate(latent)

    The student is the teacher with a bottleneck in place of a block: see `replaced`. Head network distillation pairs
    that block alone; the generalised form pairs the blocks behind it too, through which gradients pass although they
    stay as they are. Both networks are in eval mode; only modules that are named in `trains` train and count in batch
    norm.

    Validation logs `val/distillation_loss`, and the scores of the whole student; mixed precision is off in it, which
    would round a detector's boxes. The student is tested by way of payloads as part of a `SplitModel`, in a
    `DetectionTask` or `ClassificationTask`, from the file that `splitlearn export` writes.

    Args:
        teacher: a trained network. It is no part of checkpoints.
        model: the student. It may share modules that stay as they are with the teacher, but none that trains.
        pairs: names of a layer of the teacher and one of the student that is to give the same, each a tensor that no
            layer behind it overwrites.
        trains: names of the student's modules that train; a pair must depend on each of their parameters.
        criterion: distance of two tensors; by default the sum of squares, as in the authors' code.
        normalize: applied to images in [0, 1] before both; None if they take them so, as detectors do. A student that
            is a `CompressionModel` has its own.
        rate_at: the student's layer whose output is the latent, no further back than the last of the pairs; the layers
            behind it see it quantized.
        quantizer: of the latent; None leaves it as it is.
        rate_loss: stand-in for the latent's bytes; `FactorizedRate` if the student is a `SplitModel`.
        rate_weight: weight of the rate.
        scores: of the student's output in validation; None leaves it at the loss, and the student stops where it does
            in training.
        optimizer: makes the optimizer from parameters.
        lr_scheduler: makes the scheduler from the optimizer. OneCycleLR steps every batch and is given the run's length
            unless it has one; any other steps every epoch. None keeps the learning rate.
        warmup_steps: batches in which the learning rate rises from a thousandth, as a line; not with OneCycleLR, which
            has a rise of its own.

    Raises:
        ValueError: if there are no pairs, or nothing trains, or what trains is the teacher's too, or there is a rate
            without a latent, one that doesn't fit it, or of negative weight.
        CutError: if there is no layer of a name; the message names the nearest ones.

    Reference:
        Matsubara & Levorato 2020, Sec. 4, for one pair (HND); Matsubara & Levorato 2021, ICPR 2020, for several (GHND).
    """

    def __init__(
        self,
        teacher: nn.Module,
        model: nn.Module,
        pairs: list[tuple[str, str]],
        trains: list[str],
        criterion: nn.Module | None = None,
        normalize: Normalize | None = None,
        rate_at: str | None = None,
        quantizer: Quantizer | None = None,
        rate_loss: RateLoss | None = None,
        rate_weight: float = 0.0,
        scores: StudentScores | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        if not pairs or not trains:
            raise ValueError("a distillation needs pairs of layers, and names of the student's modules that train")
        if rate_at is None and (quantizer is not None or rate_loss is not None):
            raise ValueError("quantizer and rate_loss need rate_at: name the student's layer whose output is sent")
        check_weights(rate_weight=rate_weight)
        self.teacher_layers = [name for name, _ in pairs]
        self.student_layers = [name for _, name in pairs]
        here = [*self.student_layers, *trains, *([] if rate_at is None else [rate_at])]
        for network, names in ((teacher, self.teacher_layers), (model, here)):
            for name in names:
                check_name(network, name)
        _check_not_shared(teacher, model, trains)
        if rate_loss is not None:
            _begin(rate_loss, model)
        self._teacher = (freeze(teacher),)  # in a tuple, or it would be a part of this module's state
        self.model = freeze(model)
        self.trains = trains
        for name in trains:
            thaw(model.get_submodule(name)).train()  # Lightning leaves every module in the mode it finds it in
        self.criterion = nn.MSELoss(reduction="sum") if criterion is None else criterion
        self.normalize = normalize
        self.rate_at, self.quantizer = rate_at, quantizer
        self.rate_loss, self.rate_weight = rate_loss, rate_weight
        self.scores = scores
        self.optimizer, self.lr_scheduler, self.warmup_steps = optimizer, lr_scheduler, warmup_steps
        self._all_learn = False

    @property
    def teacher(self) -> nn.Module:
        """The network that is imitated."""
        return self._teacher[0]

    def forward(self, images: Tensor | Sequence[Tensor]) -> Any:
        """Return the whole student's output, its latent quantized."""
        with self._coded():
            return self.model(self._taken(images, self.model))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch; of its targets nothing is needed."""
        images, size = batch[0], len(batch[0])
        with self._coded() as latents:
            given = layer_outputs(self.model, self.student_layers, self._taken(images, self.model))
        if self.rate_at is not None and not latents:
            raise ValueError(
                f"the student stops at the last of its paired layers, which is not behind rate_at, {self.rate_at}: "
                "pair a layer behind that too, or leave rate_at out"
            )
        distance = self.distance(given, self._wanted(images))
        loss, parts = distance, {"train/distillation_loss": distance}
        if self.rate_loss is not None:
            rate = self.rate_loss(latents[0].unchanged())
            parts["train/rate_loss"] = rate
            loss = loss + self.rate_weight * rate
        self.log_dict(parts, batch_size=size)
        self.log("train/loss", loss, prog_bar=True, batch_size=size)
        if not loss.requires_grad:
            self._check_all_learn()
        return loss

    def on_after_backward(self) -> None:
        """Refuse parts that are to train and learn nothing, after the first batch."""
        if not self._all_learn:
            self._check_all_learn()
            self._all_learn = True

    def _check_all_learn(self) -> None:
        for part in self.trains:
            for name, parameter in self.model.get_submodule(part).named_parameters():
                if parameter.requires_grad and parameter.grad is None:
                    raise ValueError(
                        f"{part}.{name} is to train, but no paired layer depends on it, so it learns nothing: pair a "
                        f"layer behind it, or name less than {part} in `trains`"
                    )

    def distance(self, given: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """Return the sum of the distances of the pairs, a scalar.

        Raises:
            ValueError: if layers of a pair have different shapes.
        """
        terms = []
        names = zip(self.student_layers, self.teacher_layers, strict=True)
        for mine, theirs, (my_name, their_name) in zip(given, wanted, names, strict=True):
            if mine.shape != theirs.shape:
                raise ValueError(
                    f"the teacher's {their_name} gives {tuple(theirs.shape[1:])} an image and the student's {my_name} "
                    f"{tuple(mine.shape[1:])}: pair layers of one shape, or give the new part other widths"
                )
            terms.append(self.criterion(widened(mine), widened(theirs)))
        return torch.stack(terms).sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the distillation loss, and count the student's output."""
        images, size = batch[0], len(batch[0])
        with full_precision(self.device):
            taken = self._taken(images, self.model)
            with self._coded():
                if self.scores is None:
                    given = layer_outputs(self.model, self.student_layers, taken)
                else:
                    with watched(self.model, self.student_layers) as found:
                        output = self.model(taken)
                    given = in_order(found, self.student_layers)
                    self.scores.update(output, batch[1])
            loss = self.distance(given, self._wanted(images))
        self.log("val/distillation_loss", loss, prog_bar=True, batch_size=size, sync_dist=True)

    def setup(self, stage: str) -> None:
        """Refuse a precision that spoils what is learnt.

        Raises:
            ValueError: if the weights are to be of such.
        """
        boxes = is_detector(self.teacher) or (self.scores is not None and self.scores.of_boxes)
        check_precision(self.trainer, boxes)

    def on_validation_epoch_end(self) -> None:
        """Log the student's scores."""
        if self.scores is not None:
            found = {f"val/{name}": value.to(self.device) for name, value in self.scores.compute().items()}
            self.log_dict(found, prog_bar=True, sync_dist=True)  # the same in every process
            self.scores.reset()

    def prepare_data(self) -> None:
        """Refuse `test` and `predict` before any data are read."""
        if self.trainer.state.fn in ("test", "predict"):
            self._refuse()

    def _refuse(self, *_: Any) -> Any:
        raise ValueError(
            "a DistillationTask only trains: export the student, and test it in a SplitModel in a task of what it does"
        )

    test_step = predict_step = _refuse

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks that keep frozen networks as they are, and a resumed run to its schedule and files."""
        return [KeepFrozen(self), SameSchedule(), OwnFiles()]

    def configure_optimizers(self) -> Any:
        """Return the optimizer over what trains, and its schedulers."""
        return optimizers(self, self.optimizer, self.lr_scheduler, "val/distillation_loss", self.warmup_steps)

    def train(self, mode: bool = True) -> DistillationTask:
        """Set the mode of what trains; it lies in modules that stay in eval mode, and so does not hear of it."""
        super().train(mode)
        for name in self.trains:
            self.model.get_submodule(name).train(mode)
        return self

    def _taken(self, images: Tensor | Sequence[Tensor], network: nn.Module) -> Any:
        normalize = None if isinstance(network, CompressionModel) else self.normalize
        weight = like(network)
        if isinstance(images, Tensor):
            typed = images.to(weight)
            return typed if normalize is None else normalize(typed)
        each = [image.to(weight) for image in images]
        return each if normalize is None else [normalize(image) for image in each]

    def _wanted(self, images: Tensor | Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return layer_outputs(self.teacher, self.teacher_layers, self._taken(images, self.teacher))

    @contextmanager
    def _coded(self) -> Iterator[list[Kept]]:
        """Quantize the student's latent while it runs, and keep it as it was before."""
        latents: list[Kept] = []
        at = self.rate_at
        with ExitStack() as stack:
            if at is not None:

                def change(latent: Tensor) -> Tensor:
                    latents.append(Kept.of(at, latent))
                    return latent if self.quantizer is None else self.quantizer(latent)

                stack.enter_context(changed_output(self.model, at, change))
            yield latents

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DistillationTask:
        """Take the teacher along to a device, a type or a memory format."""
        self.teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def _check_not_shared(teacher: nn.Module, model: nn.Module, trains: Sequence[str]) -> None:
    """Refuse to train what the teacher uses too: `replaced`, say, changes the network that it is given."""
    theirs = {id(parameter) for parameter in teacher.parameters()}
    for part in trains:
        for name, parameter in model.get_submodule(part).named_parameters():
            if id(parameter) in theirs:
                raise ValueError(
                    f"{part}.{name} is to train, and is a part of the teacher too: make the student from a copy, "
                    "replaced(copy.deepcopy(teacher), …) say"
                )


def _begin(rate_loss: RateLoss, model: nn.Module) -> None:
    """Tell a rate loss what a `SplitModel` sends; of no other student is this known before it runs."""
    if (coder := getattr(model, "coder", None)) is not None:
        rate_loss.begin(coder.latent_shapes, coder.quantizers)
    elif isinstance(rate_loss, FactorizedRate) and not rate_loss.levels:
        raise ValueError(
            f"FactorizedRate must know the latent's channels and step, and a {type(model).__name__} does not tell "
            "them: make the student a SplitModel, or take L1Rate or EntropyRate"
        )
