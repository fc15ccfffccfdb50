"""Bit-exact comparison of the two halves, head and tail, with the uncut model."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.module import register_module_forward_hook

from splitlearn.models.cutting.graph import Halves
from splitlearn.models.cutting.names import CutError, inside


@dataclass(frozen=True)
class Reference:
    """Result of the uncut model for some images.

    Attributes:
        output: the model's output.
        at_cut: output of the module at the cut; None if it is not called itself, such as a ModuleList.
        called: names of the modules that ran.
        ran: whether the module at the cut, or one inside it, ran.
    """

    output: Any
    at_cut: Any
    called: set[str]
    ran: bool


def run_reference(model: nn.Module, at: str, images: Tensor) -> Reference:
    """Run the uncut model; record the modules that run and the output of the module `at`."""
    called: set[str] = set()
    at_cut: list[Any] = [None]
    names = {module: name for name, module in model.named_modules() if name}
    here = threading.get_ident()

    def note(module: nn.Module, args: Any, output: Any) -> None:
        name = names.get(module, "") if threading.get_ident() == here else ""  # the hook sees other threads' passes too
        if name:
            called.add(name)
        if name and name == at:  # later layers may work in place
            at_cut[0] = output.clone() if isinstance(output, Tensor) else None

    handle = register_module_forward_hook(
        note
    )  # of all modules: torch's transformers compute otherwise beside their own
    try:
        output = model(images.clone())
    finally:
        handle.remove()
    return Reference(output, at_cut[0], called, any(inside(name, at) for name in called))


def same(a: Any, b: Any) -> bool:
    """Return whether two nested outputs are equal; tensors must be equal bit for bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and bool(torch.equal(a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "__dict__"):  # output records, such as those of segmentation libraries
        return type(a) is type(b) and same(vars(a), vars(b))
    return bool(a == b)


def verify(halves: Halves, images: Tensor, reference: Reference) -> tuple[Tensor, ...]:
    """Run both halves on `images`, compare with the model, and return the crossing tensors.

    Raises CutError if the result of the halves differs from that of the model.
    """
    images = images.clone()
    tensors = tuple(tensor.clone() for tensor in halves.head(images))
    images.zero_()  # a tail with hidden access to the image must fail
    if isinstance(reference.at_cut, Tensor) and not same(tensors[0], reference.at_cut):
        raise CutError("the first crossing tensor is not the output of the module")
    if not same(halves.tail(*tensors), reference.output):
        raise CutError("the halves do not reproduce the model's output")
    return tensors


def make_safe(halves: Halves, images: Tensor) -> Halves:
    """Return halves whose tail copies the crossing tensors that it would otherwise change in place."""
    tensors: Sequence[Tensor] = [tensor.clone() for tensor in halves.head(images.clone())]
    versions = [tensor._version for tensor in tensors]
    halves.tail(*tensors)
    changed = [i for i, tensor in enumerate(tensors) if tensor._version != versions[i]]
    graphs = [module for module in halves.tail.modules() if isinstance(module, fx.GraphModule)]
    if not changed or not graphs:
        return halves
    graph = graphs[0].graph
    placeholders = graph.find_nodes(op="placeholder")
    for i in changed:
        with graph.inserting_after(placeholders[-1]):
            copied = graph.call_method("clone", (placeholders[i],))
        placeholders[i].replace_all_uses_with(copied, delete_user_cb=lambda user, copied=copied: user is not copied)
    graphs[0].recompile()
    return halves
