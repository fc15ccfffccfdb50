"""Silence for what no user can act upon."""

from __future__ import annotations

import logging
import warnings

MESSAGES = (
    ".*LeafSpec.*",  # Lightning meets a newer torch
    ".*in eval mode at the start of training.*",  # frozen for good, as it should be
    ".*does not have many workers.*",  # data in memory need none
    ".*The dirpath has changed.*",  # a test has a run folder of its own
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run keeps its checkpoints where they are
    ".*Experiment logs directory .* exists and is not empty.*",  # with the run's own folder of checkpoints in it
    ".*is smaller than the logging interval.*",
)


def quieten() -> None:
    """Hide warnings about how splitlearn uses Lightning, and Lightning's advertising, in this process."""
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message)
    messages = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    messages.addFilter(lambda record: "litlogger" not in str(record.msg))
