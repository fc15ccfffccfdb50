"""Cut network with early exits on the device, trained as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from splitlearn.codecs import Codec, CodecError
from splitlearn.codecs.base import Payload
from splitlearn.codecs.container import as_bytes
from splitlearn.kept_dtypes import keep_types, moved_alone
from splitlearn.models.bottlenecks.bottleneck import BottleneckFactory, Identity
from splitlearn.models.coder import codec_name
from splitlearn.models.cutting import Split
from splitlearn.models.images import Normalize, check_values, device_batches, like
from splitlearn.models.modes import deployed, evaluating
from splitlearn.models.networks.weight_files import is_safetensors
from splitlearn.models.networks.weights import WeightsError, checked_weights
from splitlearn.models.pipelines.confidence import Confidence, MaximumSoftmax
from splitlearn.models.pipelines.device_steps import ExitStep, HeadStep
from splitlearn.models.pipelines.exit_branch import BranchFactory, ExitBranch
from splitlearn.models.pipelines.exit_steps import divide
from splitlearn.models.pipelines.split_model import SplitModel
from splitlearn.models.tensor_file import read_tensors
from splitlearn.outputs import Decisions, ExitOutput, Features
from splitlearn.quantizers import Quantizer
from splitlearn.shipped import located


class EarlyExitModel(SplitModel):
    """A cut network with early exits: an image is classified on the device if an exit is confident, or else sent.

        images → normalize → step → confident? ─ no → step → confident? ─ no → encode ═ payload ═ decode → tail
                                    └─ yes: its class, 0 bytes └─ yes: its class, 0 bytes

    An exit is a small classifier behind a module of the head; there may be several. If an exit is confident about an
    image, the image stops there and costs no bytes. The rest of the head, and the tail, run only on the other images.

    Network and exits train together. In training mode `run` gives the logits of all exits for all images, without
    quantization (the paper quantizes after training). In eval mode, the logits of the tail are computed from quantized
    features.

    Args:
        net: the cut network, from `splitlearn.models.split`; it is not frozen.
        quantizer: floats to symbols; one for all crossing float tensors, or a list with one for each.
        codec: symbols to bytes; one for all crossing float tensors, or a list with one for each.
        exits: names of modules of the head, in any order; None for one exit at the cut.
        num_classes: number of classes; None for the number of outputs of the network.
        threshold: T_c, minimum confidence of an early exit; one for all exits or one for each. At 0 all images leave
            through the first exit, at 1 no image exits early. May be set at any time.
        confidence: confidence measure; by default the probability of the most likely class.
        branch: factory of exit classifiers, called with the shape of the features and the number of classes.
        bottleneck: factory of bottlenecks, called with the shape of the features; by default features are sent
            unchanged.
        normalize: applied to images in [0, 1] before the head; None for no normalization.
        weights: file of `splitlearn export` with the weights of network, exits and bottlenecks.

    Attributes:
        steps: parts of the head; each ends at an exit, except possibly the last one.
        exits: classifiers, in order of execution.
        exit_names: names of the modules that the exits are attached to.
        temperatures: each exit's logits are divided by its temperature before the confidence; 1 unless calibrated.

    Raises:
        CutError: if the module of an exit does not exist or lies behind the cut.
        ValueError: if an exit cannot be attached to its module, a threshold is not in [0, 1], or the network's output
            is not logits of `num_classes` classes.

    Reference:
        Beysens et al. 2023, Secs. III-A and III-B.
    """

    exits_early: ClassVar[bool] = True
    temperatures: Tensor

    def __init__(
        self,
        net: Split,
        quantizer: Quantizer | list[Quantizer],
        codec: Codec | list[Codec],
        exits: list[str] | None = None,
        num_classes: int | None = None,
        threshold: float | list[float] = 0.9,
        confidence: Confidence | None = None,
        branch: BranchFactory = ExitBranch,
        bottleneck: BottleneckFactory = Identity,
        normalize: Normalize | None = None,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__(net, quantizer, codec, bottleneck, normalize)
        self.num_classes = _classes(net, num_classes)
        self.confidence = MaximumSoftmax() if confidence is None else confidence
        self.exit_names, steps, self._shapes = divide(net, [net.at] if exits is None else exits)
        self.steps = Steps(steps)
        self.proof = net.proof.behind(self.steps)
        units = [branch(shape, self.num_classes) for shape in self._shapes]
        self.exits = nn.ModuleList(units).to(like(net).dtype)
        self.register_buffer("temperatures", torch.ones(len(self._shapes), dtype=torch.float32))
        self.threshold = threshold
        if weights is not None:
            self._load(weights)
        self.train()

    @staticmethod
    def _prepared(net: Split) -> Split:
        return net

    def _device_layers(self) -> list[tuple[nn.Module, str]]:
        return [(group, name) for group in (self.steps, self.exits) for name, _ in group.named_children()]

    def device_steps(self) -> list[HeadStep]:
        """Return the steps of the head, each with its exit."""
        found: list[HeadStep] = []
        for number, step in enumerate(self.steps):
            normalize = None if number else self.normalize
            if number < len(self.exits):
                temperature = float(self.temperatures[number])
                found.append(ExitStep(normalize, step, self.exits[number], temperature, self.confidence))
            else:
                found.append(HeadStep(normalize, step))
        return found

    def take_images_of(self, model: Self) -> None:
        """Accept the same images as `model`, the original of this copy with replaced steps."""
        self.proof, self.net.head = model.proof, self.steps

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Keep the dtype of temperatures when the model is cast, because they decide which images exit early."""
        temperatures = self.temperatures
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.temperatures = moved_alone(temperatures, self.temperatures)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        keep_types(state_dict, {f"{prefix}temperatures": self.temperatures})
        super()._load_from_state_dict(state_dict, prefix, *others)

    @property
    def threshold(self) -> float | list[float]:
        """T_c, minimum confidence of an early exit: one for all exits, or one for each."""
        return self._threshold

    @threshold.setter
    def threshold(self, threshold: float | Sequence[float]) -> None:
        each = [float(t) for t in (threshold if isinstance(threshold, Sequence) else [threshold] * len(self.exits))]
        if len(each) != len(self.exits) or not all(0 <= t <= 1 for t in each):
            raise ValueError(
                f"a threshold must lie in [0, 1], one for all {len(self.exits)} exits or one for each; got {threshold}"
            )
        self._threshold = each if isinstance(threshold, Sequence) else each[0]
        self.thresholds = each

    def features(self, images: Tensor | Features) -> tuple[Tensor, ...]:
        """Return the crossing tensors of all images in [0, 1], including those that would exit early.

        Raises:
            ValueError: if given cached features, which are out of date because the head trains.
        """
        if isinstance(images, Features):
            raise _out_of_date()
        crossing: tuple[Tensor, ...] = self.steps(self._normalized(images))
        return crossing

    def run(self, images: Tensor | Features) -> ExitOutput:
        """Return the differentiable pass, with all images through all exits; raises as `features`."""
        features, exits = self._head(images)
        latents = self.coder.encoded(features)
        features_hat = self.coder.restored(latents if self.training else self.coder.quantized(latents))
        floats = tuple(t for t in latents if t.is_floating_point())
        return ExitOutput(self.net.tail(*features_hat), features, floats, features_hat, tuple(exits))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `(B, num_classes)` of each image's exit or of the tail, without making bytes.

        The exit decision has no gradient: `run` is the differentiable pass.
        """
        decisions = self.decide(images)
        if not decisions.features:
            return decisions.logits
        hats = self.coder(decisions.features)
        return decisions.completed(self.net.tail(*hats))

    @torch.no_grad()
    def decide(self, images: Tensor) -> Decisions:
        """Return the device's exit decisions; later steps of the head run only on images that have not exited.

        Raises:
            ValueError: if images are not in [0, 1], or the cut or an exit refuses their size.
        """
        check_values(images)
        with evaluating(self):
            return self._decided(images)

    def _decided(self, images: Tensor) -> Decisions:
        tensors: tuple[Tensor, ...] = (self._normalized(images),)
        count, device = len(images), like(self.net).device
        going = torch.arange(count, device=device)
        exits = torch.full((count,), len(self.exits), device=device)
        logits = torch.full((count, self.num_classes), torch.nan, device=device, dtype=like(self.net).dtype)
        for number, step in enumerate(self.steps):
            tensors = step(*tensors)
            if number == len(self.exits):
                break
            found = self._classified(number, tensors[0])
            sure = self.sure(found, number)
            left = going[sure]
            logits[left], exits[left] = found[sure].to(logits.dtype), number
            if bool(sure.any()):
                going, tensors = going[~sure], tuple(tensor[~sure] for tensor in tensors)
            if not len(going):
                tensors = ()
                break
        return Decisions(logits, exits, exits == len(self.exits), tensors)

    def sure(self, logits: Tensor, number: int) -> Tensor:
        """Return whether an exit's confidence is above its threshold, bool `(B,)`.

        Args:
            logits: output of the exit, `(B, num_classes)`.
            number: index of the exit, from 0.
        """
        threshold = self.thresholds[number]
        confidence: Tensor = self.confidence(logits.float() / self.temperatures[number])
        return confidence > threshold if threshold > 0 else torch.ones_like(confidence, dtype=torch.bool)

    @deployed
    def compress(self, images: Tensor | Sequence[Tensor] | Features) -> list[bytes]:
        """Return one payload per image, empty if it exited early.

        Raises:
            ValueError: if images are not in [0, 1], a latent holds NaN or infinity, or the cut or an exit refuses
                their size.
        """
        if isinstance(images, Features):
            raise _out_of_date()
        batches = device_batches(images, self.net.input_shape)
        return [payload for batch in batches for payload in self.payloads(self._decided(batch))]

    @deployed
    def payloads(self, decisions: Decisions) -> list[bytes]:
        """Return one payload per image, empty if it exited early; raise ValueError if a latent is not finite."""
        full = iter(self.coder.compress(decisions.features) if decisions.features else ())
        return [next(full) if sent else b"" for sent in decisions.sent.tolist()]

    @deployed
    def decompress(self, payloads: Sequence[Payload]) -> Tensor:
        """Return the final logits `(B, num_classes)`; NaN for empty payloads, whose images exited early.

        Raises:
            CodecError: if a payload is damaged, or comes from another model, codec or quantizer; if payloads have
                different image sizes; or if the network computes NaN for a payload that is not empty.
            ValueError: if there are no payloads, or one is not a bytes object.
        """
        places = [i for i, payload in enumerate(payloads) if len(as_bytes(payload))]
        found = super().decompress([payloads[i] for i in places]) if places or not payloads else None
        if found is not None and bool(found.isnan().any()):
            number = places[int(found.isnan().flatten(1).any(1).int().argmax())]
            raise CodecError(
                f"payload {number} makes the network compute NaN, which stands for an empty payload: it is forged, or "
                "the network's weights have diverged"
            )
        if found is not None and len(places) == len(payloads):
            return cast("Tensor", found)
        logits = like(self.net).new_full((len(payloads), self.num_classes), torch.nan)
        if found is not None:
            logits[places] = found.to(logits.dtype)
        return logits

    def tensors(self) -> dict[str, Tensor]:
        """Return all weights by name, those of the network under the names of the uncut network."""
        found = {f"network.{name}": t for half in (self.net.head, self.net.tail) for name, t in _tensors(half)}
        for part, units in (("exits", self.exits), ("bottlenecks", self.coder.bottlenecks)):
            found |= {f"{part}.{name}": t for name, t in _tensors(units)}
        return found | {"temperatures": self.temperatures}

    def _load(self, weights: str | Path) -> None:
        mine = self.tensors()
        found = checked_weights(mine, weights, f"{self.net.name} with exits", unused="codecs.")
        with torch.no_grad():
            for name, tensor in found.items():
                mine[name].copy_(tensor)
        if is_safetensors(path := located(Path(weights).expanduser())):
            self.coder.codecs = _with_tables(self.coder.codecs, path)

    def _normalized(self, images: Tensor) -> Tensor:
        normalized = super()._normalized(images)
        self.proof.check(normalized, self.training)
        return normalized

    def _head(self, images: Tensor | Features) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """Return crossing tensors and the logits of all exits, for all images."""
        if isinstance(images, Features):
            raise _out_of_date()
        tensors: tuple[Tensor, ...] = (self._normalized(images),)
        logits = []
        for number, step in enumerate(self.steps):
            tensors = step(*tensors)
            if number < len(self.exits):
                logits.append(self._classified(number, tensors[0]))
        return tensors, logits

    def _classified(self, number: int, features: Tensor) -> Tensor:
        """Return the logits of an exit; raise ValueError if it does not accept features of this size."""
        try:
            logits: Tensor = self.exits[number](features)
        except RuntimeError as error:
            if tuple(features.shape[1:]) == tuple(self._shapes[number]):
                raise
            raise ValueError(
                f"the exit at {self.exit_names[number]!r} takes features {self._shapes[number]}, these images give "
                f"{tuple(features.shape[1:])}: send images of shape {self.net.input_shape}, or split again with an "
                "example of the new size"
            ) from error
        return logits


class Steps(nn.ModuleList):
    """The parts of a head, run in sequence."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the crossing tensors."""
        tensors: tuple[Tensor, ...] = (images,)
        for step in self:
            tensors = step(*tensors)
        return tensors


