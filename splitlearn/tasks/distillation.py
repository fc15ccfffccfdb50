"""Lightning module that trains part of a network to reproduce the layers of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning import Callback, LightningModule
from torch import Tensor, nn

from splitlearn.kept_dtypes import widened
from splitlearn.losses import FactorizedRate, RateLoss
from splitlearn.models import CompressionModel, CutModel, Normalize, check_name, freeze, thaw
from splitlearn.models.cutting import is_detector
from splitlearn.models.images import like
from splitlearn.models.layer_outputs import Kept, changed_output, in_order, layer_outputs, watched
from splitlearn.outputs import Boxes
from splitlearn.quantizers import Quantizer
from splitlearn.tasks.checkpoints import ForgetForeignCheckpoints
from splitlearn.tasks.checks import check_weights
from splitlearn.tasks.keep_frozen import KeepFrozen
from splitlearn.tasks.precision import check_precision, full_precision
from splitlearn.tasks.schedules import LRSchedulerCallable, OptimizerCallable, SameSchedule
from splitlearn.tasks.student_scores import StudentScores
from splitlearn.tasks.training import optimizers

Batch = tuple[Tensor | Sequence[Tensor], Tensor | list[Boxes]]


class DistillationTask(LightningModule):
    """Trains parts of a student to reproduce the outputs of a teacher's layers, without labels.

        images ┬→ teacher, frozen: … layer → … layer → stop
               │                      ↕ loss      ↕ loss
               └→ student:  [new part] → … layer → stop

        loss = sum over pairs of criterion(student's layer, teacher's layer) + rate_weight · rate(latent)

    The student is the teacher with a bottleneck in place of a block, for example made by
    `replaced(copy.deepcopy(teacher), …)`. Head network distillation (HND) pairs only that block. The generalised form
    (GHND) also pairs frozen blocks behind it, through which gradients flow. Both networks are in eval mode; only the
    modules in `trains` train and update batch norm. In training, both run only to the last paired layer.

    Validation logs `val/distillation_loss` and the scores of the whole student, without mixed precision, which would
    round a detector's boxes. This task does not test. To test the student with payloads, export it with
    `splitlearn export`, load the file in a `SplitModel`, and test that in a `ClassificationTask` or `DetectionTask`.

    Args:
        teacher: a trained network; checkpoints do not contain it.
        model: the student. It may share frozen modules with the teacher, but no modules that train.
        pairs: (teacher layer, student layer) names whose outputs should be equal; each output is one tensor, not
            changed in place later.
        trains: names of the student's modules that train; every parameter of these modules must affect at least one
            pair.
        criterion: distance between two tensors; by default the sum of squares, as in the authors' code.
        normalize: normalization of images in [0, 1] for both networks; None if they expect such images, as detectors
            do. A student that is a `CompressionModel` normalizes by itself.
        rate_at: layer of the student whose output is the latent, at or before the last paired layer; later layers
            receive the quantized latent.
        quantizer: quantizer of the latent; None does not quantize.
        rate_loss: differentiable approximation of the latent's size. None adds no rate. `FactorizedRate` works only if
            the student is a `SplitModel`, or if its `begin` was called before.
        rate_weight: weight of the rate; with 0, the default, the rate is only logged.
        scores: scores of the student's output in validation; None logs only the loss, and runs the student only to the
            last paired layer.
        optimizer: makes the optimizer from parameters.
        lr_scheduler: makes the scheduler from the optimizer. OneCycleLR steps after every batch, and by default spans
            the whole run. Other schedulers step after every epoch, ReduceLROnPlateau after those with a validation.
            None keeps the learning rate.
        warmup_steps: batches of linear warmup from a thousandth of the learning rate; not with OneCycleLR, which has
            its own warmup.

    Raises:
        ValueError: if there are no pairs, nothing trains, the student has several rates, or a trained parameter belongs
            to the teacher too; or if `quantizer` or `rate_loss` is given without `rate_at`, the rate loss does not fit
            the latent, or `rate_weight` is negative or not finite.
        CutError: if a layer does not exist; the message names the nearest ones.

    Reference:
        Matsubara & Levorato 2020, Sec. 4, for one pair (HND); Matsubara & Levorato, ICPR 2020 (published 2021), for
        several (GHND).
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
        if isinstance(model, CutModel) and len(model.rates) > 1:
            raise ValueError(
                f"a {type(model).__name__} has several rates, of which a DistillationTask would train one: train it in "
                "a SelfDistillationTask or a ClassificationTask"
            )
        if rate_at is None and (quantizer is not None or rate_loss is not None):
            raise ValueError("quantizer and rate_loss need rate_at, the name of the student's layer that is sent")
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
        self._teacher = (freeze(teacher),)  # in a tuple, so that it is no part of this module's state
        self.model = freeze(model)
        self.trains = trains
        for name in trains:
            thaw(model.get_submodule(name)).train()  # Lightning does not change the mode of modules
        self.criterion = nn.MSELoss(reduction="sum") if criterion is None else criterion
        self.normalize = normalize
        self.rate_at, self.quantizer = rate_at, quantizer
        self.rate_loss, self.rate_weight = rate_loss, rate_weight
        self.scores = scores
        self.optimizer, self.lr_scheduler, self.warmup_steps = optimizer, lr_scheduler, warmup_steps
        self._all_learn = False

    @property
    def teacher(self) -> nn.Module:
        """The network whose output is reproduced."""
        return self._teacher[0]

    def forward(self, images: Tensor | Sequence[Tensor]) -> Any:
        """Return the output of the whole student, with its latent quantized."""
        with self._coded():
            return self.model(self._taken(images, self.model))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch, without its targets."""
        images, size = batch[0], len(batch[0])
        with self._coded() as latents:
            given = layer_outputs(self.model, self.student_layers, self._taken(images, self.model))
        if self.rate_at is not None and not latents:
            raise ValueError(
                f"the student runs to the last of its paired layers, which does not follow rate_at, {self.rate_at}: "
                "also pair a later layer, or leave rate_at out"
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
        """Check after the first batch that all parts that train have gradients."""
        if not self._all_learn:
            self._check_all_learn()
            self._all_learn = True

    def _check_all_learn(self) -> None:
        for part in self.trains:
            for name, parameter in self.model.get_submodule(part).named_parameters():
                if parameter.requires_grad and parameter.grad is None:
                    raise ValueError(
                        f"{part}.{name} cannot train, since no paired layer depends on it: pair a later layer, or name "
                        f"a part of {part} in `trains`"
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
                    f"the teacher's {their_name} has shape {tuple(theirs.shape[1:])} and the student's {my_name} "
                    f"{tuple(mine.shape[1:])}: pair layers of equal shape, or change the widths of the new part"
                )
            terms.append(self.criterion(widened(mine), widened(theirs)))
        return torch.stack(terms).sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the distillation loss, and count the student's output in the scores."""
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
        """Check the precision; raises ValueError if weights cannot train in it, or a detector's are not float32."""
        boxes = is_detector(self.teacher) or (self.scores is not None and self.scores.of_boxes)
        check_precision(self.trainer, boxes)

    def on_validation_epoch_end(self) -> None:
        """Log the student's scores."""
        if self.scores is not None:
            self.scores.log_to(self, "val")

    def prepare_data(self) -> None:
        """Refuse `test` and `predict` before data are read."""
        if self.trainer.state.fn in ("test", "predict"):
            self._refuse()

    def _refuse(self, *_: Any) -> Any:
        raise ValueError(
            "a DistillationTask only trains: export the student, and test it as a SplitModel in a ClassificationTask "
            "or DetectionTask"
        )

    test_step = predict_step = _refuse

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks that protect frozen weights, the schedule of a resumed run, and foreign files."""
        return [KeepFrozen(self), SameSchedule(), ForgetForeignCheckpoints()]

    def configure_optimizers(self) -> Any:
        """Return the optimizer of the parameters that train, and its schedulers."""
        return optimizers(self, self.optimizer, self.lr_scheduler, "val/distillation_loss", self.warmup_steps)

    def train(self, mode: bool = True) -> DistillationTask:
        """Set the mode, also of trained modules inside of frozen ones, which stay in eval mode."""
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
        """Quantize the student's latent while the student runs; yield a list of latents before quantization."""
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
        """Move the teacher too, to a device, a type or a memory format."""
        self.teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def _check_not_shared(teacher: nn.Module, model: nn.Module, trains: Sequence[str]) -> None:
    """Refuse to train parameters of the teacher; `replaced`, for example, changes the network that it is given."""
    theirs = {id(parameter) for parameter in teacher.parameters()}
    for part in trains:
        for name, parameter in model.get_submodule(part).named_parameters():
            if id(parameter) in theirs:
                raise ValueError(
                    f"{part}.{name} cannot train, since the teacher uses it too: make the student from a copy, such as "
                    "replaced(copy.deepcopy(teacher), …)"
                )


def _begin(rate_loss: RateLoss, model: nn.Module) -> None:
    """Prepare a rate loss for the latents of a `SplitModel`; those of other students are unknown before they run."""
    if (coder := getattr(model, "coder", None)) is not None:
        rate_loss.begin(coder.latent_shapes, coder.quantizers)
    elif isinstance(rate_loss, FactorizedRate) and not rate_loss.levels:
        raise ValueError(
            f"FactorizedRate needs the latent's channels and step, which a {type(model).__name__} does not state: make "
            "the student a SplitModel, or use L1Rate or EntropyRate"
        )
