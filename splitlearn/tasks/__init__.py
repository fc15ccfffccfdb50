"""Who trains and what is logged: LightningModules, their callback, and the record of a test."""

from splitlearn.tasks.channels_last import ChannelsLast
from splitlearn.tasks.checkpoints import LastCheckpoint, OwnFiles, WholeFileIO
from splitlearn.tasks.classification import ClassificationTask
from splitlearn.tasks.detection import DetectionTask
from splitlearn.tasks.detector import DetectorTask
from splitlearn.tasks.distillation import DistillationTask
from splitlearn.tasks.early_exit import EarlyExitTask
from splitlearn.tasks.keep_frozen import FrozenError, KeepFrozen
from splitlearn.tasks.keep_memory import KeepFreedMemory, keep_freed_memory
from splitlearn.tasks.learnt_tables import LearntTables
from splitlearn.tasks.loading import CheckpointError
from splitlearn.tasks.payload import PayloadTask
from splitlearn.tasks.predictions import ImageName, PredictionWriter
from splitlearn.tasks.quiet import quieten
from splitlearn.tasks.results import run_record, write_results
from splitlearn.tasks.segmentation import SegmentationTask
from splitlearn.tasks.static_tables import StaticTables
from splitlearn.tasks.stops_at_once import StopsAtOnce
from splitlearn.tasks.student_scores import FoundObjects, NamedClasses, StudentScores
from splitlearn.tasks.training import TrainingTask
from splitlearn.tasks.trust import UntrustedError, check_settings

__all__ = [
    "ChannelsLast",
    "CheckpointError",
    "ClassificationTask",
    "DetectionTask",
    "DetectorTask",
    "DistillationTask",
    "EarlyExitTask",
    "FoundObjects",
    "FrozenError",
    "ImageName",
    "KeepFreedMemory",
    "KeepFrozen",
    "LastCheckpoint",
    "LearntTables",
    "NamedClasses",
    "OwnFiles",
    "PayloadTask",
    "PredictionWriter",
    "SegmentationTask",
    "StaticTables",
    "StopsAtOnce",
    "StudentScores",
    "TrainingTask",
    "UntrustedError",
    "WholeFileIO",
    "check_settings",
    "keep_freed_memory",
    "quieten",
    "run_record",
    "write_results",
]
