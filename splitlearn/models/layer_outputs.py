"""Outputs of named layers of a network, without running later layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from splitlearn.models.cutting import check_name

__all__ = ["Kept", "changed_output", "layer_outputs", "watched"]


class _AllFound(Exception):
    """The outputs of all layers are known."""


@dataclass(frozen=True)
class Kept:
    """Output of a layer, with torch's version counter, which shows whether a later layer overwrote it in place."""

    layer: str
    output: Tensor
    version: int

    @classmethod
    def of(cls, layer: str, output: Any) -> Kept:
        """Return the record of a new output; in inference mode, where torch counts no changes, of a copy.

        Raises ValueError if it is not a tensor.
        """
        if not isinstance(output, Tensor):
            raise ValueError(f"{layer} gives a {type(output).__name__}, and a tensor is needed: name a layer inside it")
        return cls(layer, output.clone(), 0) if output.is_inference() else cls(layer, output, output._version)

    def unchanged(self) -> Tensor:
        """Return the output; raise ValueError if it was overwritten."""
        if not self.output.is_inference() and self.output._version != self.version:
            raise ValueError(
                f"the output of {self.layer} is overwritten by a layer behind it that works in place, such as "
                "ReLU(inplace=True): name the layer behind it instead"
            )
        return self.output


def layer_outputs(model: nn.Module, layers: Sequence[str], images: Any) -> list[Tensor]:
    """Return the outputs of layers, in the order of their names; the network stops as soon as all are known.

    If a layer runs more than once, its first output counts. Raises CutError if a layer does not exist; ValueError if it
    does not run, or its output is not a tensor or is overwritten by a later layer.
    """
    with watched(model, layers) as found:

        def stop_if_all(module: nn.Module, inputs: Any, output: Any) -> None:
            if found.keys() >= set(layers):
                raise _AllFound

        stops = [model.get_submodule(name).register_forward_hook(stop_if_all) for name in set(layers)]
        try:
            model(images)
        except _AllFound:
            pass
        finally:
            for stop in stops:
                stop.remove()
    return in_order(found, layers)


def in_order(found: dict[str, Kept], layers: Sequence[str]) -> list[Tensor]:
    """Return the outputs that `watched` has recorded, in the order of `layers`.

    Raises ValueError if a layer did not run, or its output was overwritten.
    """
    if absent := [name for name in layers if name not in found]:
        raise ValueError(f"{absent[0]} takes no part in the network's pass, so it has no output: name another layer")
    return [found[name].unchanged() for name in layers]


@contextmanager
def watched(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Kept]]:
    """Record outputs of layers by name while a network runs, for `in_order`; raises CutError if one is missing."""
    for name in layers:
        check_name(model, name)
    found: dict[str, Kept] = {}
    hooks = [model.get_submodule(name).register_forward_hook(_keep(found, name)) for name in dict.fromkeys(layers)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def changed_output(model: nn.Module, layer: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace a layer's output by `change(output)` while a network runs; raises CutError if there is no such layer."""
    check_name(model, layer)
    hook = model.get_submodule(layer).register_forward_hook(lambda _, __, output: change(output))
    try:
        yield
    finally:
        hook.remove()


def _keep(found: dict[str, Kept], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if name not in found:
            found[name] = Kept.of(name, output)

    return keep
