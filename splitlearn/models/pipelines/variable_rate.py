"""Bank of rates: one cut network with several feature coders and a choice of rate per image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from splitlearn.codecs import BudgetError, CodecError
from splitlearn.codecs.base import Payload
from splitlearn.codecs.container import TAGS, as_bytes
from splitlearn.codecs.payload_coder import tag_message, untag_message
from splitlearn.models.coder import FeatureCoder
from splitlearn.models.cutting import Split
from splitlearn.models.freeze import freeze
from splitlearn.models.images import Normalize
from splitlearn.models.modes import deployed
from splitlearn.models.pipelines.cut_model import CutModel, OperatingPoint
from splitlearn.models.pipelines.split_model import SplitModel
from splitlearn.outputs import Features, SplitOutput


class VariableRateModel(CutModel):
    """A frozen network with up to eight feature coders at one cut; each payload names its coder.

                                ┌ encoder 0 → quantize → encode ┐             ┌ decode → dequantize → decoder 0 ┐
        images → normalize → head …                             ╞ payload, i ═╡                               … tail
                                └ encoder 7 → quantize → encode ┘             └ decode → dequantize → decoder 7 ┘

    All rates share the network; a change of rate changes only the coder. With K coders, the rate's number takes
    ⌈log₂ K⌉ of three spare bits of a payload, so payloads are not longer than those of a `SplitModel`. Payloads of
    rate 0 are identical to those of its `SplitModel` (`at_rate(0)`).

    Args:
        net: the cut network; it becomes frozen.
        coders: one for each rate, made for `net`; `splitlearn bank` orders them by ascending payload size.
        points: measured score and mean payload size of each rate, in the order of `coders`.
        rate: number of the rate for `compress`; None for the one with the highest score.
        budget: largest payload of `compress` in bytes; None for no limit.
        normalize: applied to images in [0, 1] before the head; None for no normalization.

    Raises:
        ValueError: if the number of coders is not 1 to 8 or differs from that of points, a coder belongs to another
            network, or rate and budget are out of range or both given.

    Reference:
        Datta et al. 2022, Sec. IV: seven bottlenecks, identified by three bits.
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

    @property
    def rates(self) -> list[FeatureCoder]:
        """The feature coder of each rate, in order."""
        return cast("list[FeatureCoder]", list(self.coders))

    @classmethod
    def of(
        cls,
        models: Sequence[SplitModel],
        points: Sequence[OperatingPoint],
        rate: int | None = None,
        budget: int | None = None,
    ) -> Self:
        """Return the bank of models with the same `Split` and normalization; other arguments as for the class.

        Raises:
            ValueError: as the class, or if normalizations differ.
        """
        if not models:
            raise ValueError(f"a bank holds 1 to {TAGS} rates and a point for each, and there are no models")
        first = models[0]
        if not all(_same(model.normalize, first.normalize) for model in models):
            raise ValueError("the rates of a bank share one normalization: give all models the same")
        return cls(first.net, [model.coder for model in models], points, rate, budget, first.normalize)

    def run(self, images: Tensor | Features) -> SplitOutput:
        """Return the differentiable pass at this model's rate; a budget has no effect, as no bytes are made."""
        features, coder = self.features(images), self.rates[self._best if self.rate is None else self.rate]
        return self._run(coder, features, self.wanted(images, features))

    @deployed
    def compress(
        self, images: Tensor | Sequence[Tensor] | Features, rate: int | None = None, budget: int | None = None
    ) -> list[bytes]:
        """Return one payload per image, at one rate for all or at the best rate within a budget for each.

        With a budget, rates are tried in descending order of score until the payload fits. The head runs once.

        Args:
            images: `(B, 3, H, W)` in [0, 1] or their features; for a detector also B images of any sizes.
            rate: number of the rate; without rate and budget, those of this model.
            budget: largest payload in bytes.

        Raises:
            BudgetError: if an image is larger than the budget at every rate.
            ValueError: if images are not in [0, 1], a latent holds NaN or infinity, the cut refuses their size, or
                rate or budget are out of range or both given.
        """
        rate, budget = (self.rate, self.budget) if rate is None and budget is None else self._checked(rate, budget)
        payloads: list[bytes] = []
        for batch in self._batches(images):
            features = self.features(batch)
            chosen = self._best if rate is None else rate
            payloads += self._at(chosen, features) if budget is None else self._within(budget, features)
        return payloads

    @deployed
    def check_lossless(self, images: Tensor | Sequence[Tensor] | Features) -> None:
        """Raise CodecError if a codec of any rate does not decode its own payload to the same symbols."""
        for batch in self._batches(images):
            features = self.features(batch)
            for coder in self.rates:
                coder.check_lossless(features)

    def _received(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        if not payloads:
            raise ValueError("there are no payloads to decompress")
        rates, plain = zip(*map(self._read, payloads), strict=True)
        coders, numbers = self.rates, sorted(set(rates))
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
        """Return the number of the rate in each payload; only `decompress` detects damage of a valid number.

        Raises:
            CodecError: if a payload is not one of a bank, or names an unknown rate.
        """
        return [self._read(payload)[0] for payload in payloads]

    def at_rate(self, rate: int) -> SplitModel:
        """Return the `SplitModel` of one rate, with the same network and coder; raise ValueError if there is none."""
        self._checked(rate, None)
        coder = self.rates[rate]
        model = SplitModel(self.net, list(coder.quantizers), list(coder.codecs), normalize=self.normalize)
        model.coder = coder
        return model.train(self.training)

    @property
    def switch_bytes(self) -> list[int]:
        """Size in bytes of each rate's own weights, levels and code tables, which a switch to it loads.

        The rates of a `GainModel` share their weights and the density of their tables, and differ in gains alone.
        """
        first, *others = [coder.bottlenecks for coder in self.rates]
        if others and all(units is first for units in others):
            places = list(zip(*(coder.sent_once for coder in self.rates), strict=True))
            own = [place for place in places if not all(np.array_equal(place[0], table) for table in place)]
            return [sum(place[rate].nbytes for place in own) for rate in range(len(self.coders))]
        return [
            sum(t.nbytes for t in coder.bottlenecks.state_dict().values()) + coder.table_bytes for coder in self.rates
        ]

    @property
    def backbone_bytes(self) -> int:
        """Size in bytes of the network's weights, which all rates share."""
        return sum(t.nbytes for t in [*self.net.parameters(), *self.net.buffers()])

    @property
    def table_bytes(self) -> int:
        """Size in bytes of code tables and calibrated levels: of this model's rate, or of all rates with a budget."""
        coders = self.rates
        if self.budget is not None:
            return sum(coder.table_bytes for coder in coders)
        return coders[self._best if self.rate is None else self.rate].table_bytes

    @property
    def _best(self) -> int:
        return self._by_score()[0]

    def _by_score(self) -> list[int]:
        """Return the numbers of the rates in descending order of score; of equal ones the smaller payload first."""
        return sorted(range(len(self.points)), key=lambda i: (-self.points[i].score, self.points[i].bytes_per_image))

    def _at(self, rate: int, features: tuple[Tensor, ...]) -> list[bytes]:
        payloads = self.rates[rate].compress(features)
        return [tag_message(payload, len(features), rate) for payload in payloads]

    def _within(self, budget: int, features: tuple[Tensor, ...]) -> list[bytes]:
        """Return payloads of at most `budget` bytes, each at the highest-scoring rate that fits."""
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
        """Return the rate in a payload, and the payload for that rate's coder."""
        rate, plain = untag_message(as_bytes(payload), len(self.net.dtypes))
        if rate >= len(self.coders):
            raise CodecError(f"the payload is damaged or of another bank: it names rate {rate} of {len(self.coders)}")
        return rate, plain

    def _checked(self, rate: int | None, budget: int | None) -> tuple[int | None, int | None]:
        if rate is not None and budget is not None:
            raise ValueError(f"take a rate or a budget, not both: got rate={rate} and budget={budget}")
        if rate is not None and rate not in range(len(self.coders)):
            raise ValueError(f"this bank has rates 0…{len(self.coders) - 1}, got {rate}")
        if budget is not None and not budget >= 1:
            raise ValueError(f"a budget must be 1 byte or more, got {budget}")
        return rate, budget


def _same(one: Normalize | None, two: Normalize | None) -> bool:
    if one is None or two is None:
        return one is two
    return torch.equal(one.mean, two.mean) and torch.equal(one.std, two.std)
