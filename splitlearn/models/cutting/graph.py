"""Division of a traced graph after one node: crossing values and the two halves as modules.

Shared by all tracing methods; a node belongs to the modules in its `nn_module_stack`.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from splitlearn.models.cutting.names import CutError, inside
from splitlearn.models.cutting.record import Shape, has_tensor, item_at, record, tensor_keys


@dataclass(frozen=True)
class Halves:
    """Head and tail of one cut.

    Attributes:
        head: images → tuple of crossing tensors.
        tail: crossing tensors → the model's output.
        baked: whether the tail contains sizes of the example as constants.
    """

    head: nn.Module
    tail: nn.Module
    baked: bool = False


CHECKS = (torch._assert, torch._assert_async, torch.ops.aten._assert_async.msg, torch.ops.aten._assert_async.default)
"""Functions by which a network checks values."""


class TrainingMode(nn.Module):
    """Training mode of a half, as an input of functions in its graph, such as dropout."""

    def forward(self) -> bool:
        """Return the mode."""
        return self.training


def training_mode() -> bool:
    """Placeholder in a traced graph for the mode of the traced module; halves contain `TrainingMode` instead."""
    return False


class HalfGraph(fx.GraphModule):
    """Graph module with copies that keep instance attributes, such as a frozen module's `train`; torch drops them."""

    def __deepcopy__(self, memo: dict[int, Any]) -> HalfGraph:
        copied = super().__deepcopy__(memo)
        assert isinstance(copied, HalfGraph)
        for name in vars(self).keys() - vars(copied).keys():
            setattr(copied, name, copy.deepcopy(vars(self)[name], memo))
        return copied


def half_of(root: nn.Module, graph: fx.Graph, name: str) -> HalfGraph:
    """Return a graph as a module, in which calls of `training_mode` are replaced by the module's own training mode."""
    half = HalfGraph(root, graph, name)
    asking = half.graph.find_nodes(op="call_function", target=training_mode)
    if asking:
        half.add_submodule("_training_mode", TrainingMode().eval())
        for node in asking:
            with half.graph.inserting_before(node):
                node.replace_all_uses_with(half.graph.call_module("_training_mode"))
            half.graph.erase_node(node)
        half.recompile()
    return half


