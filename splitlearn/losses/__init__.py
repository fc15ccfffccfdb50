"""Terms of the training loss: rates of latents, and distances between features or outputs."""

from splitlearn.losses.base import RateLoss
from splitlearn.losses.distillation import FeatureDistillation, VarianceScaledError
from splitlearn.losses.divergence import DetectionDivergence, LogitDivergence, OutputDistance
from splitlearn.losses.entropy import EntropyRate
from splitlearn.losses.factorized import FactorizedRate
from splitlearn.losses.l1 import L1Rate

__all__ = [
    "DetectionDivergence",
    "EntropyRate",
    "FactorizedRate",
    "FeatureDistillation",
    "L1Rate",
    "LogitDivergence",
    "OutputDistance",
    "RateLoss",
    "VarianceScaledError",
]
