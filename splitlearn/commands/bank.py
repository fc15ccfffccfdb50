"""`splitlearn bank`: a bank of compression rates, from the Pareto frontier of a sweep or from a model of many rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitlearn.commands.sweep import opened_sweep
from splitlearn.config.messages import UsageError, did_you_mean
from splitlearn.discovery import renamed_path, with_current_paths

HEADER = """# A bank of {count} rates, written by splitlearn bank.
# Launch:  splitlearn test --config configs/trainer.yaml --config {path} --model.model.rate 0
# Rates 0 … {last} in ascending order of bytes; instead of a rate, --model.model.budget 64 limits payloads to 64 bytes.
"""
REMEDY = "give the config of the sweep, --config FILE, or --trust true if the folder is yours"

if TYPE_CHECKING:
    from splitlearn.sweep import Trial
    from splitlearn.sweep.distributions import Value


def bank(
    out: Path,
    sweep: Path | None = None,
    ckpt_path: Path | None = None,
    rates: int | None = None,
    where: str | None = None,
    storage: str | None = None,
    name: str | None = None,
    score: str = "val/accuracy",
    licence: str = "not stated",
    config: Path | None = None,
    data_root: Path | None = None,
    trust: bool = False,
) -> None:
    """Write a bank, a file with up to eight compression rates for one network, from a sweep or a checkpoint.

    The rate can be chosen for each image. With --sweep, validation images determine the Pareto frontier; for points
    that were tested, the metrics test/… are stored too. With --ckpt_path, a model of many rates (GainModel) is measured
    at each rate on the validation images.

    Args:
        out: safetensors file to write. A record (.json) and a config for splitlearn test (.yaml) are written beside it.
        sweep: folder of the sweep (its --out), with the exported weights of its trials.
        ckpt_path: instead, a checkpoint of splitlearn fit of a GainModel.
        rates: number of rates, 1 to 8. Of a sweep, the largest number, by default 8; evenly spaced on a logarithmic
            scale, both ends of the frontier included. Of a checkpoint, by default the trained rates; otherwise evenly
            spaced from the first to the last trained one.
        where: PARAMETER=VALUE to use only trials with this value, e.g. model.model.net.at=layer3. A bank has one cut.
        storage: file or database of the sweep; by default SWEEP/journal.log.
        name: name of the sweep, the last part of its --out; by default the last part of --sweep.
        score: metric by which the rates of a checkpoint are weighed, higher is better; a sweep has its own.
        licence: licence and owner of the weights, for the record.
        config: config of the sweep or of the training, in place of that in results.json or in the checkpoint; needed
            for your own classes.
        data_root: folder of the images to measure a checkpoint with, in place of the config's data.root.
        trust: accept a config in results.json or in the checkpoint with any classes, which are imported and run.
    """
    if rates is not None and not 1 <= rates <= 8:
        raise UsageError(f"--rates must lie in 1…8, since three bits name a payload's rate; got {rates}")
    if out.suffix != ".safetensors":
        raise UsageError(f"--out must be the name of a .safetensors file, got {out}")
    if (sweep is None) == (ckpt_path is None):
        raise UsageError("give what the bank is made of: --sweep FOLDER, or --ckpt_path FILE of a GainModel")
    if sweep is not None:
        if data_root is not None:
            raise UsageError("--data_root goes with --ckpt_path, since the trials of a sweep are measured")
        _of_sweep(sweep, out, rates or 8, where, storage, name, licence, config, trust)
    elif ckpt_path is not None:
        if where or storage or name:
            raise UsageError("--where, --storage and --name go with --sweep")
        _of_checkpoint(ckpt_path, out, rates, score, licence, config, data_root, trust)


def _of_sweep(
    sweep: Path,
    out: Path,
    rates: int,
    where: str | None,
    storage: str | None,
    name: str | None,
    licence: str,
    config: Path | None,
    trust: bool,
) -> None:
    """Write the bank of a sweep's Pareto frontier; arguments as for `bank`."""
    from rich.console import Console

    from splitlearn.deploy import BankError, export_bank
    from splitlearn.reporting import CHOSEN_BY_TEST
    from splitlearn.sweep import evenly_spaced_rates
    from splitlearn.tasks import run_record
    from splitlearn.tasks.results import read_results

    study, axes = opened_sweep(sweep, storage, name)
    frontier = axes.frontier(_those(study.trials(), where))
    if not frontier:
        raise UsageError(f"no trial of {sweep} has finished: continue it with splitlearn sweep")
    chosen = [frontier[i] for i in evenly_spaced_rates([trial.metrics[axes.rate] for trial in frontier], rates)]
    folders = [sweep / "trials" / f"{trial.number:03}" for trial in chosen]
    exports = _exports(chosen, folders)
    results = read_results(folders[0] / "results.json")
    settings = _settings(results, folders[0] / "results.json", config, trust)
    origin = {
        "command": run_record()["command"],
        "sweep": results.get("command"),
        "trials": [{"trial": trial.number, **trial.values} for trial in chosen],
    }
    if axes.are_of_test_images:
        Console().print(CHOSEN_BY_TEST, soft_wrap=True)
    try:
        _write(lambda: export_bank(exports, out, axes.score), out, axes.score, settings, origin, licence)
    except BankError as error:
        raise UsageError(f"{error}; choose trials, e.g. --where model.model.net.at=layer3") from error


