"""ONNX graphs, run by onnxruntime on one thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray


class MissingExtraError(ImportError):
    """A library that only some commands need is not installed; the message names the extra."""


class Graph:
    """An ONNX graph; inputs and outputs are arrays in order.

    Args:
        content: content of the ONNX file.
        threads: number of threads for one call.

    Raises:
        MissingExtraError: if onnxruntime is not installed.
        ValueError: if it is no ONNX model that this version of onnxruntime supports.
    """

    def __init__(self, content: bytes, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError(
                "packages run in onnxruntime, which is not installed: install splitlearn[onnx], or on a device without "
                "torch the file requirements-device.txt"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors only
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes derive from Exception alone
            raise ValueError(f"no graph that this onnxruntime runs: {str(error).splitlines()[0][:300]}") from error
        self._inputs = [given.name for given in self._session.get_inputs()]

    def run(self, tensors: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the outputs for inputs in order, each `(B, …)`.

        Raises:
            ValueError: if shapes or types do not fit the graph.
        """
        try:
            found: list[NDArray[Any]] = self._session.run(None, dict(zip(self._inputs, tensors, strict=True)))
        except Exception as error:
            raise ValueError(f"the graph refuses these tensors: {str(error).splitlines()[0][:300]}") from error
        return found
