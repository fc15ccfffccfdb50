"""Cut by symbolic tracing (torch.fx), opening only the modules on the way to the cut.

Everything else stays one node that calls the model's own module, so nothing in it can be mistraced, no size in it
becomes a constant, and the halves keep the original module names and classes.
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
    """Calls a model with images alone, so that optional arguments of its `forward` keep their defaults."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:
        """Return the model's output."""
        return self.model(images)


PREFIX = "model."  # of names inside an Entry


def use_own_names(graph: fx.Graph) -> None:
    """Name the modules that the nodes of a traced `Entry` lie in as the model itself names them."""
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack", {})
        node.meta["nn_module_stack"] = {
            key: (f"{path}.".removeprefix(PREFIX).rstrip("."), kind) for key, (path, kind) in stack.items()
        }


def cut_traced(model: nn.Module, at: str, batches: Sequence[Tensor], open_all: bool = False) -> Halves:
    """Cut `model` after the module `at` by symbolic tracing.

    Args:
        model: the network, in eval mode.
        at: dotted module name.
        batches: example images `(B, C, H, W)` with different B.
        open_all: open all modules but torch's own: for a closed one whose output is more than a tensor to the code
            around it.

    Raises:
        CutError: if something must cross that cannot.
        Exception: whatever the tracer meets in a model that it cannot follow.
    """
    graph = _Tracer(at, batches[0], open_all).trace(Entry(model))
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            node.target = node.target.removeprefix(PREFIX)
    use_own_names(graph)
    return divide(model, graph, at, batches)


STACKS: dict[type[nn.Module], int] = {nn.TransformerEncoder: 1, nn.TransformerDecoder: 2}
"""Torch's stacks of layers, and how many tensors they are given when there are no masks."""


def _layer_by_layer(stack: nn.Module, first: Any, *memory: Any) -> Any:
    """Do what one of torch's stacks does without masks; its own code looks at values that a trace does not have."""
    for layer in stack.layers:  # type: ignore[union-attr]
        first = layer(first, *memory)
    return first if stack.norm is None else stack.norm(first)  # type: ignore[operator]


class _Mode(int):
    """The eval mode of a module that is being traced, which leaves a trace where it is handed to a function."""


class _Proxy(fx.Proxy):
    """A traced value that knows how many items it has where that is not the batch size."""

    tracer: _Tracer

    def __len__(self) -> int:
        """Return the length of a traced tuple or list; `list(x)` and `*x` ask for it."""
        value = self.tracer.value(self.node)
        if isinstance(value, Tensor):
            raise TypeError("len() of a traced tensor would fix the batch size; use x.shape[0]")
        return len(value)

    def __getattr__(self, k: str) -> Any:
        """Return a traced attribute; a shape at once as a value of its own, so that it too has a length."""
        if k == "shape":
            return self.tracer.create_proxy("call_function", getattr, (self, k), {})
        return super().__getattr__(k)


class _Tracer(fx.Tracer):
    """Opens the ancestors of the cut, and can iterate over values whose length the example tells."""

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
        """Whether a module stays closed: all but the way from the model to the cut."""
        if self.at.startswith(f"{module_qualified_name}."):
            return False
        return not self.open_all or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return what stands for `node` while the model's code runs."""
        return _Proxy(node, self)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Iterate over a traced tuple or list, such as the chunks of a tensor."""
        return iter([operator.getitem(obj, i) for i in range(len(self.value(obj.node)))])

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Record a call, unless the example is being run; or open a module, which then hands on its mode."""
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
        """Return what stands for an argument: of a mode, a node that asks for it."""
        return (
            self.create_node("call_function", training_mode, (), {}) if isinstance(a, _Mode) else super().create_arg(a)
        )

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """Record a use of a parameter, unless the example is being run."""
        return attr_val if self.evaluating else super().getattr(attr, attr_val, parameter_proxy_cache)

    def value(self, node: fx.Node) -> Any:
        """Return the value that `node` has on the example."""
        graph = fx.Graph()
        graph.output(copy_with_ancestors([node, *node.graph.find_nodes(op="placeholder")], graph)[node])
        self.evaluating = True
        try:
            with torch.no_grad():
                return fx.Interpreter(self.root, graph=graph).run(self.example.clone())
        finally:
            self.evaluating = False
