"""Model, data and form of answers for packages and edge servers."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning import LightningModule

from splitlearn.config.build import build_task, data_from
from splitlearn.config.loading import load_task
from splitlearn.config.messages import UsageError
from splitlearn.models import CutModel
from splitlearn.runtime.answer_forms import answers_of
from splitlearn.runtime.forms import AnswerForm
from splitlearn.tasks.loading import REMEDY, config_of, load_weights_into, read_checkpoint
from splitlearn.tasks.trust import check_settings


class Trained(NamedTuple):
    """A trained model, its data module and its form of answers.

    Attributes:
        model: the model, in eval mode.
        data: its data module; None if a checkpoint names none.
        answers: form of the answers for its task.
    """

    model: CutModel
    data: Any
    answers: AnswerForm


def trained(
    config: Path | None, ckpt_path: Path | None, data_root: Path | None = None, words: Sequence[str] = ()
) -> Trained:
    """Return the trained model of a config, a checkpoint, or both.

    Args:
        config: a config of `splitlearn test`; None for the one in the checkpoint, if it names only classes of
            splitlearn and torch.
        ckpt_path: checkpoint of `splitlearn fit`; None if the config's model needs none.
        data_root: folder of the images, in place of `data.root`.
        words: further command-line arguments for the config.

    Raises:
        UsageError: if neither is given, or the model has no cut.
        UntrustedError: if a checkpoint names other classes.
    """
    if config is not None:
        task, data = build_task(config, data_root, words)
        if ckpt_path is not None:
            load_weights_into(task, read_checkpoint(ckpt_path), ckpt_path)
    elif ckpt_path is not None:
        task = load_task(ckpt_path)
        data = data_of_checkpoint(config_of(read_checkpoint(ckpt_path), ckpt_path), ckpt_path, data_root)
    else:
        raise UsageError("give a trained model: --ckpt_path FILE, --config FILE, or both")
    return Trained(_model(task, config, ckpt_path), data, answers_of(task))


def _model(task: LightningModule, config: Path | None, ckpt_path: Path | None) -> CutModel:
    model = getattr(task, "model", None)
    if not isinstance(model, CutModel):
        raise UsageError(
            f"the model of {config or ckpt_path} is {type(model).__name__}: only a network with a cut is packaged"
        )
    if not ckpt_path and any(parameter.requires_grad for parameter in model.parameters()):
        print("warning: this model is untrained; did you mean --ckpt_path FILE?", file=sys.stderr)
    task.eval()
    return model


def data_of_checkpoint(settings: Mapping[str, Any], ckpt_path: Path, data_root: Path | None) -> Any:
    """Return the data module that the settings of a checkpoint name; None if they name none.

    Raises UntrustedError if they name classes other than those of splitlearn and torch.
    """
    about = settings.get("data")
    if not isinstance(about, Mapping):
        return None
    check_settings(about, ckpt_path, REMEDY)
    return data_from(about, data_root)
