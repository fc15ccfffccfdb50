"""Values of a traced graph's nodes on an example, with tensors reduced to shapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn


@dataclass(frozen=True)
class Shape:
    """Shape of a tensor, recorded in its place so that no activation stays in memory."""

    sizes: tuple[int, ...]


def record(root: nn.Module, graph: fx.Graph, images: Tensor) -> dict[fx.Node, Any]:
    """Run a graph on a batch of images and return the value of every node."""
    recorder = _Recorder(root, graph)
    recorder.run(images.clone())
    return recorder.seen


class _Recorder(fx.Interpreter):
    """Interpreter that keeps the value of every node, with tensors reduced to shapes."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__(root, graph=graph)
        self.seen: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and record it."""
        value = super().run_node(n)
        self.seen[n] = _summary(value)
        return value


def _summary(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Shape(tuple(value.shape))
    if isinstance(value, dict):
        return {key: _summary(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_summary(item) for item in value)
    return value


def has_tensor(value: Any) -> bool:
    """Return whether a recorded value is a tensor or contains one."""
    items = value.values() if isinstance(value, dict) else value
    return isinstance(value, Shape) or (isinstance(value, (dict, tuple)) and any(map(has_tensor, items)))


def tensor_keys(value: Any, keys: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the keys that lead to each tensor of a recorded value."""
    if isinstance(value, Shape):
        return [keys]
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, tuple):
        items = enumerate(value)
    return [found for key, item in items for found in tensor_keys(item, (*keys, key))]


def item_at(value: Any, keys: tuple[Any, ...]) -> Any:
    """Follow `keys` into a recorded value."""
    for key in keys:
        value = value[key]
    return value