def _with_tables(codecs: Sequence[Codec], weights: Path) -> tuple[Codec, ...]:
    """Return codecs with the static tables of an export; unchanged if it has other codecs.

    Raises WeightsError if the file's tables do not fit its codecs.
    """
    metadata, tensors = read_tensors(weights)
    try:
        if json.loads(metadata.get("codecs", "[]")) != list(map(codec_name, codecs)):
            return tuple(codecs)
        tables: list[dict[str, Any]] = [{} for _ in codecs]
        for name, tensor in tensors.items():
            if name.startswith("codecs."):
                _, number, table = name.split(".")
                tables[range(len(codecs))[int(number)]][table] = tensor.numpy()
        return tuple(codec.with_tables(own) if own else codec for codec, own in zip(codecs, tables, strict=True))
    except (ValueError, TypeError, IndexError, RecursionError, ArithmeticError) as error:
        raise WeightsError(f"{weights} holds no valid tables of its codecs, export again: {error}") from error


def _classes(net: Split, wanted: int | None) -> int:
    """Return the number of classes of the network's output, which all exits share; check that of the config."""
    device = like(net).device
    with torch.no_grad():
        facts = zip(net.shapes, net.dtypes, strict=True)
        output = net.eval().tail(*(torch.zeros(1, *shape, dtype=dtype, device=device) for shape, dtype in facts))
    if not isinstance(output, Tensor) or output.ndim != 2:
        form = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f"exits need a network whose output is logits (B, classes), that of {net.name} is {form}")
    if wanted not in (None, output.shape[1]):
        raise ValueError(
            f"the exits have {wanted} classes, and {net.name} has {output.shape[1]}: leave the exits' num_classes out, "
            "or give both the same"
        )
    return int(output.shape[1])


def _out_of_date() -> ValueError:
    return ValueError("this model trains its head, so cached features would be out of date: give it images")


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, t) for name, t in module.state_dict(keep_vars=True).items() if isinstance(t, Tensor)]