def path_of(node: fx.Node) -> str:
    """Return the dotted name of the module of `node`; empty for the model itself."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return ""
    path: str = next(reversed(stack.values()))[0]
    return path.split("@")[0]  # export marks the second call of a module as name@1


def divide(root: nn.Module, graph: fx.Graph, at: str, batches: Sequence[Tensor]) -> Halves:
    """Cut `graph` after the last value that the module `at` computes from the images.

    Args:
        root: module with the graph's targets; its parameters are shared, not copied.
        graph: one placeholder, the images; nodes carry `nn_module_stack`.
        at: name of the module before the cut; its output crosses first.
        batches: example images `(B, C, H, W)` with different B, to distinguish batch sizes from constants.

    Raises:
        CutError: if a value must cross that is neither a tensor with one row per image nor a size.
    """
    return _Partition(root, graph, at, batches).halves()


def copy_with_ancestors(wanted: Iterable[fx.Node], into: fx.Graph) -> dict[fx.Node, fx.Node]:
    """Copy nodes and their dependencies into a graph, in order; return old node → new node."""
    needed: set[fx.Node] = set()
    stack = list(wanted)
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack.extend(node.all_input_nodes)
    env: dict[fx.Node, fx.Node] = {}
    for node in next(iter(needed)).graph.nodes:
        if node in needed:
            env[node] = into.node_copy(node, env.__getitem__)
    return env


class _Partition:
    """State of one division. A node is early (computed by the head), free (independent of the image) or late."""

    def __init__(self, root: nn.Module, graph: fx.Graph, at: str, batches: Sequence[Tensor]) -> None:
        self.root, self.graph = root, graph
        self.batch_sizes = [len(batch) for batch in batches]
        self.runs = [record(root, graph, batch) for batch in batches]
        self.free = self._find_free()
        self.last = self._find_last(at)
        self.early = self._find_early()
        self.crossing: list[tuple[fx.Node, tuple[Any, ...]]] = []  # node and the keys into its value
        self.placeholders: dict[tuple[fx.Node, tuple[Any, ...]], fx.Node] = {}
        self.baked = False
        self.tail = fx.Graph()
        self.env: dict[fx.Node, Any] = {}

    def _is_tensor(self, node: fx.Node) -> bool:
        return has_tensor(self.runs[0][node])

    def _find_free(self) -> set[fx.Node]:
        """Return values that depend only on weights and sizes; they never cross, the tail computes them again."""
        free: set[fx.Node] = set()
        for node in self.graph.nodes:
            made_of_free = node.op != "placeholder" and all(n in free for n in node.all_input_nodes)
            if node.op != "output" and (not self._is_tensor(node) or made_of_free):
                free.add(node)
        return free

    def _find_last(self, at: str) -> fx.Node:
        nodes = [n for n in self.graph.nodes if n.op != "output" and n not in self.free and inside(path_of(n), at)]
        if not nodes:
            raise CutError("the module makes nothing of the image")
        last: fx.Node = nodes[-1]
        return last

    def _find_early(self) -> set[fx.Node]:
        early: set[fx.Node] = set()
        stack = [self.last]
        while stack:
            node = stack.pop()
            if node not in early:
                early.add(node)
                stack.extend(node.all_input_nodes)
        for node in self.graph.nodes:  # items of containers, so that only the items in use cross
            if node.op == "placeholder" or self._picks(node, early):
                early.add(node)
        return early

    def _picks(self, node: fx.Node, containers: set[fx.Node]) -> bool:
        """Return whether `node` takes an item out of a tuple, list or dict among `containers`."""
        if node.target is not operator.getitem or node.args[0] not in containers:
            return False
        return not isinstance(self.runs[0][node.all_input_nodes[0]], Shape)

    def halves(self) -> Halves:
        """Build both graphs."""
        late = {n: None for n in self.graph.nodes if n not in self.early and n not in self.free}
        used = [
            n
            for n in self.graph.nodes
            if n in self.early and n not in self.free and not late.keys().isdisjoint(n.users)
        ]
        first = [n for n in used if n is self.last or self._picks(n, {self.last})]
        for node in [*(first or [self.last]), *used]:
            self._choose(node)
        for key in self.crossing:
            self.placeholders[key] = self.tail.placeholder(f"crossing_{len(self.placeholders)}")
        for node in late:
            self.env[node] = self.tail.node_copy(node, self._argument)
        for check in self._checks(after=True):
            self.tail.node_copy(check, self._argument)
        return Halves(self._head(), half_of(self.root, self.tail, "Tail"), self.baked)

    def _checks(self, after: bool) -> list[fx.Node]:
        """Return the network's checks of values after or before the cut."""
        nodes = list(self.graph.nodes)
        place = nodes.index(self.last)
        checks = nodes[place:] if after else nodes[:place]
        return [n for n in checks if n.target in CHECKS and n.all_input_nodes and self._is_tensor(n.all_input_nodes[0])]

    def _choose(self, node: fx.Node) -> None:
        """Add every tensor of `node`'s value to the crossing tensors."""
        for keys in tensor_keys(self.runs[0][node]):
            if (node, keys) not in self.crossing:
                self._check_batch(node, keys)
                self.crossing.append((node, keys))

    def _check_batch(self, node: fx.Node, keys: tuple[Any, ...]) -> None:
        for run, batch in zip(self.runs, self.batch_sizes, strict=True):
            sizes = item_at(run[node], keys).sizes
            if not sizes or sizes[0] != batch:
                raise CutError(f"{node.name!r} of shape {sizes} must cross, and its rows are no images (batch_first?)")

    def _head(self) -> nn.Module:
        graph = fx.Graph()
        images = self.graph.find_nodes(op="placeholder")
        env = copy_with_ancestors([*images, *self._checks(after=False), *(n for n, _ in self.crossing)], graph)
        outputs = []
        for node, keys in self.crossing:
            value = env[node]
            for key in keys:
                value = graph.call_function(operator.getitem, (value, key))
            outputs.append(value)
        graph.output(tuple(outputs))
        return half_of(self.root, graph, "Head")

    def _argument(self, node: fx.Node) -> Any:
        """Return the replacement of `node` in the tail."""
        if node not in self.env:
            if node in self.early and node not in self.free:
                self.env[node] = self._carried(node, self.runs[0][node], ())
            elif self._can_be_recomputed(node):
                self.env[node] = self.tail.node_copy(node, self._argument)
            else:
                self.env[node] = self._constant(node, *(run[node] for run in self.runs))
        return self.env[node]

    def _carried(self, node: fx.Node, value: Any, keys: tuple[Any, ...]) -> Any:
        """Rebuild a crossing value, a tensor or a container of tensors, from the crossing tensors."""
        if isinstance(value, Shape):
            return self.placeholders[node, keys]
        if isinstance(value, dict):
            return {key: self._carried(node, item, (*keys, key)) for key, item in value.items()}
        if isinstance(value, tuple):
            return tuple(self._carried(node, item, (*keys, i)) for i, item in enumerate(value))
        return self._constant(node, *(item_at(run[node], keys) for run in self.runs))

    def _can_be_recomputed(self, node: fx.Node) -> bool:
        """Return whether the tail can compute a free value from weights, late values and crossing tensors."""
        if node not in self.free:
            return node not in self.early or (node, ()) in self.placeholders
        return self._is_tensor(node) or all(self._can_be_recomputed(n) for n in node.all_input_nodes)

    def _constant(self, node: fx.Node, *values: Any) -> Any:
        """Return a value other than a tensor as a constant; batch size and device are read from a crossing tensor."""
        first = next(iter(self.placeholders.values()))
        if isinstance(values[0], tuple):
            return tuple(self._constant(node, *items) for items in zip(*values, strict=True))
        if isinstance(values[0], torch.device):  # a constant would stay behind when the model moves
            return self.tail.call_function(getattr, (first, "device"))
        if all(value == values[0] for value in values):
            self.baked = self.baked or values[0] is not None
            return values[0]
        if list(values) == self.batch_sizes:
            return self.tail.call_method("size", (first, 0))
        raise CutError(f"{node.name!r} must cross and is neither a tensor nor a size: {values[0]!r}")
