"""Quantities on the command line: bandwidths and durations with their units."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from splitlearn.config.messages import UsageError

BITS_PER_SECOND = {"bps": 1.0, "kbps": 1e3, "Mbps": 1e6, "Gbps": 1e9}
MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_QUANTITY = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z]+)\s*")


def bandwidth(option: str, text: str) -> float:
    """Return bits per second of a bandwidth such as 2Mbps, 500kbps or 1Gbps; units in any case.

    Raises:
        UsageError: if the text is no bandwidth, or not positive.
    """
    return _quantity(option, text, {unit.lower(): factor for unit, factor in BITS_PER_SECOND.items()}, "2Mbps", 0)


def duration(option: str, text: str, least: float = -1) -> float:
    """Return milliseconds of a duration such as 20ms, 0.1s or 800us; units in any case.

    Args:
        option: name of the option, with dashes.
        text: value of the option.
        least: milliseconds that it must exceed; by default 0 is allowed.

    Raises:
        UsageError: if the text is no duration, or too short.
    """
    return _quantity(option, text, MILLISECONDS, "20ms", least)


def _quantity(option: str, text: str, units: Mapping[str, float], example: str, above: float) -> float:
    found = _QUANTITY.fullmatch(text)
    if found is not None and (factor := units.get(found[2].lower())) is not None:
        value = float(found[1]) * factor
        if above < value < math.inf:
            return value
    kinds = ", ".join(BITS_PER_SECOND if "bps" in units else units)
    more = " above 0" if above >= 0 else ""
    raise UsageError(f"{option} takes a number{more} with a unit ({kinds}), such as {example}; got {text!r}")
