"""Times of several functions that take turns, so that a busy moment of the machine hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def take_turns(
    functions: Mapping[str, Callable[[Any], object]], items: Sequence[Any], most: Mapping[str, int] | None = None
) -> dict[str, list[float]]:
    """Return milliseconds of each function on each item, one a round; the order rotates, and the first item warms up.

    `most` limits the rounds of those that take fewer.
    """
    wait: Callable[[], None] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    names, most = list(functions), most or {}
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn, item in enumerate(items):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if turn <= most.get(name, turn):
                wait()
                start = time.perf_counter()
                functions[name](item)
                wait()
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: values[1:] for name, values in times.items()}
