"""Looking at a network before and after cutting it."""

from splitlearn.analysis.command import profile_command
from splitlearn.analysis.profile import ModuleProfile, count_macs, profile_model

__all__ = ["ModuleProfile", "count_macs", "profile_command", "profile_model"]
