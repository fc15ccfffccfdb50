"""Lightning module that trains a bottleneck to keep the answers of the network around it, without labels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from splitlearn.losses import OutputDistance, RateLoss, VarianceScaledError
from splitlearn.models import CoderModel, CompressionModel, WeightsError, check_name
from splitlearn.models.layer_outputs import in_order, watched
from splitlearn.models.tensor_file import DamagedFileError, read_tensors
from splitlearn.outputs import Features
from splitlearn.shipped import located
from splitlearn.tasks.agreement import ClassAgreement
from splitlearn.tasks.checks import check_weights
from splitlearn.tasks.payload import PayloadTask, ValidationOutput
from splitlearn.tasks.precision import check_precision, full_precision
from splitlearn.tasks.schedules import LRSchedulerCallable, OptimizerCallable
from splitlearn.tasks.student_scores import StudentScores
from splitlearn.tasks.training import estimated_bits, optimizers

Batch = tuple[Tensor | Features, Any]
PREFIX = "bottlenecks."  # of their tensors in an export


@dataclass(frozen=True)
class _Pass:
    """One pass behind the cut: crossing tensors, outputs of the compared layers, and the network's output.

    If the tail did not run, `layers` is empty and `output` is None.
    """

    features: Sequence[Tensor]
    layers: Sequence[Tensor] = ()
    output: Any = None


class SelfDistillationTask(PayloadTask):
    """Trains the bottleneck of a cut network, which is its own teacher; labels are not needed.

        images → head ┬→ features ─────────────────────────────────────→ tail … layer … → output    (no graph)
                      │     ↕ cut_weight                                         ↕ layers     ↕ output_weight
                      └→ encoder → quantize → decoder → features_hat → tail … layer … → output_hat

        loss = cut_weight · criterion at the cut + Σ over layers weight · criterion + output_weight · output_distance
               + label_weight · label_loss + rate_weight · rate(latent)

    Train in two stages. The first has neither `layers` nor `output_distance`: the tail does not run, and if features
    are cached (`TrainFromCache`), a step costs little more than the bottleneck. The second starts from the exported
    bottleneck of the first and compares some layers and the output.

    Validation logs `val/loss`, `val/distillation_loss`, `val/estimated_bits` and `val/agreement`. Testing sends every
    image through its payload and logs `test/bytes_per_image` and `test/agreement`, with the answers of the network
    without bottleneck; with these a rate can be chosen without labels. To test with labels, load the exported
    bottleneck and use a `ClassificationTask` or `DetectionTask`.

    A loss that is NaN or infinite stops the run; checkpoints of earlier epochs remain.

    Args:
        model: cut network with a bottleneck, such as `SplitModel`; torchvision's detectors are not supported.
        layers: weight of each compared layer behind the cut, by its name in the network, e.g. `{features.13: 2.0}`.
        cut_weight: weight of the distance at the cut.
        criterion: distance between two tensors; by default `VarianceScaledError`, with which layers are comparable.
        output_distance: distance between outputs, such as `LogitDivergence`; None compares none.
        output_weight: weight of that distance.
        rate_loss: differentiable approximation of the payload size; None adds none.
        rate_weight: weight of the rate; for `FactorizedRate`, of a bit per element of the latent.
        label_loss: loss of the output for the labels of the data, where there are any, such as
            `torch.nn.CrossEntropyLoss`; None uses none.
        label_weight: weight of that loss.
        agreement: score of the output against the teacher's; by default `ClassAgreement`.
        weights: exported bottleneck of an earlier stage to start from; None starts anew.
        optimizer: makes the optimizer from parameters.
        lr_scheduler: makes the scheduler from the optimizer: OneCycleLR steps every batch, over the run's length by
            default, others every epoch, ReduceLROnPlateau on `val/loss`. None keeps the learning rate.

    Raises:
        TypeError: if the model has no feature coder.
        ValueError: if a weight is negative or not finite, nothing is compared, the network trains or is a torchvision
            detector, or the rate loss does not support the latent.
        CutError: if a layer does not exist behind the cut; the message names the nearest ones.
        FileNotFoundError: if `weights` does not exist.
        WeightsError: if it holds no bottleneck, or one of other shapes.

    Reference:
        Matsubara & Levorato 2020, Sec. 4 (features at the cut); Hinton et al. 2015, Sec. 2 (outputs).
    """

    validates_symbols: ClassVar[bool] = True
    model: CoderModel

    def __init__(
        self,
        model: CompressionModel,
        layers: dict[str, float] | None = None,
        cut_weight: float = 1.0,
        criterion: nn.Module | None = None,
        output_distance: OutputDistance | None = None,
        output_weight: float = 1.0,
        rate_loss: RateLoss | None = None,
        rate_weight: float = 0.0,
        label_loss: nn.Module | None = None,
        label_weight: float = 1.0,
        agreement: StudentScores | None = None,
        weights: str | Path | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(model)
        if not isinstance(model, CoderModel):
            name = type(model).__name__
            raise TypeError(f"a {name} has no bottleneck at a cut that could learn from the network: use a SplitModel")
        if model.net.by_image:
            raise ValueError("torchvision's detectors take images of several sizes: train them in a DistillationTask")
        if not model.frozen:
            raise ValueError(
                f"the network of a {type(model).__name__} trains along, so it is no teacher to keep to: use SplitModel"
            )
        self.layers = dict(layers or {})
        weights_of_terms = {"cut_weight": cut_weight, "output_weight": output_weight, "label_weight": label_weight}
        check_weights(**weights_of_terms, rate_weight=rate_weight, **self.layers)
        for name in self.layers:
            check_name(model.net.tail, name, f"{model.net.name} behind {model.net.at}")
        if not (cut_weight or any(self.layers.values()) or (output_distance is not None and output_weight)):
            raise ValueError("nothing is compared: set cut_weight above 0, or give layers or an output_distance")
        self.cut_weight, self.output_weight = cut_weight, output_weight
        self.criterion = VarianceScaledError() if criterion is None else criterion
        self.output_distance = output_distance
        self.label_loss, self.label_weight = label_loss, label_weight
        self.rate_loss, self.rate_weight = rate_loss, rate_weight
        if rate_loss is not None:
            rate_loss.begin(model.coder.latent_shapes, model.coder.quantizers)
        self.agreement = ClassAgreement() if agreement is None else agreement
        if weights is not None:
            _start_from(model, weights)
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.estimated_bits = estimated_bits(model.coder)

    def forward(self, images: Tensor | Features) -> Any:
        """Return the network's output for images in [0, 1] from the differentiable pass."""
        return self.model(images)

    def setup(self, stage: str) -> None:
        """Check the precision; raises ValueError if weights cannot train in it, or boxes would be rounded."""
        check_precision(self.trainer, self.agreement.of_boxes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch, without its targets."""
        factor = self.model.draw_rate()
        coded = self.model.coded(batch[0])
        if self.global_step == 0:
            self._match_rate(coded.latents)
        needs_tail = bool(self.layers) or self.output_distance is not None or self.label_loss is not None
        given = self._passed(coded.features_hat, needs_tail)
        with torch.no_grad():
            wanted = self._passed(coded.features, needs_tail)
        if batch_idx == 0:
            self._check_varied(wanted)
        distance = self.distance(given, wanted)
        loss = distance + self._of_labels(given.output, batch[1])
        parts = {"train/distillation_loss": distance}
        if self.rate_loss is not None:
            parts["train/rate_loss"] = self.rate_loss.total(coded.latents)
            loss = loss + self.rate_weight * factor * parts["train/rate_loss"]
        if loss.device.type == "cpu" or self.logs_now:  # on a GPU, every check waits for the device
            self._check_finite(loss)
        self.log_losses({**parts, "train/loss": loss}, len(batch[0]))
        return loss / math.sqrt(factor)  # as in TrainingTask

    def distance(self, given: _Pass, wanted: _Pass) -> Tensor:
        """Return the weighted sum of all distances, a scalar."""
        pairs = zip(given.features, wanted.features, strict=True)
        at_cut = [self.criterion(mine, theirs) for mine, theirs in pairs if theirs.is_floating_point()]
        terms = [self.cut_weight * torch.stack(at_cut).mean()]
        for weight, mine, theirs in zip(self.layers.values(), given.layers, wanted.layers, strict=True):
            terms.append(weight * self.criterion(mine, theirs))
        if self.output_distance is not None:
            terms.append(self.output_weight * self.output_distance(given.output, wanted.output))
        return torch.stack(terms).sum()

    def _of_labels(self, output: Any, labels: Any) -> Tensor | float:
        """Return the weighted loss of the output for the labels; raise ValueError if the data have none."""
        if self.label_loss is None:
            return 0.0
        if isinstance(labels, Tensor) and not labels.numel():
            raise ValueError(
                "label_loss needs labels, and the data have none: use data with labels, such as ImageFolder, or leave "
                "label_loss out"
            )
        loss: Tensor = self.label_loss(output, labels)
        return self.label_weight * loss

    def on_validation_epoch_start(self) -> None:
        """Reset the metrics, which an earlier `validate` or `test` may have left in a state that `fit` cannot use."""
        self.agreement.reset()
        if self.estimated_bits is not None:
            self.estimated_bits.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> ValidationOutput:
        """Log losses, agreement and entropy of the symbols; return the symbols for callbacks."""
        size, rate_weight = len(batch[0]), self.rate_weight * self.model.reset_rate()
        with full_precision(self.device):
            coded = self.model.coded(batch[0])
            given, wanted = self._passed(coded.features_hat, True), self._passed(coded.features, True)
            distance = self.distance(given, wanted)
            loss = distance + self._of_labels(given.output, batch[1])
            if self.rate_loss is not None:
                loss = loss + rate_weight * self.rate_loss.total(coded.latents)
        self._check_finite(loss)
        self.agreement.update(given.output, wanted.output)
        self.log("val/distillation_loss", distance, batch_size=size, sync_dist=True)
        self.log("val/loss", loss, batch_size=size, sync_dist=True)
        symbols = self.model.coder.symbols(coded.latents)
        if self.estimated_bits is not None:
            self.estimated_bits.update(symbols)
            self.log("val/estimated_bits", self.estimated_bits, prog_bar=True, batch_size=size)
        return {"symbols": symbols}

    def on_validation_epoch_end(self) -> None:
        """Log the agreement with the network without bottleneck."""
        self.agreement.log_to(self, "val")

    def test_step(self, batch: tuple[Tensor, Any], batch_idx: int) -> None:
        """Log payload sizes, and count the agreement of answers from payloads."""
        with full_precision(self.device):
            prediction = self.predict_and_log_sizes(batch[0])
            wanted = self.model.wanted(batch[0], self.model.features(batch[0]))
            self.agreement.update(prediction, self.model.predict(wanted))

    def on_test_epoch_end(self) -> None:
        """Log the agreement with the network without bottleneck."""
        self.agreement.log_to(self, "test")

    def prepare_data(self) -> None:
        """Refuse `predict` before data are read."""
        if self.trainer.state.fn == "predict":
            self._refuse()

    def _refuse(self, *_: Any) -> Any:
        raise ValueError(
            "a SelfDistillationTask does not know what the network's output means: export the bottleneck, and predict "
            "with it in a ClassificationTask, DetectionTask or SegmentationTask"
        )

    predict_step = _refuse

    def configure_optimizers(self) -> Any:
        """Return the optimizer of the parameters that train, and its scheduler."""
        return optimizers(self, self.optimizer, self.lr_scheduler, "val/loss")

    def _passed(self, features: Sequence[Tensor], needs_tail: bool) -> _Pass:
        if not needs_tail:
            return _Pass(features)
        names = list(self.layers)
        with watched(self.model.net.tail, names) as found:
            output = self.model.net.tail(*features)
        return _Pass(features, in_order(found, names), output)

    def _match_rate(self, latents: Sequence[Tensor]) -> None:
        """Start the rate loss from the first latents, alike in all processes."""
        if self.rate_loss is not None:
            self.rate_loss.match(latents)
            if self.trainer.world_size > 1:
                self.rate_loss.load_state_dict(self.trainer.strategy.broadcast(self.rate_loss.state_dict()))

    def _check_varied(self, wanted: _Pass) -> None:
        """Raise ValueError if a compared tensor of the teacher is constant, since any bottleneck would reproduce it."""
        names = [*[self.model.net.at] * len(wanted.features), *self.layers]
        for name, tensor in zip(names, [*wanted.features, *wanted.layers], strict=True):
            if tensor.is_floating_point() and tensor.numel() > 1 and bool(tensor.min() == tensor.max()):
                raise ValueError(
                    f"{name} gives {float(tensor.flatten()[0]):.3g} everywhere, for all images of a batch, so nothing "
                    "can be learnt from it: check the network's weights and normalization, or compare another layer"
                )

    def _check_finite(self, loss: Tensor) -> None:
        if not bool(loss.isfinite().all()):
            raise ValueError(
                f"the loss is {float(loss.detach())} at step {self.global_step}: lower the learning rate, or check "
                "weights and normalization of the network; checkpoints of earlier epochs are intact (--ckpt_path last)"
            )


def _start_from(model: CoderModel, weights: str | Path) -> None:
    """Load the weights of an exported bottleneck; its quantizer and code tables are not taken over."""
    path = located(Path(weights).expanduser())
    if not path.is_file():
        raise FileNotFoundError(
            f"no bottleneck at {path.absolute()}: run the stage that exports it, or leave weights out"
        )
    try:
        metadata, tensors = read_tensors(path)
    except DamagedFileError as error:
        raise WeightsError(str(error)) from error
    units = model.coder.bottlenecks
    found = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    mine = {name: tuple(tensor.shape) for name, tensor in units.state_dict().items()}
    if mine != {name: tuple(tensor.shape) for name, tensor in found.items()}:
        raise WeightsError(
            f"{path} holds {'another' if found else 'no'} bottleneck{_told(metadata)}: give the file that "
            f"`splitlearn export` wrote for the same bottleneck at {model.net.at} of {model.net.name}"
        )
    units.load_state_dict(found)


def _told(metadata: Mapping[str, str]) -> str:
    """Return the cut that the metadata of an export name, in words; empty if they name none."""
    try:
        manifest = json.loads(metadata["manifest"])
        return f", made for {str(manifest['split'])[:80]} of {str(manifest['backbone'])[:80]}"
    except (KeyError, TypeError, ValueError, RecursionError):
        return ""
