"""Cuts by symbolic tracing (torch.fx) of only the modules on the path to the cut.

Every other module stays a single node that calls the original. Tracing errors and constant sizes cannot occur inside
it, and the halves keep the original module names and classes.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, fx, nn

from splitlearn.models.cutting.graph import Halves, copy_with_ancestors, divide, training_mode


class Entry(nn.Module):
    """Wrapper that calls a model with images alone, so that optional arguments of `forward` keep their defaults."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        """Return the model's output."""
        return self.model(images)


PREFIX = "model."  # of names inside an Entry


def use_own_names(graph: fx.Graph) -> None:
    """Replace module names of a traced `Entry` by those of the model."""
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack", {})
        node.meta["nn_module_stack"] = {
            key: (f"{path}.".removeprefix(PREFIX).rstrip("."), kind) for key, (path, kind) in stack.items()
        }


def cut_traced(model: nn.Module, at: str, batches: Sequence[Tensor], open_all: bool = False) -> Halves:
    """Cut a model in eval mode after the module `at` by symbolic tracing.

    `batches` are example images with different batch sizes. `open_all` traces into all modules but torch's own, for
    code that needs more of a module's output than a tensor. Raises any error of the tracer, and CutError if a value
    must cross that is neither a tensor nor a size.
    """
    graph = _Tracer(at, batches[0], open_all).trace(Entry(model))
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = node.target.removeprefix(PREFIX)
    use_own_names(graph)
    return divide(model, graph, at, batches)


STACKS: dict[type[nn.Module], int] = {nn.TransformerEncoder: 1, nn.TransformerDecoder: 2}
"""Torch's stacks of layers, and their number of inputs without masks."""


def _layer_by_layer(stack: nn.Module, first: Any, *memory: Any) -> Any:
    """Run one of torch's stacks without masks; its own code needs values that a trace does not have."""
    for layer in stack.layers:  # type: ignore[union-attr]
        first = layer(first, *memory)
    return first if stack.norm is None else stack.norm(first)  # type: ignore[operator]


class _Mode(int):
    """Eval mode of a traced module; becomes a node of the graph if it is passed to a function."""


class _Proxy(fx.Proxy):
    """A traced value with a length, unless that is the batch size."""

    tracer: _Tracer

    def __len__(self) -> int:
        """Return the length of a traced tuple or list, for `list(x)` and `*x`."""
        value = self.tracer.value(self.node)
        if isinstance(value, Tensor):
            raise TypeError("len() of a traced tensor would fix the batch size; use x.shape[0]")
        return len(value)

    def __getattr__(self, k: str) -> Any:
        """Return a traced attribute; a shape becomes a separate value with a length."""
        if k == "shape":
            return self.tracer.create_proxy("call_function", getattr, (self, k), {})
        return super().__getattr__(k)


class _Tracer(fx.Tracer):
    """Tracer that opens only the parents of the cut and iterates over values with a length known from the example."""

    def __init__(self, at: str, example: Tensor, open_all: bool) -> None:
        # as torchvision's feature extraction: its operators are one node each
        operators = [f for f in vars(torchvision.ops).values() if inspect.isfunction(f)]
        wrapped: tuple[Callable[..., Any], ...] = tuple(operators)
        super().__init__(autowrap_modules=(math, torchvision.ops), autowrap_functions=wrapped)
        self.at = f"{PREFIX}{at}"
        self.example = example
        self.open_all = open_all
        self.evaluating = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module stays a single node: all but those on the path to the cut."""
        if self.at.startswith(f"{module_qualified_name}."):
            return False
        return not self.open_all or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return the proxy of `node` while the model's code runs."""
        return _Proxy(node, self)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Iterate over a traced tuple or list, such as the chunks of a tensor."""
        return iter([operator.getitem(obj, i) for i in range(len(self.value(obj.node)))])

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Record a call or trace into the module, which passes on its mode; run it directly on the example."""
        if self.evaluating:
            return forward(*args, **kwargs)
        if type(m) in STACKS and len(args) == STACKS[type(m)] and not kwargs:
            forward = partial(_layer_by_layer, m)
        mode = m.training
        m.training = _Mode(mode)  # type: ignore[assignment]
        try:
            return super().call_module(m, forward, args, kwargs)
        finally:
            m.training = mode

    def create_arg(self, a: Any) -> Any:
        """Return the representation of an argument in the graph; a mode becomes a node."""
        if isinstance(a, _Mode):
            return self.create_node("call_function", training_mode, (), {})
        return super().create_arg(a)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """Record a use of a parameter; return it directly on the example."""
        return attr_val if self.evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def value(self, node: fx.Node) -> Any:
        """Return the value of `node` on the example."""
        graph = fx.Graph()
        graph.output(copy_with_ancestors([node, *node.graph.find_nodes(op="placeholder")], graph)[node])
        self.evaluating = True
        try:
            with torch.no_grad():
                return fx.Interpreter(self.root, graph=graph).run(self.example.clone())
        finally:
            self.evaluating = False
