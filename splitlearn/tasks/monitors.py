"""Whether more or less of a metric is better, as far as its name tells."""

from __future__ import annotations

import re

LESS = frozenset({"loss", "bits", "bytes", "error"})
MORE = frozenset({"accuracy", "map", "miou"})


def better_mode(metric: str) -> str | None:
    """Return the mode, `min` or `max`, in which a metric is to be watched; None if its name does not tell.

    Args:
        metric: its name, such as `val/task_loss`.
    """
    words = set(re.findall("[a-z]+", metric.lower()))
    less, more = bool(words & LESS), bool(words & MORE)
    return None if less == more else "min" if less else "max"
