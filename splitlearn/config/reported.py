"""Runs and sweeps in folders, for reports: what they measured, and predictions of their models from payloads."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from splitlearn.config.build import data_from, flat_settings, task_from
from splitlearn.config.images import spread_batches
from splitlearn.config.messages import UsageError, one_sentence
from splitlearn.discovery import renamed_path, with_current_paths
from splitlearn.files import read_yaml, sha256_of
from splitlearn.reporting.prediction_pictures import Picture, caption_of, picture_of
from splitlearn.reporting.run_report import PicturedImage, ReportedRun
from splitlearn.resource_errors import of_machine
from splitlearn.tasks.loading import load_weights_into, read_checkpoint
from splitlearn.tasks.results import WEIGHTS, read_results
from splitlearn.tasks.trained_weights import load_trained
from splitlearn.tasks.trust import check_settings

RESULTS, LOG, CONFIG, TRIAL = "results.json", "metrics.csv", "config.yaml", "trained.ckpt"
JOURNAL = "journal.log"
REMEDY = "give --trust true if the folder is yours"


@dataclass(frozen=True)
class Candidate:
    """A model whose predictions can be shown.

    Attributes:
        name: name for captions.
        folder: folder of its run or trial, with results.json.
    """

    name: str
    folder: Path


def found_folders(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the folders of runs and of sweeps that are, or lie in, some folders.

    Raises:
        UsageError: if there is none in one of them.
    """
    runs: dict[Path, None] = {}
    sweeps: dict[Path, None] = {}
    for folder in folders:
        inside = list(_folders(folder))
        if not inside:
            what = f"{RESULTS} or {LOG} of a run, or {JOURNAL} of a sweep" if folder.is_dir() else "such folder"
            raise UsageError(f"{folder} has no {what}: name folders that splitlearn fit, test or sweep has written")
        for each in inside:
            (sweeps if (each / JOURNAL).is_file() else runs)[each] = None
    return list(runs), list(sweeps)


def _folders(folder: Path) -> Iterator[Path]:
    if any((folder / name).is_file() for name in (JOURNAL, RESULTS, LOG)):
        yield folder
    elif folder.is_dir():
        for inside in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from _folders(inside)


