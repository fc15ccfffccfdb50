"""Looking at a network before and after cutting it, and at methods side by side."""

from splitlearn.analysis.command import profile_command
from splitlearn.analysis.comparison import (
    Comparison,
    comparison_table,
    markdown_table,
    plot_comparison,
    write_comparison,
)
from splitlearn.analysis.profile import Complexity, ModuleProfile, complexity, count_macs, profile_model

__all__ = [
    "Comparison",
    "Complexity",
    "ModuleProfile",
    "comparison_table",
    "complexity",
    "count_macs",
    "markdown_table",
    "plot_comparison",
    "profile_command",
    "profile_model",
    "write_comparison",
]
