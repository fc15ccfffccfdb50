"""Runtime of devices and edge servers: device part and edge part of packages, protocol, server and client.

Names are imported when they are first used, since a device has no torch and a client needs only numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splitlearn.runtime.answers import Answer, Edge
    from splitlearn.runtime.blocking import BlockingEdgeClient
    from splitlearn.runtime.client import EdgeClient, Reply
    from splitlearn.runtime.device import Device, ExitPrediction
    from splitlearn.runtime.edge import OnnxEdge
    from splitlearn.runtime.errors import LinkError
    from splitlearn.runtime.limits import Limits
    from splitlearn.runtime.link import Link
    from splitlearn.runtime.package_file import Package, PackageError
    from splitlearn.runtime.packaging import write_package
    from splitlearn.runtime.rate_control import DeadlinePolicy, FixedRate, OraclePolicy, RatePolicy
    from splitlearn.runtime.server import EdgeServer
    from splitlearn.runtime.torch_device import TorchDevice
    from splitlearn.runtime.torch_edge import TorchEdge

_HOMES = {
    "Answer": "answers",
    "BlockingEdgeClient": "blocking",
    "DeadlinePolicy": "rate_control",
    "Device": "device",
    "Edge": "answers",
    "EdgeClient": "client",
    "EdgeServer": "server",
    "ExitPrediction": "device",
    "FixedRate": "rate_control",
    "Limits": "limits",
    "Link": "link",
    "LinkError": "errors",
    "OnnxEdge": "edge",
    "OraclePolicy": "rate_control",
    "Package": "package_file",
    "PackageError": "package_file",
    "RatePolicy": "rate_control",
    "Reply": "client",
    "TorchDevice": "torch_device",
    "TorchEdge": "torch_edge",
    "write_package": "packaging",
}

__all__ = [
    "Answer",
    "BlockingEdgeClient",
    "DeadlinePolicy",
    "Device",
    "Edge",
    "EdgeClient",
    "EdgeServer",
    "ExitPrediction",
    "FixedRate",
    "Limits",
    "Link",
    "LinkError",
    "OnnxEdge",
    "OraclePolicy",
    "Package",
    "PackageError",
    "RatePolicy",
    "Reply",
    "TorchDevice",
    "TorchEdge",
    "write_package",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
