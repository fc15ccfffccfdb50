"""Frozen convolutions that run together with the batch norms behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from splitlearn.models.freeze import frozen_modules

__all__ = ["fold_norms", "unfold_norms"]


def fold_norms(network: nn.Module) -> int:
    """Let frozen convolutions do the work of the frozen batch norms behind them, and return how many do.

    The outputs stay the same but for rounding, and a pass of a MobileNetV2 takes two thirds of the time, with or
    without a graph. Modules, tensors and the state dict stay as they are, and `unfold_norms` undoes it. A convolution
    whose output has other readers stays as it is, and so does a network that torch.fx cannot trace.
    """
    pairs = _pairs(network)
    for convolution, norm in pairs:
        vars(convolution)["_conv_forward"] = _Folded(convolution, norm)
        vars(norm)["forward"] = _passed_on
    return len(pairs)


def unfold_norms(network: nn.Module) -> None:
    """Let all convolutions and norms run by themselves again."""
    for module in network.modules():
        for name in ("_conv_forward", "forward"):
            if vars(module).get(name) is _passed_on or isinstance(vars(module).get(name), _Folded):
                delattr(module, name)


class _Folded:
    """Replacement of the `_conv_forward` of a convolution, which subclasses that pad their input call too."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        self.convolution, self.norm = convolution, norm
        self.folded: tuple[Tensor, Tensor] | None = None

    def __call__(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the convolution of `(B, C, H, W)` after the norm."""
        if self.folded is None or self.folded[0].device != weight.device:  # a Trainer moves networks after its setup
            self.folded = self._made(weight, bias)
        found: Tensor = nn.Conv2d._conv_forward(self.convolution, features, *self.folded)
        return found

    def _made(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        norm = self.norm
        statistics: tuple[Any, Any, float] = norm.running_mean, norm.running_var, norm.eps  # there, as _pairs has seen
        with torch.inference_mode(False), torch.no_grad():  # weights of inference mode could not be trained through
            made = fuse_conv_bn_weights(weight, bias, *statistics, norm.weight, norm.bias)
            return made[0].detach(), made[1].detach()


def _passed_on(features: Tensor) -> Tensor:
    """Replacement of the `forward` of a norm that a convolution has taken over."""
    return features


class _Tracer(fx.Tracer):
    """Records calls of convolutions and norms, wherever they are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is recorded as one call: also convolutions that pad their input themselves."""
        return isinstance(m, nn.Conv2d) or super().is_leaf_module(m, module_qualified_name)


def _pairs(network: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return each frozen convolution and norm that run once, one behind the other."""
    frozen = {id(network.get_submodule(name)) for name in frozen_modules(network)}
    calls = list(_calls(network))
    uses = Counter(id(module) for module, _ in calls)
    found = []
    for norm, before in calls:
        if not (type(norm) is nn.BatchNorm2d and norm.track_running_stats and isinstance(before, nn.Conv2d)):
            continue
        if all(id(part) in frozen and uses[id(part)] == 1 for part in (norm, before)):
            found.append((before, norm))
    return found


def _calls(network: nn.Module) -> Iterator[tuple[nn.Module, nn.Module | None]]:
    """Yield each module that runs, with the one whose output it takes, if nothing else reads that.

    Networks that torch.fx cannot trace are looked at part by part.
    """
    try:
        graph = _Tracer().trace(network)
    except Exception:  # whatever a network's code raises at values that are not there yet
        for child in network.children():
            yield from _calls(child)
        return
    for node in graph.nodes:
        if node.op == "call_module":
            before = node.args[0] if node.args else None
            module = network.get_submodule(str(node.target))
            if isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1:
                yield module, network.get_submodule(str(before.target))
            else:
                yield module, None
