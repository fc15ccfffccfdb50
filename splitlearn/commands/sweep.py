"""`splitlearn sweep`: a sweep over a search space; and access to existing sweeps for other commands."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitlearn.config.messages import UsageError, did_you_mean
from splitlearn.config.options import instance, numbers
from splitlearn.config.precheck import check_trainer_arguments, example

if TYPE_CHECKING:
    from rich.console import Console

    from splitlearn.config.sweep_trial import ConfigTrial
    from splitlearn.sweep import Axes, Frontiers, Pruner, Space, Study, Trial

CACHES = ("float16", "float32", "uint8", "none")
RATE, SCORE = "val/bits_per_pixel", "val/accuracy"
JOURNAL = "journal.log"


def sweep(
    words: Sequence[str],
    space: Path,
    trials: int = 32,
    workers: int = 1,
    launcher: str = "processes",
    cpus: int = 1,
    gpus: float | None = None,
    group: int | None = None,
    pruner: str = "none",
    rungs: str | None = None,
    keep: float = 0.5,
    seed: int = 0,
    sampler: str = "random",
    out: Path = Path("runs/sweep"),
    storage: str | None = None,
    cache: str = "float16",
    cache_dir: Path = Path("runs/features"),
    views: int = 1,
    rate: str = RATE,
    score: str = SCORE,
    by: str | None = None,
    dashboard: bool = False,
) -> None:
    """Train a config with drawn values of some parameters, show the Pareto frontier, and test the points on it.

    Points are selected by validation images; test images are used once, at the end. --config FILE and settings such as
    --data.root FOLDER are given as in splitlearn fit. A new launch continues an interrupted sweep.

    Args:
        words: command-line arguments of splitlearn fit.
        space: YAML file with one parameter of the config per line, e.g. model.rate_weight: {log_uniform: [0.01, 1]};
            also {uniform: [1, 16]}, {int: [8, 64]}, {log_int: [8, 64]} and {choice: [1, 2]}. With when: {PATH: VALUE}
            in the braces, a parameter exists only with this value of another. A line where: [device_macs < 5e6]
            states limits of the models: device_macs, parameters, encoder_macs, decoder_macs and others.
        trials: number of points; a larger number than before extends a sweep.
        workers: number of simultaneous trials.
        launcher: "processes" runs trials on this machine; "ray" uses the cluster at RAY_ADDRESS, or starts one on this
            machine (install splitlearn[ray]); or the import path of your own splitlearn.sweep.Launcher.
        cpus: CPUs and threads per trial.
        gpus: GPUs per trial, e.g. 0.5 for two trials per GPU; by default local processes see all, Ray workers none.
        group: largest number of trials of one cut that a worker trains together, on the same batches of cached
            features; by default as many as its memory holds, at most 32. Results do not depend on it. Several launches
            of a sweep share its trials better in smaller groups. Points that TPE draws from results train one by one.
        pruner: "none" trains every trial to its end; "SuccessiveHalving" compares them by rate and score on validation
            images after some epochs, and stops those far from the frontier; or the import path of your own
            splitlearn.sweep.Pruner.
        rungs: epochs after which the pruner compares trials, e.g. 1,2,4; by default an eighth and a quarter of all.
        keep: share of the trials that the pruner keeps at each of these.
        seed: seed of the draws, of the first weights of each trial, and of the order of cached batches.
        sampler: "random" draws independent points; "sobol" spreads them evenly; "TPE" draws a few at random and each
            further one where earlier results promise most; or the import path of your own splitlearn.sweep.Sampler.
        out: folder for tables, plot, and a folder with exported weights for each trial.
        storage: file or database of the trials, e.g. postgresql+psycopg://USER@HOST/NAME for several machines; by
            default OUT/journal.log. Sweeps in one database are distinguished by the name of --out.
        cache: precision of the cached features of the frozen head, "float16", "float32" or "uint8"; "none" computes
            them in every epoch. Cached features of validation and test images are always float32.
        cache_dir: folder for cached features, shared by all sweeps.
        views: number of augmented versions of each training image in the cache.
        rate: metric to minimise, measured with real payloads on validation images.
        score: metric to maximise, measured on validation images; e.g. val/miou for segmentation.
        by: parameter with a separate frontier for each value, e.g. model.model.net.at; a pruner compares trials of each
            value by themselves.
        dashboard: show a live page of the trials while they run; needs the extra dashboard.
    """
    if min(trials, workers, views, group or 1) < 1 or group == 0 or seed < 0:
        given = f"got {trials}, {workers}, {views}, {'none' if group is None else group} and {seed}"
        raise UsageError(f"--trials, --workers, --views and --group must be at least 1, and --seed at least 0; {given}")
    if cache not in CACHES:
        raise UsageError(f"--cache has no {cache!r}{did_you_mean(cache, CACHES)}; it takes {', '.join(CACHES)}")
    if not words:
        raise UsageError(f"sweep needs a config{example('sweep')}")
    _check_metrics(rate, score)
    check_trainer_arguments(["fit", *words])
    from rich.console import Console

    from splitlearn.config.build import settings_of
    from splitlearn.config.sweep_data import facts_of
    from splitlearn.config.sweep_group import GroupedTrials, largest_group, obstacles_of
    from splitlearn.config.sweep_numbers import PointNumbers
    from splitlearn.config.sweep_processes import SweepTrial
    from splitlearn.config.sweep_trial import ConfigTrial
    from splitlearn.data import DataError
    from splitlearn.data.held_out import HeldOutImages
    from splitlearn.sweep import (
        Axes,
        Drawing,
        Groups,
        Launcher,
        Sampler,
        Space,
        SpaceError,
        Study,
        StudyError,
        launchers,
        run_sweep,
        samplers,
    )
    from splitlearn.sweep.dashboard import check_installed, live_page

    if dashboard:
        check_installed()
    try:
        drawn_from = Space.read(space)
    except (SpaceError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    if by is not None and by not in drawn_from.parameters:
        raise UsageError(f"--by {by} is no parameter of {space}{did_you_mean(by, drawn_from.parameters)}")
    name, axes, address = out.name, Axes(rate, score), storage or str(out / JOURNAL)
    run = ConfigTrial(tuple(words), out, name, None if cache == "none" else cache_dir, cache, views, seed)
    drawn_by = instance("sampler", sampler, samplers, Sampler)
    drawing = Drawing(drawn_from, trials, seed, drawn_by, PointNumbers(run))
    try:
        ahead = [point.values for point in drawing.ahead({})]
        task, data = run.first(ahead)  # before anything is stored
        HeldOutImages(data)
    except (DataError, SpaceError) as error:
        raise UsageError(str(error)) from error
    _check_score(task, score)
    starter = instance("launcher", launcher, launchers, Launcher, cpus=cpus, gpus=gpus)
    epochs = run.parse(ahead[0]).trainer.max_epochs
    reasons = obstacles_of(run, ahead[0], task)
    chosen = _pruner(pruner, rungs, keep, trials, epochs, reasons, task, drawn_from)
    size = 1 if reasons else largest_group(task, workers) if group is None else group
    try:
        study = Study(address, name)  # whether it can be reached
        run.data_of(getattr(task, "model", None), data)  # the first point's features; workers find them there
        settings = {"config": settings_of(words), "rate": rate, "score": score, "cache": cache, "views": views}
        settings["data"] = facts_of(data)
        settings["pruner"] = chosen.describe(epochs, by)
        study.begin(drawing, settings)  # last, since another launch must repeat these settings
    except (StudyError, SpaceError) as error:
        raise UsageError(str(error)) from error
    console = Console()
    console.print(f"{trials} trials; what workers print goes to {out / 'logs'}", soft_wrap=True)
    if reasons:
        console.print(
            f"trials train one by one, since a loop of its own is needed by {', '.join(reasons)}", soft_wrap=True
        )
    groups = Groups(GroupedTrials(run), size, chosen, epochs or 1, by)
    with _shown(axes, console) as watch, live_page(address) if dashboard else nullcontext() as page:
        if page:
            console.print(f"{page} shows them; splitlearn dashboard --out {out} does at any later time", soft_wrap=True)
        found = run_sweep(address, name, SweepTrial(run), workers, out / "logs", watch, starter, drawing, groups)
    _report(study, run, found, axes, by)


def _pruner(
    name: str,
    rungs: str | None,
    keep: float,
    trials: int,
    epochs: int | None,
    reasons: Sequence[str],
    task: Any,
    drawn_from: Space,
) -> Pruner:
    """Return the pruner of --pruner; raise UsageError if it does not suit the trials."""
    from splitlearn.sweep import Pruner, PrunerError, pruners
    from splitlearn.sweep.rungs import check_pruner

    at = numbers("rungs", rungs, "epochs, ascending and separated by commas", int) or None
    found = instance("pruner", "NoPruner" if name == "none" else name, pruners, Pruner, rungs=at, keep=keep)
    try:
        check_pruner(found, trials, epochs or 1)
    except PrunerError as error:
        raise UsageError(f"--pruner {name}: {error}") from error
    if not found.rungs(epochs or 1):  # it compares nothing
        return found
    if "trainer.max_epochs" in drawn_from.parameters:
        raise UsageError("a pruner compares trials of equal length: take trainer.max_epochs out of the space")
    if reasons:
        raise UsageError(f"a pruner needs trials that can train together, and these cannot: {', '.join(reasons)}")
    if getattr(task, "estimated_bits", None) is None:
        raise UsageError(f"a pruner compares val/estimated_bits, which {type(task).__name__} does not log here")
    return found


def _check_metrics(rate: str, score: str) -> None:
    """Raise UsageError for metrics of test images, which must not be used for selection."""
    for option, metric in (("--rate", rate), ("--score", score)):
        if metric.startswith("test/"):
            raise UsageError(
                f"{option} {metric} would select by test images, which biases their results: use "
                f"val/{metric.removeprefix('test/')}; the frontier is tested at the end"
            )


def _check_score(task: Any, score: str) -> None:
    """Raise UsageError if a task's validation does not measure the score."""
    from splitlearn.tasks import TrainingTask

    measured = [str(key) for key in task.val_scores] if isinstance(task, TrainingTask) else []
    if measured and score.startswith("val/") and not score.startswith(tuple(measured)):
        raise UsageError(
            f"--score {score} is not measured by {type(task).__name__}{did_you_mean(score, measured)}; it measures "
            f"{', '.join(measured)}"
        )