def reported_run(folder: Path) -> ReportedRun:
    """Return what a run has measured: its results.json, or else the last values of its log.

    Raises:
        ResultsError: if results.json is damaged.
        ValueError: if config.yaml is damaged.
    """
    if (folder / RESULTS).is_file():
        told = read_results(folder / RESULTS)
        metrics = {name: float(value) for name, value in told.items() if "/" in name}
        config = _own(told.get("config", {}))
        about = {name: value for name, value in told.items() if isinstance(value, str)}
        return ReportedRun(str(folder), metrics, _flat(config), about, config)
    with (folder / LOG).open(newline="") as file:
        last: dict[str, float] = {}
        for row in csv.DictReader(file):
            last |= {name: float(value) for name, value in row.items() if name and value and "/" in name}
    config = read_yaml(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    return ReportedRun(str(folder), last, _flat(config), {}, config)


def pictured(
    candidates: Sequence[Candidate], images: int, data_root: Path | None, trust: bool
) -> tuple[list[PicturedImage], list[str]]:
    """Return test images with the predictions of models from their payloads, largest payloads first.

    Models with the same data see the same images. What cannot be shown is told in a sentence.

    Args:
        candidates: the models.
        images: number of images.
        data_root: folder of the images, in place of that in the settings.
        trust: whether settings may name classes other than splitlearn's and torch's.
    """
    shown: list[PicturedImage] = []
    notes: list[str] = []
    groups: dict[str, list[tuple[Candidate, Mapping[str, Any]]]] = {}
    for candidate in candidates:
        try:
            told = read_results(candidate.folder / RESULTS)
            config = _own(told.get("config", {}))
            for section in () if trust else ("model", "data"):
                check_settings(config.get(section), candidate.folder / RESULTS, REMEDY)
            groups.setdefault(str(config["data"]), []).append((candidate, {**told, "config": config}))
        except Exception as error:  # forged or damaged files may raise anything
            notes.append(_absent(candidate, error))
    for group in groups.values():
        found, absent = _of_group(group, images, data_root)
        shown += found
        notes += absent
    return shown, notes


def _of_group(
    group: Sequence[tuple[Candidate, Mapping[str, Any]]], images: int, data_root: Path | None
) -> tuple[list[PicturedImage], list[str]]:
    """Return the images of models that share their data."""
    first, notes = group[0], []
    try:
        data = data_from(first[1]["config"]["data"], data_root)
        batches = list(spread_batches(data, images))
    except Exception as error:  # data of any kind, which may be absent
        return [], [_absent(first[0], error)]
    names = getattr(data, "class_names", None) or None
    shown: list[tuple[int, list[Picture]]] = []  # size of all payloads of a model, and its pictures
    for candidate, told in group:
        try:
            task = _loaded(candidate.folder, told)
            with torch.no_grad():
                found = [each for batch in batches for each in _predictions(task, batch, names)]
        except Exception as error:  # models of any kind
            notes.append(_absent(candidate, error))
            continue
        origins = [f"{size:,} bytes, {candidate.name}" for *_, size in found]
        pictures = [picture_of(*each[:3], origin, names) for each, origin in zip(found, origins, strict=True)]
        shown.append((sum(size for *_, size in found), pictures))
    if not shown:
        return [], notes
    columns = [_originals(batches, names), *(pictures for _, pictures in sorted(shown, key=lambda each: -each[0]))]
    title = f"{type(data).__name__}, test image"
    return [PicturedImage(f"{title} {i + 1}", row) for i, row in enumerate(zip(*columns, strict=True))], notes


def _predictions(task: Any, batch: Any, names: Sequence[str] | None) -> list[tuple[Tensor, Any, str, int]]:
    """Return image, prediction, its words, and bytes of the payload, for each image of a batch."""
    _, payloads = task.by_payloads(batch[0])
    predictions = task.predict_step(batch, 0)
    one_by_one = [predictions[place : place + 1] for place in range(len(payloads))]
    captions = [caption_of(task.prediction_table([each], names)) for each in one_by_one]
    answers = [each[0] for each in one_by_one]
    return list(zip(batch[0], answers, captions, map(len, payloads), strict=True))


def _originals(batches: Sequence[Any], names: Sequence[str] | None) -> list[Picture]:
    """Return the images with their ground truth, if there is one."""
    found = []
    for images, *targets in batches:
        for image, truth in zip(images, targets[0] if targets else [None] * len(images), strict=True):
            caption = "" if truth is None else "ground truth"
            if isinstance(truth, Tensor) and truth.ndim == 0:
                caption = names[int(truth)] if names else str(int(truth))
            found.append(picture_of(image, truth, caption, "the image", names))
    return found


def _loaded(folder: Path, told: Mapping[str, Any]) -> LightningModule:
    """Return the task of a run or of a trial, with its weights, in eval mode."""
    config = told["config"]
    seed = config.get("seed_everything")
    torch.manual_seed(seed if type(seed) is int else 0)  # for networks without weights, as in the run
    task = task_from(config["model"])
    if (folder / TRIAL).is_file():
        load_trained(task, folder / TRIAL)
    elif path := config.get("ckpt_path"):
        content = read_checkpoint(path)
        if told.get(WEIGHTS) not in (None, sha256_of(path)):
            raise ValueError(f"{path} has changed since its test: test it again")
        load_weights_into(task, content, path)
    return task.eval()


def _own(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of results: those of the command, or those of a trial, with current class paths."""
    inside = config.get("test", config)
    found: dict[str, Any] = with_current_paths(inside if isinstance(inside, dict) else {}, renamed_path)
    return found


def _flat(config: Any) -> dict[str, Any]:
    return flat_settings({name: config[name] for name in ("model", "data") if name in config}) if config else {}


def _absent(candidate: Candidate, error: Exception) -> str:
    """Return why there are no pictures; errors of the machine are raised."""
    if of_machine(error):
        raise error
    return f"no predictions of {candidate.name}: {one_sentence(error)}"


def candidates_of(runs: Sequence[ReportedRun]) -> list[Candidate]:
    """Return the tested runs as candidates, named by experiment and version."""
    return [Candidate("/".join(Path(run.name).parts[-2:]), Path(run.name)) for run in runs if run.is_tested]
