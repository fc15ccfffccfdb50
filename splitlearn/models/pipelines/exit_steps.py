"""Division of a cut network's head at its exits; each part is proven exact like the cut itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from splitlearn.models.cutting import CutError, Split, legal_cuts, split
from splitlearn.models.cutting.cut import make_batches
from splitlearn.models.cutting.names import nearest


def divide(net: Split, exits: Sequence[str]) -> tuple[list[str], list[nn.Module], list[tuple[int, ...]]]:
    """Cut the head at exits; return their names in order, the parts, and the shape of the features at each.

    If the cut lies behind the last exit, there is one more part than exits.
    """
    if not exits or len(set(exits)) != len(exits):
        raise ValueError(f"name one exit or several, each once; got {list(exits)}")
    names, shapes, steps = _in_order(net, exits), [], []
    head = net.head
    for name in reversed(names):
        if name == net.at:
            shapes.append(net.shapes[0])
            continue
        cut = split(head, name, net.input_shape)
        head = cut.head
        head._forward_pre_hooks.clear()  # the model checks its images once for all parts
        shapes.append(cut.shapes[0])
        steps.append(cut.tail)
    return names, [head, *reversed(steps)], shapes[::-1]


def _in_order(net: Split, exits: Sequence[str]) -> list[str]:
    """Return names of exits in order of execution.

    Raises CutError if a module does not exist before the cut, or never runs.
    """
    before, behind = legal_cuts(net.head), legal_cuts(net.tail)
    for name in exits:
        if name != net.at and name not in before:
            if name in behind:
                raise CutError(f"exit {name!r} lies behind the cut at {net.at!r}: exits stand at the cut or before it")
            raise CutError(f"no module {name!r} for an exit in {net.name}: did you mean {nearest(name, before)}?")
    finished: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: finished.append(name))
        for name, module in net.head.named_modules()
        if name in exits
    ]
    try:
        with torch.no_grad():
            net.head(make_batches(net.head, net.input_shape)[0])
    finally:
        for handle in handles:
            handle.remove()
    order = [name for name in dict.fromkeys(finished) if name != net.at]
    missing = [name for name in exits if name not in order and name != net.at]
    if missing:
        near = nearest(missing[0], [n for n in before if n.startswith(f"{missing[0]}.")])
        raise CutError(f"module {missing[0]!r} is not run as one, so that no exit can stand behind it: try {near}")
    return [*order, *([net.at] if net.at in exits else [])]
