"""Looking at a network before and after cutting it, and at methods and codecs side by side."""

from splitlearn.analysis.codec_comparison import CodecRow, compare_codecs, package_codecs, with_static_tables
from splitlearn.analysis.codec_report import (
    codec_markdown,
    codec_table,
    plot_codecs,
    print_codecs,
    processor,
    write_codecs,
)
from splitlearn.analysis.codecs_command import ActivationsError, codecs_command, read_activations
from splitlearn.analysis.command import profile_command
from splitlearn.analysis.comparison import (
    Comparison,
    comparison_table,
    markdown_table,
    plot_comparison,
    write_comparison,
)
from splitlearn.analysis.profile import Complexity, ModuleProfile, complexity, count_macs, profile_model
from splitlearn.analysis.table_transfer import TableTransfer, transfer_tables

__all__ = [
    "ActivationsError",
    "CodecRow",
    "Comparison",
    "Complexity",
    "ModuleProfile",
    "TableTransfer",
    "codec_markdown",
    "codec_table",
    "codecs_command",
    "compare_codecs",
    "comparison_table",
    "complexity",
    "count_macs",
    "markdown_table",
    "package_codecs",
    "plot_codecs",
    "plot_comparison",
    "print_codecs",
    "processor",
    "profile_command",
    "profile_model",
    "read_activations",
    "transfer_tables",
    "with_static_tables",
    "write_codecs",
    "write_comparison",
]
