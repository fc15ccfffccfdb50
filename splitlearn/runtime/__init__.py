"""What runs on devices and edge servers: the package's two halves, the protocol between them, server and client.

Names are loaded when they are first used: a device has no torch, and a client needs nothing but numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splitlearn.runtime.answers import Answer, Edge
    from splitlearn.runtime.errors import LinkError

_HOMES = {
    "Answer": "answers",
    "Device": "device",
    "Edge": "answers",
    "LinkError": "errors",
}

__all__ = ["Answer", "Edge", "LinkError"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
