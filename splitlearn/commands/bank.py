"""`splitlearn bank`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from splitlearn.commands.sweep import JOURNAL
from splitlearn.config.messages import UsageError, did_you_mean

REMEDY = "give the config of the sweep, --config FILE, or --trust true if the folder is yours"

if TYPE_CHECKING:
    from splitlearn.sweep import Trial
    from splitlearn.sweep.space import Value


def bank(
    sweep: Path,
    out: Path,
    rates: int = 8,
    where: str | None = None,
    storage: str | None = None,
    name: str | None = None,
    licence: str = "not stated",
    config: Path | None = None,
    trust: bool = False,
) -> None:
    """Write the frontier of a sweep as a bank: one file of up to eight rates for one network, switched image by image.

    What is on the frontier is what the sweep's validation images say; test/… stand beside it where it was tested.

    Args:
        sweep: folder of the sweep, the --out that it was launched with; the trials' exported weights lie in it.
        out: safetensors file; beside it appear a record, .json, and a config for splitlearn test, .yaml.
        rates: how many points of the frontier at most, 1 to 8; they are spread evenly over the logarithm of the rate,
            and the frontier's ends are among them.
        where: PARAMETER=VALUE; only trials with this value count, e.g. model.model.net.at=layer3. A bank has one cut.
        storage: file or database of the sweep; by default SWEEP/journal.log.
        name: of the sweep, the last word of its --out; by default that of --sweep.
        licence: licence of the weights, and whose they are; goes into the record.
        config: of the sweep, in place of the one in the trials' results.json; needed if it names classes of your own.
        trust: take the config of results.json whatever classes it names: they are imported and run.
    """
    if not 1 <= rates <= 8:
        raise UsageError(f"--rates must lie in 1…8, since three bits name a payload's rate; got {rates}")
    if out.suffix != ".safetensors":
        raise UsageError(f"--out must be the name of a .safetensors file, got {out}")
    address = storage or str(sweep / JOURNAL)
    if "://" not in address and not Path(address).is_file():
        raise UsageError(f"no sweep at {address}: name the --out that it was launched with, or its --storage")
    from rich.console import Console

    from splitlearn.commands.bank_files import bank_command
    from splitlearn.deploy import BankError, read_export
    from splitlearn.reporting import CHOSEN_BY_TEST
    from splitlearn.sweep import Axes, Study, StudyError, evenly_spaced_rates
    from splitlearn.tasks import check_settings, quieten, run_record
    from splitlearn.tasks.results import read_results

    quieten()
    try:
        study = Study(address, name or sweep.name)
        axes = Axes(study.settings["rate"], study.settings["score"])
    except StudyError as error:
        raise UsageError(str(error)) from error
    frontier = axes.frontier(_those(study.trials(), where))
    if not frontier:
        raise UsageError(f"no trial of {sweep} has finished: splitlearn sweep goes on where it was")
    chosen = [frontier[i] for i in evenly_spaced_rates([trial.metrics[axes.rate] for trial in frontier], rates)]
    folders = [sweep / "trials" / f"{trial.number:03}" for trial in chosen]
    exports = [folder / "bottleneck.safetensors" for folder in folders]
    for path in (*exports, *(folder / "results.json" for folder in folders)):
        if not path.is_file():
            raise UsageError(f"{path} is missing: copy the folder from the machine that has run this trial")
    for trial, path in zip(chosen, exports, strict=True):
        told = read_export(path)[0]["metrics"]
        differing = [metric for metric, value in told.items() if trial.metrics.get(metric, value) != value]
        if differing:
            raise UsageError(f"{path} is of another trial, {differing[0]} differs: copy the folder of this sweep's own")
    file = folders[0] / "results.json"
    results = read_results(file)
    if config is not None:
        from splitlearn.config.build import config_settings

        settings = config_settings(config, None)
    else:
        settings = results.get("config", {})
        for section in () if trust else ("model", "data"):
            check_settings(settings.get(section), file, REMEDY)
    origin = {
        "command": run_record()["command"],
        "sweep": results.get("command"),
        "trials": [{"trial": trial.number, **trial.values} for trial in chosen],
    }
    if axes.are_of_test_images:
        Console().print(CHOSEN_BY_TEST, soft_wrap=True)
    try:
        bank_command(exports, out, axes.score, settings, origin, licence)
    except BankError as error:
        raise UsageError(f"{error}; choose trials, e.g. --where model.model.net.at=layer3") from error


def _those(trials: list[Trial], where: str | None) -> list[Trial]:
    """Return the trials with a value of a parameter, `PARAMETER=VALUE`; all without one."""
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
    """Return whether a value is written as this text; numbers may be written in several ways."""
    try:
        return str(value) == text or (not isinstance(value, str) and float(text) == value)
    except ValueError:
        return False
