"""What leaves the training machine: exported bottlenecks."""

from splitlearn.deploy.bottleneck_file import (
    ExportError,
    export_bottleneck,
    export_network,
    load_bottleneck,
    read_export,
)
from splitlearn.deploy.command import export_command
from splitlearn.deploy.record import write_record

__all__ = [
    "ExportError",
    "export_bottleneck",
    "export_command",
    "export_network",
    "load_bottleneck",
    "read_export",
    "write_record",
]
