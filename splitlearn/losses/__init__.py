"""Terms of the training loss: rates of latents, and distances between features."""

from splitlearn.losses.base import RateLoss
from splitlearn.losses.distillation import FeatureDistillation
from splitlearn.losses.entropy import EntropyRate
from splitlearn.losses.factorized import FactorizedRate
from splitlearn.losses.l1 import L1Rate

__all__ = ["EntropyRate", "FactorizedRate", "FeatureDistillation", "L1Rate", "RateLoss"]
