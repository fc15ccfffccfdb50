"""Deployment files: exported bottlenecks, banks of them, and calibrated quantizers."""

from splitlearn.deploy.bank import BankError, export_bank, load_bank, read_bank
from splitlearn.deploy.bottleneck_file import (
    ExportError,
    export_bottleneck,
    export_network,
    load_bottleneck,
    read_export,
)
from splitlearn.deploy.calibration import Calibration, CalibrationSettings, StretchTrial, calibrate, prediction_distance
from splitlearn.deploy.early_exit_file import export_early_exit
from splitlearn.deploy.export import Exported, NothingToExportError, export_model
from splitlearn.deploy.gains import export_gains
from splitlearn.deploy.identity import sample_outputs, weights_id
from splitlearn.deploy.pretrained import (
    from_pretrained,
    opened_pretrained,
    pretrained_names,
    push_to_hub,
    save_pretrained,
)
from splitlearn.deploy.pretrained_record import PretrainedError, PretrainedRecord
from splitlearn.deploy.record import write_record

__all__ = [
    "BankError",
    "Calibration",
    "CalibrationSettings",
    "ExportError",
    "Exported",
    "NothingToExportError",
    "PretrainedError",
    "PretrainedRecord",
    "StretchTrial",
    "calibrate",
    "export_bank",
    "export_bottleneck",
    "export_early_exit",
    "export_gains",
    "export_model",
    "export_network",
    "from_pretrained",
    "load_bank",
    "load_bottleneck",
    "opened_pretrained",
    "prediction_distance",
    "pretrained_names",
    "push_to_hub",
    "read_bank",
    "read_export",
    "sample_outputs",
    "save_pretrained",
    "weights_id",
    "write_record",
]
