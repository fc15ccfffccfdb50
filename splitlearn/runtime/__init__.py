"""Runtime of devices and edge servers: device part and edge part of packages, protocol, server and client.

Names are imported when they are first used, since a device has no torch and a client needs only numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splitlearn.runtime.answer_forms import answers_of
    from splitlearn.runtime.answers import Answer, Edge
    from splitlearn.runtime.asks import Reply
    from splitlearn.runtime.blocking import BlockingEdgeClient
    from splitlearn.runtime.client import EdgeClient
    from splitlearn.runtime.decisions import AsPicture, AtRate, Decision, DeviceHalf, LeaveOut, OnDevice, WithinBudget
    from splitlearn.runtime.device import Device
    from splitlearn.runtime.device_stream import DeviceStream, Frame
    from splitlearn.runtime.edge import OnnxEdge
    from splitlearn.runtime.edge_processes import EdgeProcesses
    from splitlearn.runtime.errors import LinkError
    from splitlearn.runtime.exit_prediction import ExitPrediction
    from splitlearn.runtime.forms import AnswerForm, ClassMask, RawOutput, TopClasses
    from splitlearn.runtime.limits import Limits
    from splitlearn.runtime.link import Link
    from splitlearn.runtime.package_file import Package, PackageError
    from splitlearn.runtime.packaging import write_package
    from splitlearn.runtime.protocol import Kind
    from splitlearn.runtime.rate_control import DeadlinePolicy, FixedRate, OraclePolicy, Outcome, RatePolicy
    from splitlearn.runtime.server import EdgeServer
    from splitlearn.runtime.torch_device import TorchDevice
    from splitlearn.runtime.torch_edge import TorchEdge
    from splitlearn.runtime.views import preparation_of

_HOMES = {
    "Answer": "answers",
    "AnswerForm": "forms",
    "AsPicture": "decisions",
    "AtRate": "decisions",
    "BlockingEdgeClient": "blocking",
    "ClassMask": "forms",
    "DeadlinePolicy": "rate_control",
    "Decision": "decisions",
    "Device": "device",
    "DeviceHalf": "decisions",
    "DeviceStream": "device_stream",
    "Edge": "answers",
    "EdgeClient": "client",
    "EdgeProcesses": "edge_processes",
    "EdgeServer": "server",
    "ExitPrediction": "exit_prediction",
    "FixedRate": "rate_control",
    "Frame": "device_stream",
    "Kind": "protocol",
    "LeaveOut": "decisions",
    "Limits": "limits",
    "Link": "link",
    "LinkError": "errors",
    "OnDevice": "decisions",
    "OnnxEdge": "edge",
    "OraclePolicy": "rate_control",
    "Outcome": "rate_control",
    "Package": "package_file",
    "PackageError": "package_file",
    "RatePolicy": "rate_control",
    "RawOutput": "forms",
    "Reply": "asks",
    "TopClasses": "forms",
    "TorchDevice": "torch_device",
    "TorchEdge": "torch_edge",
    "WithinBudget": "decisions",
    "answers_of": "answer_forms",
    "preparation_of": "views",
    "write_package": "packaging",
}

__all__ = [
    "Answer",
    "AnswerForm",
    "AsPicture",
    "AtRate",
    "BlockingEdgeClient",
    "ClassMask",
    "DeadlinePolicy",
    "Decision",
    "Device",
    "DeviceHalf",
    "DeviceStream",
    "Edge",
    "EdgeClient",
    "EdgeProcesses",
    "EdgeServer",
    "ExitPrediction",
    "FixedRate",
    "Frame",
    "Kind",
    "LeaveOut",
    "Limits",
    "Link",
    "LinkError",
    "OnDevice",
    "OnnxEdge",
    "OraclePolicy",
    "Outcome",
    "Package",
    "PackageError",
    "RatePolicy",
    "RawOutput",
    "Reply",
    "TopClasses",
    "TorchDevice",
    "TorchEdge",
    "WithinBudget",
    "answers_of",
    "preparation_of",
    "write_package",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
