"""LightningModules for training and testing, their callbacks, and the record of a test."""

from splitlearn.tasks.agreement import BoxAgreement, ClassAgreement
from splitlearn.tasks.callbacks import ChannelsLast, FoldedNorms, KeepFreedMemory, StopsAtOnce, keep_freed_memory
from splitlearn.tasks.checkpoints import ForgetForeignCheckpoints, LastCheckpoint, WholeFileIO
from splitlearn.tasks.classification import ClassificationTask
from splitlearn.tasks.detection import DetectionTask
from splitlearn.tasks.detector_training import DetectorTrainingTask
from splitlearn.tasks.distillation import DistillationTask
from splitlearn.tasks.early_exit import EarlyExitTask
from splitlearn.tasks.keep_frozen import FrozenError, KeepFrozen
from splitlearn.tasks.loading import CheckpointError
from splitlearn.tasks.payload import PayloadTask
from splitlearn.tasks.pictures_beside import PicturesBeside
from splitlearn.tasks.predictions import ImageName, PredictionWriter
from splitlearn.tasks.quiet_logging import quieten
from splitlearn.tasks.results import run_record, write_results
from splitlearn.tasks.segmentation import SegmentationTask
from splitlearn.tasks.self_distillation import SelfDistillationTask
from splitlearn.tasks.stream import StreamTask
from splitlearn.tasks.student_scores import ClassificationScores, DetectionScores, StudentScores
from splitlearn.tasks.tables import LearntTables, StaticTables
from splitlearn.tasks.train_from_cache import TrainFromCache
from splitlearn.tasks.training import TrainingTask
from splitlearn.tasks.trust import UntrustedError, check_settings

__all__ = [
    "BoxAgreement",
    "ChannelsLast",
    "CheckpointError",
    "ClassAgreement",
    "ClassificationScores",
    "ClassificationTask",
    "DetectionScores",
    "DetectionTask",
    "DetectorTrainingTask",
    "DistillationTask",
    "EarlyExitTask",
    "FoldedNorms",
    "ForgetForeignCheckpoints",
    "FrozenError",
    "ImageName",
    "KeepFreedMemory",
    "KeepFrozen",
    "LastCheckpoint",
    "LearntTables",
    "PayloadTask",
    "PicturesBeside",
    "PredictionWriter",
    "SegmentationTask",
    "SelfDistillationTask",
    "StaticTables",
    "StopsAtOnce",
    "StreamTask",
    "StudentScores",
    "TrainFromCache",
    "TrainingTask",
    "UntrustedError",
    "WholeFileIO",
    "check_settings",
    "keep_freed_memory",
    "quieten",
    "run_record",
    "write_results",
]
