"""Looking at a network before and after cutting it, and at methods and codecs side by side."""

from splitlearn.analysis.advice import advice
from splitlearn.analysis.analyze_command import ANALYSES, AnalysisError, analyze_command
from splitlearn.analysis.codec_comparison import CodecRow, compare_codecs, package_codecs, with_static_tables
from splitlearn.analysis.codec_report import (
    codec_markdown,
    codec_table,
    plot_codecs,
    print_codecs,
    processor,
    write_codecs,
)
from splitlearn.analysis.codecs_command import Activations, ActivationsError, codecs_command, read_activations
from splitlearn.analysis.coefficients import QuantizedZeros, coefficients, quantized_zeros
from splitlearn.analysis.command import profile_command
from splitlearn.analysis.comparison import (
    Comparison,
    comparison_table,
    markdown_table,
    plot_comparison,
    write_comparison,
)
from splitlearn.analysis.correlation import AxisCorrelation, axis_correlation, difference_distributions, differences
from splitlearn.analysis.detector_profile import core_modules
from splitlearn.analysis.distribution import Distribution, distribution
from splitlearn.analysis.entropy import ContextEntropy, context_entropies, min_max_entropies
from splitlearn.analysis.exit_scores import ExitScores, Point, score_exits, static_codecs
from splitlearn.analysis.exits_command import Evaluation, evaluate_exits, exits_command
from splitlearn.analysis.feature_plots import plot_distributions, plot_entropies, plot_spectrum
from splitlearn.analysis.feature_report import write_quantiles, write_records
from splitlearn.analysis.features import CutFeatures, cut_features
from splitlearn.analysis.layer_plots import plot_parameters, plot_sizes
from splitlearn.analysis.partition import Partition, partition
from splitlearn.analysis.profile import Complexity, ModuleProfile, complexity, count_macs, profile_model
from splitlearn.analysis.rate_points import RatePoint, measure_rates, plot_rates, rates_markdown
from splitlearn.analysis.relevance import Relevance, class_gradients, most_relevant, relevance
from splitlearn.analysis.spectrum import SpectrumPoint, spectrum_accuracy, truncate_spectrum
from splitlearn.analysis.table_transfer import TableTransfer, transfer_tables
from splitlearn.analysis.video import VideoError, read_video

__all__ = [
    "ANALYSES",
    "Activations",
    "ActivationsError",
    "AnalysisError",
    "AxisCorrelation",
    "CodecRow",
    "Comparison",
    "Complexity",
    "ContextEntropy",
    "CutFeatures",
    "Distribution",
    "Evaluation",
    "ExitScores",
    "ModuleProfile",
    "Partition",
    "Point",
    "QuantizedZeros",
    "RatePoint",
    "Relevance",
    "SpectrumPoint",
    "TableTransfer",
    "VideoError",
    "advice",
    "analyze_command",
    "axis_correlation",
    "class_gradients",
    "codec_markdown",
    "codec_table",
    "codecs_command",
    "coefficients",
    "compare_codecs",
    "comparison_table",
    "complexity",
    "context_entropies",
    "core_modules",
    "count_macs",
    "cut_features",
    "difference_distributions",
    "differences",
    "distribution",
    "evaluate_exits",
    "exits_command",
    "markdown_table",
    "measure_rates",
    "min_max_entropies",
    "most_relevant",
    "package_codecs",
    "partition",
    "plot_codecs",
    "plot_comparison",
    "plot_distributions",
    "plot_entropies",
    "plot_parameters",
    "plot_rates",
    "plot_sizes",
    "plot_spectrum",
    "print_codecs",
    "processor",
    "profile_command",
    "profile_model",
    "quantized_zeros",
    "rates_markdown",
    "read_activations",
    "read_video",
    "relevance",
    "score_exits",
    "spectrum_accuracy",
    "static_codecs",
    "transfer_tables",
    "truncate_spectrum",
    "with_static_tables",
    "write_codecs",
    "write_comparison",
    "write_quantiles",
    "write_records",
]
