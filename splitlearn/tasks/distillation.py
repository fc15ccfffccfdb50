"""Who trains, and what is logged, when a part of a network learns to give what another network's layers give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from splitlearn.losses import RateLoss
from splitlearn.models import CompressionModel, Normalize, check_name, freeze, thaw
from splitlearn.models.layer_outputs import changed_output, in_order, layer_outputs, watched
from splitlearn.outputs import Boxes
from splitlearn.quantizers import Quantizer
from splitlearn.tasks.student_scores import StudentScores
from splitlearn.tasks.training import optimizers

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

    Validation logs `val/distillation_loss`, and the scores of the whole student. It is tested by way of payloads as
    part of a `SplitModel`, in a `DetectionTask` or `ClassificationTask`, from the file that `splitlearn export` writes.

    Args:
        teacher: a trained network. It is no part of checkpoints.
        model: the student.
        pairs: names of a layer of the teacher and one of the student that is to give the same, each a tensor.
        trains: names of the student's modules that train.
        criterion: distance of two tensors; by default the sum of squares, as in the authors' code.
        normalize: applied to images in [0, 1] before both; None if they take them so, as detectors do. A student that
            is a `CompressionModel` has its own.
        rate_at: the student's layer whose output is the latent; the layers behind it see it quantized.
        quantizer: of the latent; None leaves it as it is.
        rate_loss: stand-in for the latent's bytes.
        rate_weight: weight of the rate.
        scores: of the student's output in validation; None leaves it at the loss, and the student stops where it does
            in training.
        optimizer: makes the optimizer from parameters.
        lr_scheduler: makes the scheduler from the optimizer. OneCycleLR steps every batch and is given the run's length
            unless it has one; any other steps every epoch. None keeps the learning rate.
        warmup_steps: batches in which the learning rate rises from a thousandth, as a line.

    Raises:
        ValueError: if there are no pairs, or nothing trains, or a rate without a latent.
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
        self._teacher = (freeze(teacher),)  # in a tuple, or it would be a part of this module's state
        self.model = freeze(model)
        self.teacher_layers = [name for name, _ in pairs]
        self.student_layers = [name for _, name in pairs]
        for network, names in ((teacher, self.teacher_layers), (model, [*self.student_layers, *trains])):
            for name in names:
                check_name(network, name)
        self.trains = trains
        for name in trains:
            thaw(model.get_submodule(name)).train()  # Lightning leaves every module in the mode it finds it in
        self.criterion = nn.MSELoss(reduction="sum") if criterion is None else criterion
        self.normalize = normalize
        self.rate_at, self.quantizer = rate_at, quantizer
        self.rate_loss, self.rate_weight = rate_loss, rate_weight
        self.scores = scores
        self.optimizer, self.lr_scheduler, self.warmup_steps = optimizer, lr_scheduler, warmup_steps
        if rate_at is not None:
            check_name(model, rate_at)

    @property
    def teacher(self) -> nn.Module:
        """The network that is imitated."""
        return self._teacher[0]

    def forward(self, images: Tensor | Sequence[Tensor]) -> Any:
        """Return the whole student's output, its latent quantized."""
        with self._coded({}):
            return self.model(self._taken(images, self.model))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch; of its targets nothing is needed."""
        images, size = batch[0], len(batch[0])
        latents: dict[str, Tensor] = {}
        with self._coded(latents):
            given = layer_outputs(self.model, self.student_layers, self._taken(images, self.model))
        distance = self.distance(given, self._wanted(images))
        loss, parts = distance, {"train/distillation_loss": distance}
        if self.rate_loss is not None:
            rate = self.rate_loss(latents["latent"])
            parts["train/rate_loss"] = rate
            loss = loss + self.rate_weight * rate
        self.log_dict(parts, batch_size=size)
        self.log("train/loss", loss, prog_bar=True, batch_size=size)
        return loss

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
            terms.append(self.criterion(mine, theirs))
        return torch.stack(terms).sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the distillation loss, and count the student's output."""
        images, size = batch[0], len(batch[0])
        taken = self._taken(images, self.model)
        with self._coded({}):
            if self.scores is None:
                given = layer_outputs(self.model, self.student_layers, taken)
            else:
                with watched(self.model, self.student_layers) as found:
                    output = self.model(taken)
                given = in_order(found, self.student_layers)
                self.scores.update(output, batch[1])
        loss = self.distance(given, self._wanted(images))
        self.log("val/distillation_loss", loss, prog_bar=True, batch_size=size, sync_dist=True)

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
        if not isinstance(images, Tensor):
            return list(images)
        return images if self.normalize is None or isinstance(network, CompressionModel) else self.normalize(images)

    def _wanted(self, images: Tensor | Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return layer_outputs(self.teacher, self.teacher_layers, self._taken(images, self.teacher))

    @contextmanager
    def _coded(self, latents: dict[str, Tensor]) -> Iterator[None]:
        """Quantize the student's latent while it runs, and keep it as it was before."""

        def change(latent: Tensor) -> Tensor:
            latents["latent"] = latent
            return latent if self.quantizer is None else self.quantizer(latent)

        with ExitStack() as stack:
            if self.rate_at is not None:
                stack.enter_context(changed_output(self.model, self.rate_at, change))
            yield

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DistillationTask:
        """Take the teacher along to a device, a type or a memory format."""
        self.teacher._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self