@contextmanager
def _shown(axes: Axes, console: Console) -> Iterator[Callable[[list[Trial]], None]]:
    """Yield a display of the trials' states: a table, or the number of ended trials without a terminal."""
    from rich.live import Live

    from splitlearn.reporting import live_table

    ended = 0
    with Live(console=console, refresh_per_second=1, transient=True) as live:

        def watch(now: list[Trial]) -> None:
            nonlocal ended
            before, ended = ended, sum(trial.has_ended for trial in now)
            live.update(live_table(now, axes))
            if not console.is_terminal and ended > before:
                console.print(f"{ended} of {len(now)} trials have ended")

        yield watch


def _report(study: Study, run: ConfigTrial, found: list[Trial], axes: Axes, by: str | None) -> None:
    """Test the frontier, write all files, and print the trials.

    Raises:
        ShortageError: if trials lacked disk space or memory.
        UsageError: if no trial has finished.
    """
    from rich.console import Console

    from splitlearn.reporting import live_table, write_report
    from splitlearn.reporting.terminal import print_whole
    from splitlearn.resource_errors import ShortageError
    from splitlearn.tasks import run_record

    console, out = Console(), run.out
    report = write_report(found, axes, out, run_record(), by)
    if report.curves[0].trials:
        if said := _test_frontiers(study, run, report, found):
            console.print(said, soft_wrap=True)
        found = study.trials()
        write_report(found, axes, out, run_record(), by)
    print_whole(live_table(found, axes, rows=len(found)))
    console.print(f"{out}: trials.csv, frontier.csv, pareto.json and pareto.png written", soft_wrap=True)
    if lacking := study.lacking():
        raise ShortageError(
            f"{len(lacking)} of {len(found)} trials lacked disk or memory ({lacking[0].error}): make room, and launch "
            "the same command again, which runs only these"
        )
    if not report.curves[0].trials:
        raise UsageError(f"no trial has finished: {found[0].error}")


