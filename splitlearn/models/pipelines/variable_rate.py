"""One cut network with several bottlenecks: a bank of rates, of which each image takes its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor, nn

from splitlearn.codecs import CodecError
from splitlearn.codecs.base import Payload, as_bytes
from splitlearn.codecs.container import TAGS
from splitlearn.models.coder import FeatureCoder
from splitlearn.models.cutting import Split
from splitlearn.models.freeze import freeze
from splitlearn.models.message import tag_message, untag_message
from splitlearn.models.pipelines.base import Normalize
from splitlearn.models.pipelines.cut_model import CutModel
from splitlearn.models.pipelines.split_model import SplitModel
from splitlearn.outputs import Features, SplitOutput


class BudgetError(ValueError):
    """An image that takes more bytes at every rate than it may have."""


@dataclass(frozen=True)
class OperatingPoint:
    """Score and size that a test has measured at one rate of a bank.

    Attributes:
        score: accuracy, mean average precision, or whatever the rates are weighed by: the higher, the better.
        bytes_per_image: mean payload.
    """

    score: float
    bytes_per_image: float


class VariableRateModel(CutModel):
    """A frozen network with up to eight feature coders at one cut, and payloads that name theirs.

                                ┌ encoder 0 → quantize → encode ┐             ┌ decode → dequantize → decoder 0 ┐
        images → normalize → head …                             ╞ payload, i ═╡                               … tail
                                └ encoder 7 → quantize → encode ┘             └ decode → dequantize → decoder 7 ┘

    There is one network; a rate is a coder, and it alone is changed with the rate. The rate's number takes ⌈log₂ K⌉ of
    three bits that a payload has to spare, so that no payload is longer than that of a `SplitModel` with this coder;
    that of rate 0 is the same.

    Args:
        net: the cut network, which is frozen.
        coders: one for each rate, made for `net`, by rising rate.
        points: what a test of each has measured.
        rate: number of the rate that `compress` takes; None for the one with the highest score.
        budget: bytes that no payload of `compress` may pass; None for no limit.
        normalize: applied to images in [0, 1] before the head; None if the network takes them so.

    Attributes:
        coders: as given.
        points: as given.

    Raises:
        ValueError: if there are no coders or more than eight, not as many points, coders of another network, or rate
            and budget are out of range or both given.

    Reference:
        Datta et al. 2022, Sec. IV: seven bottlenecks make a curve, three bits tell which of them was used.
    """

    def __init__(
        self,
        net: Split,
        coders: Sequence[FeatureCoder],
        points: Sequence[OperatingPoint],
        rate: int | None = None,
        budget: int | None = None,
        normalize: Normalize | None = None,
    ) -> None:
        super().__init__(freeze(net), normalize)
        if not 1 <= len(coders) <= TAGS or len(points) != len(coders):
            raise ValueError(
                f"a bank holds 1 to {TAGS} rates and a point for each, got {len(coders)} rates and {len(points)} "
                "points: leave some out"
            )
        if any(coder.net is not net for coder in coders):
            raise ValueError("the rates of a bank share one network and one cut: make each with the same Split object")
        self.coders = nn.ModuleList(coders)
        self.points = tuple(points)
        self.rate, self.budget = self._checked(rate, budget)

    @classmethod
    def of(
        cls,
        models: Sequence[SplitModel],
        points: Sequence[OperatingPoint],
        rate: int | None = None,
        budget: int | None = None,
    ) -> Self:
        """Return the bank of models that share one `Split` and normalize alike; the other arguments are the class's.

        Raises:
            ValueError: as the class, or if they normalize differently.
        """
        if not models:
            raise ValueError(f"a bank holds 1 to {TAGS} rates and a point for each, and there are no models")
        first = models[0]
        if not all(_same(model.normalize, first.normalize) for model in models):
            raise ValueError("the rates of a bank share one normalization: give all models the same")
        return cls(first.net, [model.coder for model in models], points, rate, budget, first.normalize)

    def run(self, images: Tensor | Features) -> SplitOutput:
        """Return the differentiable pass at this model's rate; a budget is of bytes, and this pass has none."""
        features, coder = self.features(images), self._coders()[self._best if self.rate is None else self.rate]
        return self._run(coder, features)

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
        payloads: list[bytes] = []
        for batch in self._batches(images):
            features = self.features(batch)
            chosen = self._best if rate is None else rate
            payloads += self._at(chosen, features) if budget is None else self._within(budget, features)
        return payloads

    @torch.inference_mode()
    def check_lossless(self, images: Tensor | Sequence[Tensor] | Features) -> None:
        """Refuse codecs that give back other symbols than they were given, at any rate.

        Raises:
            CodecError: if one does.
        """
        for batch in self._batches(images):
            features = self.features(batch)
            for coder in self._coders():
                coder.check_lossless(features)

    @torch.inference_mode()
    def features_hat(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        """Return the tensors that the tail is given for payloads of any rates, in their order, each `(B, …)`.

        Raises:
            CodecError: if a payload is damaged, names a rate that this bank has not, or cannot come from this rate's
                coder; or if the payloads are of images of different sizes.
            ValueError: if there are no payloads, or one is no bytes.
        """
        if not payloads:
            raise ValueError("there are no payloads to decompress")
        rates, plain = zip(*map(self._read, payloads), strict=True)
        coders, numbers = self._coders(), sorted(set(rates))
        groups = [[i for i, rate in enumerate(rates) if rate == number] for number in numbers]
        restored: list[tuple[Tensor, ...]] = [
            coders[number].decompress([plain[i] for i in group]) for number, group in zip(numbers, groups, strict=True)
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

    def at_rate(self, rate: int) -> SplitModel:
        """Return the model of one rate alone, which shares network and coder with this one.

        Raises:
            ValueError: if there is no such rate.
        """
        self._checked(rate, None)
        coder = self._coders()[rate]
        model = SplitModel(self.net, list(coder.quantizers), list(coder.codecs), normalize=self.normalize)
        model.coder = coder
        return model.train(self.training)

    @property
    def switch_bytes(self) -> list[int]:
        """Size of what each rate has of its own, which a switch to it loads: weights, levels and code tables."""
        return [
            sum(t.nbytes for t in coder.bottlenecks.state_dict().values()) + coder.table_bytes
            for coder in self._coders()
        ]

    @property
    def backbone_bytes(self) -> int:
        """Size of the network's weights, which all rates share and no switch touches."""
        return sum(t.nbytes for t in [*self.net.parameters(), *self.net.buffers()])

    @property
    def table_bytes(self) -> int:
        """Size of what both sides must share beside weights: that of this model's rate, of all rates under a budget."""
        coders = self._coders()
        if self.budget is not None:
            return sum(coder.table_bytes for coder in coders)
        return coders[self._best if self.rate is None else self.rate].table_bytes

    @property
    def _best(self) -> int:
        return self._by_score()[0]

    def _by_score(self) -> list[int]:
        """Return the rates' numbers by falling score, of equal ones the smaller first."""
        return sorted(range(len(self.points)), key=lambda i: (-self.points[i].score, self.points[i].bytes_per_image))

    def _at(self, rate: int, features: tuple[Tensor, ...]) -> list[bytes]:
        payloads = self._coders()[rate].compress(features)
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
        """Return the rate that a payload names, and the payload as that rate's coder reads it."""
        rate, plain = untag_message(as_bytes(payload), len(self.net.dtypes))
        if rate >= len(self.coders):
            raise CodecError(f"the payload is damaged or of another bank: it names rate {rate} of {len(self.coders)}")
        return rate, plain

    def _checked(self, rate: int | None, budget: int | None) -> tuple[int | None, int | None]:
        if rate is not None and budget is not None:
            raise ValueError(f"take a rate or a budget, not both: got rate={rate} and budget={budget}")
        if rate is not None and not 0 <= rate < len(self.coders):
            raise ValueError(f"this bank has rates 0…{len(self.coders) - 1}, got {rate}")
        if budget is not None and budget < 1:
            raise ValueError(f"a budget must be 1 byte or more, got {budget}")
        return rate, budget

    def _coders(self) -> list[FeatureCoder]:
        return cast("list[FeatureCoder]", list(self.coders))


def _same(one: Normalize | None, two: Normalize | None) -> bool:
    if one is None or two is None:
        return one is two
    return torch.equal(_constants(one), _constants(two))


def _constants(normalize: Normalize) -> Tensor:
    return torch.cat([normalize.mean.flatten(), normalize.std.flatten()])
