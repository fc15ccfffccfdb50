"""One bottleneck for many rates: learnt gains before the quantizer, trained together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from splitlearn.codecs.base import Payload
from splitlearn.codecs.container import TAGS
from splitlearn.codecs.density_rans import DensityRANS
from splitlearn.models.coder import FeatureCoder
from splitlearn.models.modes import deployed
from splitlearn.models.pipelines.cut_model import CoderModel, OperatingPoint
from splitlearn.models.pipelines.split_model import SplitModel
from splitlearn.models.pipelines.variable_rate import VariableRateModel
from splitlearn.outputs import Features
from splitlearn.quantizers.gained import GainedStep


class GainModel(CoderModel):
    """A network with one bottleneck and two to eight rates, each with its own gains.

        images → head → encoder → · gain[r] → round → encode ═ payload, r ═ decode → / gain[r] → decoder → tail

    A rate is one number for each channel of the latent; encoder, decoder and the density of the latent serve all. In
    training a task draws a rate for each batch (`draw_rate`) and multiplies its `rate_weight` with that rate's. All
    rates between the trained ones exist too: `bank` makes a `VariableRateModel` of any.

    Payloads are those of that bank, and name their rate. Without `points`, a higher rate counts as the better one.

    Args:
        model: a split model whose latent one `Step` quantizes. Network, bottleneck and normalization are taken from
            it; its step becomes the gain to start from, its codec is replaced by `DensityRANS`.
        rate_weights: factor of the task's rate weight at each rate, descending, e.g. [4, 2, 1, 0.5].
        rate: number of the rate for validation and `compress`; None for the last.
        budget: largest payload of `compress` in bytes; None for no limit.

    Raises:
        ValueError: if the number of weights is not 2 to 8, they are not positive and descending, other than one float
            tensor crosses the cut, its quantizer is no `Step`, or rate and budget are out of range or both given.

    Reference:
        Cui et al. 2021, "Asymmetric gained deep image compression with continuous rate adaptation", Sec. 3; the
        density is scaled by the gain here.
    """

    def __init__(
        self, model: SplitModel, rate_weights: Sequence[float], rate: int | None = None, budget: int | None = None
    ) -> None:
        super().__init__(model.net, model.normalize)
        weights = [float(weight) for weight in rate_weights]
        falling = all(a > b for a, b in pairwise(weights))
        if not 2 <= len(weights) <= TAGS or not falling or not 0 < weights[-1] <= weights[0] < float("inf"):
            raise ValueError(f"rate_weights are 2 to {TAGS} positive numbers in descending order, got {weights}")
        steps = [getattr(quantizer, "step", None) for quantizer in model.coder.quantizers]
        if len(steps) != 1 or steps[0] is None:
            raise ValueError(
                f"gains need one float tensor that crosses the cut, quantized by Step; here {len(steps)} cross, "
                f"quantized by {', '.join(type(q).__name__ for q in model.coder.quantizers)}"
            )
        self.rate_weights = weights
        [shape], [former] = model.coder.latent_shapes, model.coder.quantizers
        quantizer = GainedStep(shape[0], len(weights), former.levels)
        with torch.no_grad():  # the best step grows with the root of the rate's weight
            root = torch.tensor(weights, dtype=torch.float64).sqrt()
            steps_at = steps[0] * root / root.log().mean().exp()
            quantizer.gains.copy_((1 / steps_at)[:, None].expand_as(quantizer.gains))
        self.coder = model.coder.coded_by([quantizer], [DensityRANS(per_channel=True)])
        self._banked: tuple[object, VariableRateModel] | None = None
        self.rate, self.budget = self.bank()._checked(rate, budget)
        self.reset_rate()

    @property
    def quantizer(self) -> GainedStep:
        """The quantizer with the gains of all rates."""
        [quantizer] = self.coder.quantizers
        assert isinstance(quantizer, GainedStep)
        return quantizer

    def draw_rate(self) -> float:
        """Draw the rate of the next training batch at random, and return the factor of its rate weight."""
        self.quantizer.rate = int(torch.randint(len(self.rate_weights), ()))
        return self.rate_weights[self.quantizer.rate]

    def train(self, mode: bool = True) -> Self:
        """Set the mode; out of training, the differentiable pass is at the rate of `compress`, too."""
        super().train(mode)
        if not mode:
            self.reset_rate()
        return self

    def reset_rate(self) -> float:
        """Put the differentiable pass at the rate of `compress`, and return the factor of its weight."""
        self.quantizer.rate = len(self.rate_weights) - 1 if self.rate is None else self.rate
        return self.rate_weights[self.quantizer.rate]

    @torch.no_grad()
    def coder_at(self, position: float) -> FeatureCoder:
        """Return the coder of one rate, with the same bottleneck objects.

        Args:
            position: number of the rate, or a number between those of two rates.

        Raises:
            ValueError: if it does not lie in 0…rates − 1.
        """
        quantizer = self.quantizer.at(position)
        [codec] = self.coder.codecs
        assert isinstance(codec, DensityRANS)
        gain = quantizer.gain.half().cpu().numpy()
        return self.coder.coded_by([quantizer], [codec.at_gain(gain)])

    def bank(
        self,
        positions: Sequence[float] | None = None,
        points: Sequence[OperatingPoint] | None = None,
        rate: int | None = None,
        budget: int | None = None,
    ) -> VariableRateModel:
        """Return a bank of rates, which share this model's network and bottleneck.

        Args:
            positions: one to eight numbers of rates in ascending order, also between two; None for the trained rates.
            points: measured score and size of each; without them, the score is the place among the rates.
            rate: as in `VariableRateModel`.
            budget: as in `VariableRateModel`.

        Raises:
            ValueError: as `VariableRateModel` and `coder_at`.
        """
        places = list(range(len(self.rate_weights))) if positions is None else list(positions)
        ranked = [OperatingPoint(float(place), 0.0) for place in range(len(places))]
        coders = [self.coder_at(place) for place in places]
        made = VariableRateModel(self.net, coders, ranked if points is None else points, rate, budget, self.normalize)
        return made.train(self.training)

    @property
    def rates(self) -> list[FeatureCoder]:
        """The feature coder of each trained rate, in order."""
        return self._bank.rates

    @property
    def table_bytes(self) -> int:
        """Size in bytes of code tables and gains of this model's rate, sent once."""
        return self.rates[-1 if self.rate is None else self.rate].table_bytes

    @deployed
    def compress(
        self, images: Tensor | Sequence[Tensor] | Features, rate: int | None = None, budget: int | None = None
    ) -> list[bytes]:
        """Return one payload per image; as `VariableRateModel.compress`, with this model's rate and budget."""
        if rate is None and budget is None:
            rate, budget = self.rate, self.budget
        return self._bank.compress(images, rate, budget)

    @deployed
    def check_lossless(self, images: Tensor | Sequence[Tensor] | Features) -> None:
        """Raise CodecError if a codec of any rate does not decode its own payload to the same symbols."""
        self._bank.check_lossless(images)

    @property
    def _bank(self) -> VariableRateModel:
        """The bank of the trained rates, made again when gains or density have changed."""
        own = self.quantizer
        key = (id(own.gains), own.gains._version, own.gains.device, self.coder.codecs, self.training)
        if self._banked is None or self._banked[0] != key:
            self._banked = key, self.bank()
        return self._banked[1]

    def _received(self, payloads: Sequence[Payload]) -> tuple[Tensor, ...]:
        return self._bank._received(payloads)