def _test_frontiers(study: Study, run: ConfigTrial, report: Frontiers, trials: list[Trial]) -> str:
    """Test all untested points of the frontiers when no trial is left; return a message on points not tested."""
    from rich.progress import track

    if left := sum(not trial.has_ended for trial in trials):
        return f"{left} trials run on other machines: the launch that ends last tests the frontier"
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # no message on devices for each trainer
    chosen = {trial.number: trial for curve in report.curves for trial in curve.frontier}
    untested = [t for t in chosen.values() if not any(name.startswith("test/") for name in t.metrics)]
    here = [trial for trial in untested if run.is_here(trial.number)]
    for trial in track(here, "Tests of the frontier", transient=True):
        study.note_test(trial.number, run.test(trial.number, trial.values, trial.metrics))
    away = [str(run.folder(trial.number)) for trial in untested if trial not in here]
    if not away:
        return ""
    return f"{', '.join(away)} are on other machines: launch again there, or here with copies, to test them"


def opened_sweep(
    folder: Path, storage: str | None, name: str | None, rate: str | None = None, score: str | None = None
) -> tuple[Study, Axes]:
    """Return an existing sweep, and the two metrics of its frontier.

    Args:
        folder: folder of the sweep, its --out.
        storage: file or database of the sweep; by default journal.log in the folder.
        name: name of the sweep; by default that of the folder.
        rate: metric to minimise instead of the sweep's.
        score: metric to maximise instead of the sweep's.

    Raises:
        UsageError: if there is no such sweep.
    """
    address = storage or str(folder / JOURNAL)
    if "://" not in address and not Path(address).is_file():
        raise UsageError(f"no sweep at {address}: give the --out of its launch, or its --storage")
    from splitlearn.sweep import Axes, Study, StudyError

    try:
        study = Study(address, name or folder.name)
        return study, Axes(rate or study.settings["rate"], score or study.settings["score"])
    except StudyError as error:
        raise UsageError(str(error)) from error
