"""Rate loss: the L1 norm of a latent."""

from __future__ import annotations

from torch import Tensor

from splitlearn.losses.base import RateLoss


class L1Rate(RateLoss):
    """Mean absolute value of the latent: small values quantize to zero, and zeros are cheap.

    The papers write the norm as a sum and do not state over what they average. With N elements in the latent of an
    image, the mean with weight w equals the sum with weight w/N; α of Datta et al., for the sum of one image, is N/w.

    Reference:
        Datta et al. 2022, eq. 1 (L_r); Beysens et al. 2023 (λ_s/N_a · Σ|x|).
    """

    def forward(self, latent: Tensor) -> Tensor:
        """Return mean |latent|, a scalar."""
        return latent.abs().mean()
