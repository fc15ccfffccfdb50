"""Tables, plots and files of results; the only package that draws and writes Markdown, CSV and HTML."""

from splitlearn.latencies import processor
from splitlearn.reporting.advice import advice
from splitlearn.reporting.codec_report import (
    Moves,
    codec_markdown,
    plot_codecs,
    print_codecs,
    transfer_markdown,
    write_codecs,
)
from splitlearn.reporting.comparison import (
    Comparison,
    comparison_markdown,
    comparison_table,
    write_comparison,
)
from splitlearn.reporting.csv_files import write_csv, write_quantiles, write_records
from splitlearn.reporting.feature_plots import plot_distributions, plot_entropies, plot_spectrum
from splitlearn.reporting.figures import figure_file, line_style
from splitlearn.reporting.layer_plots import plot_parameters, plot_sizes
from splitlearn.reporting.markdown import markdown_table
from splitlearn.reporting.model_card import model_card
from splitlearn.reporting.prediction_pictures import Picture, caption_of, picture_of
from splitlearn.reporting.rates import plot_rates, rates_markdown
from splitlearn.reporting.run_report import PicturedImage, ReportedRun, ReportedSweep, write_html_report
from splitlearn.reporting.sweep import (
    CHOSEN_BY_TEST,
    figures_table,
    frontier_table,
    live_table,
    write_report,
)
from splitlearn.reporting.sweep_figures import SweepResults
from splitlearn.reporting.sweep_html import sweep_html

__all__ = [
    "CHOSEN_BY_TEST",
    "Comparison",
    "Moves",
    "Picture",
    "PicturedImage",
    "ReportedRun",
    "ReportedSweep",
    "SweepResults",
    "advice",
    "caption_of",
    "codec_markdown",
    "comparison_markdown",
    "comparison_table",
    "figure_file",
    "figures_table",
    "frontier_table",
    "line_style",
    "live_table",
    "markdown_table",
    "model_card",
    "picture_of",
    "plot_codecs",
    "plot_distributions",
    "plot_entropies",
    "plot_parameters",
    "plot_rates",
    "plot_sizes",
    "plot_spectrum",
    "print_codecs",
    "processor",
    "rates_markdown",
    "sweep_html",
    "transfer_markdown",
    "write_codecs",
    "write_comparison",
    "write_csv",
    "write_html_report",
    "write_quantiles",
    "write_records",
    "write_report",
]
