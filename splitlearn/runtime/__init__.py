"""Device and edge server: what is trained, running.

Importing this package loads neither torch nor onnxruntime. The device side (`Device`, `EdgeClient`) never needs torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_OFFERED = {
    "Device": "device",
    "ExitPrediction": "device",
    "Package": "package_file",
    "OnnxEdge": "edge",
    "PackageError": "package_file",
    "TorchEdge": "torch_edge",
    "write_package": "packaging",
}

__all__ = ["Device", "ExitPrediction", "OnnxEdge", "Package", "PackageError", "TorchEdge", "write_package"]


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_OFFERED[name]}"), name)
