"""Where splitting would help, in words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from splitlearn.analysis.profile import ModuleProfile


def advice(profiles: Sequence[ModuleProfile]) -> str:
    """Say which cuts send less than the image, from where on several tensors cross, and where a bottleneck belongs.

    Args:
        profiles: modules in the order in which they are done; those where nothing is known to cross are passed over.

    Reference:
        Matsubara & Levorato 2020, Secs. 3.2 and 4.
    """
    cuts = [(p, p.relative_crossing, p.crossing_tensors) for p in profiles if p.name]
    known = [(p, size, count) for p, size, count in cuts if size is not None and count is not None]
    if not known:
        return "what would cross is not known of any of these modules: name others by --at, or show more by --depth"
    smaller = [(p, size) for p, size, _ in known if size < 1]
    if smaller:
        first, last = smaller[0], min(smaller, key=lambda cut: cut[1])
        text = f"cuts send less than the input from {_placed(*first)} on; least at {_placed(*last)}"
        text = text if first[0] is not last[0] else f"a cut sends least at {_placed(*last)}"
    else:
        nearest = min(known, key=lambda cut: cut[1])
        text = f"no cut sends less than the input: the nearest is {_placed(*nearest[:2])}"
    fewest = known[0][2]
    for (before, _, _), (after, _, count) in pairwise(known):
        if count > fewest:
            text += (
                f"\nbehind {before.name} the network branches, so that {count} tensors cross at {after.name} in place "
                f"of {fewest}: a bottleneck belongs before the end of {before.name}"
            )
            break
        fewest = min(fewest, count)
    return text


def _placed(profile: ModuleProfile, size: float) -> str:
    return f"{profile.name} ({size:.2f} of its elements, behind {100 * profile.relative_macs:.1f} % of the work)"
