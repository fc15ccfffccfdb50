"""Analyses of networks, of features at a cut, and of codecs and exits: numbers only."""

from splitlearn.analysis.activations import Activations, ActivationsError, read_activations
from splitlearn.analysis.codec_comparison import CodecRow, compare_codecs, package_codecs, with_static_tables
from splitlearn.analysis.coefficients import QuantizedZeros, coefficients, quantized_zeros
from splitlearn.analysis.correlation import AxisCorrelation, axis_correlation, difference_distributions, differences
from splitlearn.analysis.detector_profile import core_modules
from splitlearn.analysis.device_macs import device_macs
from splitlearn.analysis.distribution import Distribution, distribution
from splitlearn.analysis.entropy import ContextEntropy, context_entropies, min_max_entropies
from splitlearn.analysis.exit_scores import ExitScores, ThresholdPoint, score_exits, static_codecs
from splitlearn.analysis.features import CutFeatures, cut_features
from splitlearn.analysis.partition import Partition, partition
from splitlearn.analysis.profile import ModuleProfile, profile_model
from splitlearn.analysis.rate_points import RatePoint, measure_rates
from splitlearn.analysis.relevance import Relevance, class_gradients, most_relevant, relevance
from splitlearn.analysis.spectrum import SpectrumPoint, spectrum_accuracy, truncate_spectrum
from splitlearn.analysis.table_transfer import TableTransfer, transfer_tables

__all__ = [
    "Activations",
    "ActivationsError",
    "AxisCorrelation",
    "CodecRow",
    "ContextEntropy",
    "CutFeatures",
    "Distribution",
    "ExitScores",
    "ModuleProfile",
    "Partition",
    "QuantizedZeros",
    "RatePoint",
    "Relevance",
    "SpectrumPoint",
    "TableTransfer",
    "ThresholdPoint",
    "axis_correlation",
    "class_gradients",
    "coefficients",
    "compare_codecs",
    "context_entropies",
    "core_modules",
    "cut_features",
    "device_macs",
    "difference_distributions",
    "differences",
    "distribution",
    "measure_rates",
    "min_max_entropies",
    "most_relevant",
    "package_codecs",
    "partition",
    "profile_model",
    "quantized_zeros",
    "read_activations",
    "relevance",
    "score_exits",
    "spectrum_accuracy",
    "static_codecs",
    "transfer_tables",
    "truncate_spectrum",
    "with_static_tables",
]
