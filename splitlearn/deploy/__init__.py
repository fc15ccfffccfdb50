"""What leaves the training machine: exported bottlenecks and calibrated quantizers."""

from splitlearn.deploy.bottleneck_file import (
    ExportError,
    export_bottleneck,
    export_network,
    load_bottleneck,
    read_export,
    weights_id,
)
from splitlearn.deploy.calibration import Calibration, CalibrationSettings, Trial, calibrate, prediction_distance
from splitlearn.deploy.calibration_command import calibrate_command
from splitlearn.deploy.command import export_command
from splitlearn.deploy.early_exit_file import export_early_exit
from splitlearn.deploy.record import write_record

__all__ = [
    "Calibration",
    "CalibrationSettings",
    "ExportError",
    "Trial",
    "calibrate",
    "calibrate_command",
    "export_bottleneck",
    "export_command",
    "export_early_exit",
    "export_network",
    "load_bottleneck",
    "prediction_distance",
    "read_export",
    "weights_id",
    "write_record",
]
