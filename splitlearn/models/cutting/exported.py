"""Cuts by torch.export, for models that symbolic tracing cannot follow; sizes silently become constants."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from splitlearn.models.cutting.graph import Halves, divide
from splitlearn.models.cutting.traced import Entry, use_own_names


class Unflatten(nn.Module):
    """Conversion of an exported graph's flat outputs to the structure of the model's output."""

    def __init__(self, flat: nn.Module, structure: pytree.TreeSpec) -> None:
        super().__init__()
        self.flat = flat
        self.structure = structure

    def forward(self, *tensors: Tensor) -> Any:
        """Run the tail on crossing tensors and return the model's output."""
        return pytree.tree_unflatten(list(self.flat(*tensors)), self.structure)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings and logs of torch.export; the caller reports its errors."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def cut_exported(model: nn.Module, at: str, batches: Sequence[Tensor]) -> Halves:
    """Cut a model in eval mode after the module `at` by torch.export with a free batch size.

    `batches` are example images with different batch sizes. Raises any error of torch.export, and CutError if a value
    must cross that is neither a tensor nor a size.
    """
    # a copy with shared tensors, so that layers with state in attributes (YOLO's anchors) stay unchanged
    tensors = [*model.parameters(), *model.buffers()]
    entry = Entry(copy.deepcopy(model, {id(tensor): tensor for tensor in tensors}))
    with _quiet(), torch.no_grad():
        program = torch.export.export(entry, (batches[0],), dynamic_shapes=({0: Dim.AUTO},))
        root = program.module(check_guards=False)
    structure = program.call_spec.out_spec
    assert structure is not None
    graph = fx.Graph()
    graph.output(graph.graph_copy(root.graph, {}))
    use_own_names(graph)
    halves = divide(root, graph, at, batches)
    return Halves(halves.head, Unflatten(halves.tail, structure))
