"""Suppression of warnings that need no action by users."""

from __future__ import annotations

import logging
import warnings

MESSAGES = (
    ".*LeafSpec.*",  # torch is newer than Lightning
    ".*in eval mode at the start of training.*",  # frozen modules stay in eval mode
    ".*does not have many workers.*",  # data in memory need none
    ".*The dirpath has changed.*",  # a test has its own run folder
    ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run keeps its folder of checkpoints
    ".*Experiment logs directory .* exists and is not empty.*",  # which contains the run's folder of checkpoints
    ".*is smaller than the logging interval.*",
)


def quieten() -> None:
    """Hide Lightning's warnings about intended uses, and its advertising, in this process."""
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message)
    messages = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    messages.addFilter(_is_no_advertising)


def _is_no_advertising(record: logging.LogRecord) -> bool:
    return "Tip: For seamless cloud" not in str(record.msg)
