"""Advice on where to cut a network, as sentences for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

from splitlearn.analysis.profile import ModuleProfile

Cut: TypeAlias = tuple[ModuleProfile, float, int]
"""A module; elements that a cut after it sends, relative to those of the input; and number of crossing tensors."""


def advice(profiles: Sequence[ModuleProfile], elsewhere: ModuleProfile | None = None) -> str:
    """Return sentences: which cuts send less than the input, where several tensors cross, where a bottleneck helps.

    Args:
        profiles: modules in order of execution; modules with unknown crossing tensors are ignored.
        elsewhere: a module outside `profiles` that sends less than the input, from `smaller_cut`; None if not known.

    Reference:
        Matsubara & Levorato 2020, Secs. 3.2 and 4.
    """
    cuts = [(p, p.relative_crossing, p.crossing_tensors) for p in profiles if p.name]
    known = [(p, size, count) for p, size, count in cuts if size is not None and count is not None]
    if not known:
        return "what would cross is not known of any of these modules: name others by --at, or show more by --depth"
    smaller = [(p, size) for p, size, _ in known if size < 1 and p.relative_macs < 1]
    smaller = smaller or [(p, size) for p, size, _ in known if size < 1]  # behind all of the work, if nowhere else
    if smaller:
        first, last = smaller[0], min(smaller, key=lambda cut: cut[1])
        text = f"cuts send less than the input from {_placed(*first)} on; least at {_placed(*last)}"
        text = text if len(smaller) > 1 else f"of these cuts only {_placed(*first)} sends less than the input"
    else:
        nearest = min(known, key=lambda cut: cut[1])
        text = f"none of these cuts sends less than the input: the nearest is {_placed(*nearest[:2])}"
        if elsewhere is not None and elsewhere.relative_crossing is not None:
            text += f"; of those that are not shown, {_placed(elsewhere, elsewhere.relative_crossing)} does"
    return text + _bottleneck(known, smaller[0][0] if smaller else None) + _branching(known)


def _bottleneck(known: Sequence[Cut], smaller: ModuleProfile | None) -> str:
    """Return where a bottleneck sends less than the input, if that is before the first cut that does so without one."""
    for profile, size, count in known:
        if profile is smaller:
            return ""
        elements = round(profile.output_size / profile.relative_size)  # of the input
        if count == 1 and size >= 1 and len(profile.output_shape) == 3:
            channels, height, width = profile.output_shape
            widest = (elements - 1) // (height * width)
            if widest >= 1:
                where = f"{profile.name} on, behind {100 * profile.relative_macs:.1f} % of the work"
                return f"\nwith a bottleneck a cut sends less from {where}: there, with {widest} of {channels} channels"
    return ""


def _branching(known: Sequence[Cut]) -> str:
    fewest = known[0][2]
    for (before, _, _), (after, _, count) in pairwise(known):
        if count > fewest:
            return (
                f"\nbehind {before.name} the network branches, so that {count} tensors cross at {after.name} in place "
                f"of {fewest}: a bottleneck belongs before the end of {before.name}"
            )
        fewest = min(fewest, count)
    return ""


def _placed(profile: ModuleProfile, size: float) -> str:
    return f"{profile.name} ({size:.2f} of its elements, behind {100 * profile.relative_macs:.1f} % of the work)"