def _of_checkpoint(
    ckpt_path: Path,
    out: Path,
    rates: int | None,
    score: str,
    licence: str,
    config: Path | None,
    data_root: Path | None,
    trust: bool,
) -> None:
    """Measure the rates of a checkpoint's model, and write their bank; arguments as for `bank`."""
    from splitlearn.config.build import config_settings, data_from
    from splitlearn.config.gain_rates import evenly_placed, measured_rates
    from splitlearn.config.loading import load_task
    from splitlearn.config.packaged import data_of_checkpoint
    from splitlearn.data.held_out import HeldOutImages
    from splitlearn.deploy import export_gains
    from splitlearn.models import GainModel
    from splitlearn.tasks import quieten, run_record
    from splitlearn.tasks.loading import config_of, read_checkpoint

    quieten()
    told = config_of(read_checkpoint(ckpt_path), ckpt_path)
    own = config_settings(config, None) if config is not None else told if trust else None
    settings = with_current_paths(own or told, renamed_path)
    task = load_task(ckpt_path, own and own["model"])
    model = getattr(task, "model", None)
    if not isinstance(model, GainModel):
        raise UsageError(
            f"the model of {ckpt_path} is a {type(model).__name__}, which has one rate: export it with splitlearn "
            "export, or give a checkpoint of a GainModel"
        )
    data = data_from(own["data"], data_root) if own else data_of_checkpoint(settings, ckpt_path, data_root)
    positions = None if rates is None else evenly_placed(rates, len(model.rate_weights))

    def measured_bank() -> None:
        metrics = measured_rates(task, HeldOutImages(data), positions, "val/")
        if score not in metrics[0]:
            raise UsageError(
                f"a test of {type(task).__name__} has no {score}: give --score, one of {', '.join(sorted(metrics[0]))}"
            )
        export_gains(model, out, metrics, positions, score)

    origin = {"command": run_record()["command"], "training": settings}
    _write(measured_bank, out, score, settings, origin, licence)


def _exports(trials: Sequence[Trial], folders: Sequence[Path]) -> list[Path]:
    """Return the exported weights of trials; raise UsageError if files are missing or belong to other trials."""
    from splitlearn.deploy import read_export

    exports = [folder / "bottleneck.safetensors" for folder in folders]
    for path in (*exports, *(folder / "results.json" for folder in folders)):
        if not path.is_file():
            raise UsageError(f"{path} is missing: copy the folder from the machine that ran this trial")
    for trial, path in zip(trials, exports, strict=True):
        told = read_export(path)[0]["metrics"]
        differing = [metric for metric, value in told.items() if trial.metrics.get(metric, value) != value]
        if differing:
            raise UsageError(f"{path} is of another trial, {differing[0]} differs: copy the folder of this sweep")
    return exports


def _settings(results: Mapping[str, Any], file: Path, config: Path | None, trust: bool) -> Mapping[str, Any]:
    """Return the settings of the sweep's trials, from a config or from trusted results."""
    from splitlearn.config.build import config_settings
    from splitlearn.tasks import check_settings

    if config is not None:
        return config_settings(config, None)
    for section in () if trust else ("model", "data"):
        check_settings(results.get("config", {}).get(section), file, REMEDY)
    settings: dict[str, Any] = with_current_paths(results.get("config", {}), renamed_path)
    return settings


def _write(
    export: Callable[[], object], out: Path, score: str, config: Mapping[str, Any], origin: Any, licence: str
) -> None:
    """Write bank, by `export`, record and config beside each other; print the cost of a change of rate."""
    from rich.console import Console

    from splitlearn.config.build import task_from
    from splitlearn.config.export_config import settings_to_test, write_config
    from splitlearn.deploy import read_bank, write_record
    from splitlearn.reporting.bank import bank_table
    from splitlearn.reporting.terminal import print_whole
    from splitlearn.tasks import quieten

    quieten()
    try:
        settings = settings_to_test(config, "splitlearn.deploy.load_bank", out, f"bank_{out.stem}")
    except ValueError as error:
        raise ValueError(f"{error}: make the bank in Python, with splitlearn.deploy.export_bank") from error
    export()
    model: Any = task_from(settings["model"]).model
    measured = [
        {name: value for name, value in manifest["metrics"].items() if name.startswith(("val/", "test/"))}
        for manifest, _ in read_bank(out)[1]
    ]
    metrics = {f"rate_{i}/{name}": value for i, told in enumerate(measured) for name, value in told.items()}
    record, launch = write_record(out, metrics, origin, licence), out.with_suffix(".yaml")
    write_config(launch, HEADER.format(count=len(measured), path=launch, last=len(measured) - 1), settings)
    print_whole(bank_table(model, score, measured))
    size = f"{out.stat().st_size:,} bytes"
    Console().print(f"{out} written, {size}; record: {record}; config: {launch}", soft_wrap=True)


def _those(trials: list[Trial], where: str | None) -> list[Trial]:
    """Return the trials that match `PARAMETER=VALUE`; all if it is None."""
    if where is None:
        return trials
    parameter, _, value = where.partition("=")
    names = dict.fromkeys(name for trial in trials for name in trial.values)
    if parameter not in names:
        raise UsageError(f"--where {where}: the sweep has no parameter {parameter!r}{did_you_mean(parameter, names)}")
    chosen = [trial for trial in trials if _is(trial.values[parameter], value)]
    if not chosen:
        values = dict.fromkeys(str(trial.values[parameter]) for trial in trials)
        raise UsageError(f"--where {where}: in this sweep {parameter} is {' or '.join(values)}")
    return chosen


def _is(value: Value, text: str) -> bool:
    """Return whether a value equals a text; numbers may be written in several ways."""
    try:
        return str(value) == text or (not isinstance(value, str) and float(text) == value)
    except ValueError:
        return False
