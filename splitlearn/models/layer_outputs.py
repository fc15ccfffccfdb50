"""What named layers of a network give, without running what lies behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from splitlearn.models.cutting import check_name

__all__ = ["Kept", "changed_output", "layer_outputs", "watched"]


class _Enough(Exception):
    """All layers have been seen."""


@dataclass(frozen=True)
class Kept:
    """What a layer has given, and whether it is still that: layers that work in place overwrite their input.

    Attributes:
        layer: its name.
        output: what it has given.
        version: how often torch had seen that memory change by then.
    """

    layer: str
    output: Tensor
    version: int

    @classmethod
    def of(cls, layer: str, output: Any) -> Kept:
        """Keep an output that has just been made; a copy in inference mode, where torch counts no changes.

        Raises:
            ValueError: it is no tensor.
        """
        if not isinstance(output, Tensor):
            raise ValueError(f"{layer} gives a {type(output).__name__}, and a tensor is needed: name a layer inside it")
        return cls(layer, output.clone(), 0) if output.is_inference() else cls(layer, output, output._version)

    def unchanged(self) -> Tensor:
        """Return the output.

        Raises:
            ValueError: it was overwritten.
        """
        if not self.output.is_inference() and self.output._version != self.version:
            raise ValueError(
                f"the output of {self.layer} is overwritten by a layer behind it that works in place, such as "
                "ReLU(inplace=True): name the layer behind it instead"
            )
        return self.output


def layer_outputs(model: nn.Module, layers: Sequence[str], images: Any) -> list[Tensor]:
    """Run a network as far as it takes to know the outputs of some of its layers.

    Of a detector only the backbone runs, if the layers lie there.

    Args:
        model: any network.
        layers: dotted names; each gives a tensor. Of a layer that runs more than once, the first output counts.
        images: what the network takes.

    Returns:
        Their outputs, in the order of the names.

    Raises:
        CutError: there is no such layer; the message names the nearest ones.
        ValueError: a layer takes no part in the pass, gives no tensor, or one that a later layer overwrites.
    """
    with watched(model, layers) as found:
        stops = [model.get_submodule(name).register_forward_hook(_stop_if_all(found, layers)) for name in set(layers)]
        try:
            model(images)
        except _Enough:
            pass
        finally:
            for stop in stops:
                stop.remove()
    return in_order(found, layers)


def in_order(found: dict[str, Kept], layers: Sequence[str]) -> list[Tensor]:
    """Return the outputs that `watched` has found, in the order of names.

    Raises:
        ValueError: a layer took no part in the pass, or its output was overwritten.
    """
    if absent := [name for name in layers if name not in found]:
        raise ValueError(f"{absent[0]} takes no part in the network's pass, so it has no output: name another layer")
    return [found[name].unchanged() for name in layers]


@contextmanager
def watched(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Kept]]:
    """Keep the outputs of layers in a dict, by name, while a network runs; `in_order` reads them.

    Args:
        model: any network.
        layers: dotted names; each gives a tensor.

    Raises:
        CutError: there is no such layer.
    """
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
    """Give what lies behind a layer another output than it has made, while a network runs.

    Args:
        model: any network.
        layer: dotted name.
        change: makes the output that is passed on.

    Raises:
        CutError: there is no such layer.
    """
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


def _stop_if_all(found: dict[str, Kept], layers: Sequence[str]) -> Callable[[nn.Module, Any, Any], None]:
    def stop(module: nn.Module, inputs: Any, output: Any) -> None:
        if found.keys() >= set(layers):
            raise _Enough

    return stop
