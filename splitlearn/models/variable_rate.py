"""One cut network with several bottlenecks: a bank of rates, of which each image takes its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from splitlearn.codecs import CodecError
from splitlearn.codecs.base import Payload, as_bytes
from splitlearn.codecs.container import TAGS
from splitlearn.models.base import CompressionModel, Normalize
from splitlearn.models.cutting import Split
from splitlearn.models.images import sent
from splitlearn.models.message import tag_message, untag_message
from splitlearn.models.split_model import SplitModel
from splitlearn.outputs import Features, SplitOutput


class BudgetError(ValueError):
    """An image that takes more bytes at every rate than it may have."""


@dataclass(frozen=True)
class RatePoint:
    """What was measured at one rate.

    Attributes:
        score: accuracy, mean average precision, or whatever the rates are weighed by: the higher, the better.
        bytes_per_image: mean payload.
    """

    score: float
    bytes_per_image: float


class VariableRateModel(CompressionModel):
    """A frozen network with up to eight bottlenecks at one cut, and payloads that name theirs.

                                ┌ encoder 0 → quantize → encode ┐             ┌ decode → dequantize → decoder 0 ┐
        images → normalize → head …                             ╞ payload, i ═╡                               … tail
                                └ encoder 7 → quantize → encode ┘             └ decode → dequantize → decoder 7 ┘

    There is one network; a rate is a bottleneck, a quantizer and code tables, and these alone are changed with it. The
    rate's number takes ⌈log₂ K⌉ of three bits that a payload has to spare, so that no payload is longer than that of
    the rate's `SplitModel`; that of rate 0 is the same.

    Args:
        models: one a rate, of one cut network that they share, by rising rate.
        points: what a test of each has measured.
        rate: number of the rate that `compress` takes; None for the one with the highest score.
        budget: bytes that no payload of `compress` may pass; None for no limit.

    Attributes:
        models: as given.
        points: as given.

    Raises:
        ValueError: if there are no models or more than eight, not as many points, several networks, or rate and budget
            are out of range or both given.

    Reference:
        Datta et al. 2022, Sec. IV: seven bottlenecks make a curve, three bits tell which of them was used.
    """

    def __init__(
        self,
        models: Sequence[SplitModel],
        points: Sequence[RatePoint],
        rate: int | None = None,
        budget: int | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= len(models) <= TAGS or len(points) != len(models):
            raise ValueError(
                f"a bank holds 1 to {TAGS} rates and a point for each, got {len(models)} models and {len(points)} "
                "points: leave some out"
            )
        if any(model.net is not models[0].net or not _same(model, models[0]) for model in models):
            raise ValueError(
                "the rates of a bank share one network, one cut and one normalization: make each with the same "
                "Split object"
            )
        self.models = nn.ModuleList(models)
        self.points = tuple(points)
        self.rate, self.budget = self._checked(rate, budget)

    def run(self, images: Tensor | Features) -> SplitOutput:
        """Return the differentiable pass at this model's rate; a budget is of bytes, and this pass has none."""
        return self._models()[self._best if self.rate is None else self.rate].run(images)

    @torch.inference_mode()
    def compress(
        self, images: Tensor | Sequence[Tensor] | Features, rate: int | None = None, budget: int | None = None
    ) -> list[bytes]:
        """Return one payload an image, all at one rate or each at the best that its budget allows.

        Under a budget, rates are tried by falling score until the payload fits. The head runs once; for detectors once
        an image, which may be of any sizes.

        Args:
            images: `(B, 3, H, W)` in [0, 1], or features that the head has made before.
            rate: number of the rate; without it and a budget, this model's own rate or budget.
            budget: bytes that no payload may pass.

        Raises:
            BudgetError: if an image takes more than the budget at every rate.
            ValueError: if these are no images in [0, 1], a latent holds NaN or infinity, the cut refuses their size, or
                rate or budget are out of range or both given.
        """
        rate, budget = (self.rate, self.budget) if rate is None and budget is None else self._checked(rate, budget)
        first = self._models()[0]
        batches: Sequence[Tensor | Features] = (
            [images] if isinstance(images, Features) else sent(images, self.net.input_shape, self.net.by_image)
        )
        payloads: list[bytes] = []
        for batch in batches:
            features = first.features(batch)
            chosen = self._best if rate is None else rate
            payloads += self._at(chosen, features) if budget is None else self._within(budget, features)
        return payloads

    def check_lossless(self, images: Tensor | Sequence[Tensor] | Features) -> None:
        """Refuse codecs that give back other symbols than they were given, at any rate.

        Raises:
            CodecError: if one does.
        """
        for model in self._models():
            model.check_lossless(images)

    @torch.inference_mode()
    def decompress(self, payloads: Sequence[Payload]) -> Any:
        """Return the prediction for a batch of payloads of any rates, in their order; the tail runs once.

        Raises:
            CodecError: if a payload is damaged, names a rate that this bank has not, or cannot come from this rate's
                model; or if the payloads are of images of different sizes, and the network is no detector.
            ValueError: if there are no payloads, or one is no bytes.
        """
        first = self._models()[0]
        if self.net.by_image and payloads:
            return [found for payload in payloads for found in first.predicted(self.features_hat([payload]))]
        return first.predicted(self.features_hat(payloads))

    @torch.inference_mode()
    def features_hat(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the tensors that the tail is given for a batch of payloads, each `(B, …)`; raises as `decompress`."""
        if not payloads:
            raise ValueError("there are no payloads to decompress")
        rates, plain = zip(*map(self._read, payloads), strict=True)
        models, numbers = self._models(), sorted(set(rates))
        groups = [[i for i, rate in enumerate(rates) if rate == number] for number in numbers]
        restored: list[tuple[Tensor, ...]] = [
            models[number].features_hat([plain[i] for i in group])
            for number, group in zip(numbers, groups, strict=True)
        ]
        if len(restored) == 1:
            return restored[0]
        if len({tuple(t.shape[1:] for t in tensors) for tensors in restored}) > 1:
            raise CodecError("these payloads are of images of different sizes: decompress them one size at a time")
        places = torch.tensor([i for group in groups for i in group]).argsort()
        return tuple(torch.cat(tensors)[places.to(tensors[0].device)] for tensors in zip(*restored, strict=True))

    def rates_of(self, payloads: Sequence[Payload]) -> list[int]:
        """Return the number of the rate that each payload names.

        A damaged number shows in `decompress`, or here if there is no such rate.

        Raises:
            CodecError: if a payload is no payload of a bank, or names a rate that this one has not.
        """
        return [self._read(payload)[0] for payload in payloads]

    @property
    def net(self) -> Split:
        """The cut network that all rates share."""
        return self._models()[0].net

    @property
    def switch_bytes(self) -> list[int]:
        """Size of what each rate has of its own, which a switch to it loads: weights, levels and code tables."""
        return [
            sum(t.nbytes for t in model.bottlenecks.state_dict().values()) + model.table_bytes
            for model in self._models()
        ]

    @property
    def backbone_bytes(self) -> int:
        """Size of the network's weights, which all rates share and no switch touches."""
        return sum(t.nbytes for t in [*self.net.parameters(), *self.net.buffers()])

    @property
    def table_bytes(self) -> int:
        """Size of what both sides must share beside weights: that of this model's rate, of all rates under a budget."""
        models = self._models()
        if self.budget is not None:
            return sum(model.table_bytes for model in models)
        return models[self._best if self.rate is None else self.rate].table_bytes

    @property
    def _best(self) -> int:
        return self._by_score()[0]

    def _by_score(self) -> list[int]:
        """Return the rates' numbers by falling score, of equal ones the smaller first."""
        return sorted(range(len(self.points)), key=lambda i: (-self.points[i].score, self.points[i].bytes_per_image))

    def _at(self, rate: int, features: tuple[Tensor, ...]) -> list[bytes]:
        payloads = self._models()[rate].compress_from(features)
        return [tag_message(payload, len(features), rate) for payload in payloads]

    def _within(self, budget: int, features: tuple[Tensor, ...]) -> list[bytes]:
        """Return payloads of at most `budget` bytes, each at the rate of the highest score that has one."""
        smallest = self._at(self._by_score()[0], features)
        for rate in self._by_score()[1:]:
            waiting = [i for i, payload in enumerate(smallest) if len(payload) > budget]
            if not waiting:
                break
            for i, payload in zip(waiting, self._at(rate, tuple(t[waiting] for t in features)), strict=True):
                smallest[i] = min(smallest[i], payload, key=len)
        largest = max(range(len(smallest)), key=lambda i: len(smallest[i]), default=0)
        if smallest and (needed := len(smallest[largest])) > budget:
            raise BudgetError(
                f"image {largest} of the {len(smallest)} in this batch takes {needed} bytes even at the rate that is "
                f"smallest for it, over the budget of {budget}: allow {needed}, or add a lower rate to the bank"
            )
        return smallest

    def _read(self, payload: Payload) -> tuple[int, bytes]:
        """Return the rate that a payload names, and the payload as that rate's model reads it."""
        models = self._models()
        rate, plain = untag_message(as_bytes(payload), len(models[0].net.dtypes))
        if rate >= len(models):
            raise CodecError(f"the payload is damaged or of another bank: it names rate {rate} of {len(models)}")
        return rate, plain

    def _checked(self, rate: int | None, budget: int | None) -> tuple[int | None, int | None]:
        if rate is not None and budget is not None:
            raise ValueError(f"take a rate or a budget, not both: got rate={rate} and budget={budget}")
        if rate is not None and not 0 <= rate < len(self.models):
            raise ValueError(f"this bank has rates 0…{len(self.models) - 1}, got {rate}")
        if budget is not None and budget < 1:
            raise ValueError(f"a budget must be 1 byte or more, got {budget}")
        return rate, budget

    def _models(self) -> list[SplitModel]:
        return cast("list[SplitModel]", list(self.models))


def _same(model: SplitModel, other: SplitModel) -> bool:
    """Return whether two models normalize alike."""
    one, two = model.normalize, other.normalize
    if one is None or two is None:
        return one is two
    return torch.equal(_constants(one), _constants(two))


def _constants(normalize: Normalize) -> Tensor:
    return torch.cat([normalize.mean.flatten(), normalize.std.flatten()])
