"""Who trains and what is logged: LightningModules, their callback, and the record of a test."""

from splitlearn.tasks.channels_last import ChannelsLast
from splitlearn.tasks.classification import ClassificationTask
from splitlearn.tasks.loading import CheckpointError, load_task
from splitlearn.tasks.results import write_results
from splitlearn.tasks.static_tables import StaticTables

__all__ = ["ChannelsLast", "CheckpointError", "ClassificationTask", "StaticTables", "load_task", "write_results"]
