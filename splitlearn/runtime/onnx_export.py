"""Export of modules as ONNX graphs with a dynamic batch."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from splitlearn.resource_errors import of_machine
from splitlearn.runtime.graph import MissingExtraError


class ExportError(ValueError):
    """A module cannot be exported as an ONNX graph."""


def exported(module: nn.Module, tensors: Sequence[Tensor]) -> bytes:
    """Return a module as the content of an ONNX file, with a first dimension (batch) of any size.

    Args:
        module: module to export; its `forward` takes the tensors as positional arguments.
        tensors: example inputs, each `(2, …)` for a batch of two; all other dimensions are fixed.

    Raises:
        MissingExtraError: if onnx or onnxscript is not installed.
        ExportError: if torch cannot export the module; the message is the exporter's first line.
    """
    try:
        import onnxscript  # noqa: F401, torch.onnx needs it
    except ImportError as error:
        raise MissingExtraError("packages need onnx, onnxscript and onnxruntime: install splitlearn[onnx]") from error
    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in tensors)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "graph.onnx"
        try:
            module.eval()
            torch.onnx.export(
                _Positional(module),
                tuple(tensors),
                path,
                dynamo=True,
                dynamic_shapes=(shapes,),
                external_data=False,
                verbose=False,
            )
        except Exception as error:  # the exporter and the network may raise anything
            if of_machine(error):
                raise
            raise ExportError(f"it does not export to ONNX: {_reason(error)}") from error
        return path.read_bytes()


class _Positional(nn.Module):
    """Wrapper that gives any number of tensors to a module, under one argument name for the exporter."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor) -> object:
        return self.module(*tensors)


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, which reports progress and fallbacks on standard output and as warnings."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
