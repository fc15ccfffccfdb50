"""What runs on devices and edge servers: the package's two halves, the protocol between them, server and client.

Names are loaded when they are first used: a device has no torch, and a client needs nothing but numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splitlearn.runtime.answers import Answer, Edge
    from splitlearn.runtime.blocking import BlockingEdgeClient
    from splitlearn.runtime.client import EdgeClient, Reply
    from splitlearn.runtime.errors import LinkError
    from splitlearn.runtime.limits import Limits
    from splitlearn.runtime.link import Link
    from splitlearn.runtime.server import EdgeServer

_HOMES = {
    "Answer": "answers",
    "BlockingEdgeClient": "blocking",
    "Device": "device",
    "Edge": "answers",
    "EdgeClient": "client",
    "EdgeServer": "server",
    "Limits": "limits",
    "Link": "link",
    "LinkError": "errors",
    "Reply": "client",
}

__all__ = ["Answer", "BlockingEdgeClient", "Edge", "EdgeClient", "EdgeServer", "Limits", "Link", "LinkError", "Reply"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
