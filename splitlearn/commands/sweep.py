"""`splitlearn sweep` and `splitlearn pareto`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from splitlearn.config.messages import UsageError, did_you_mean
from splitlearn.config.precheck import check_trainer_arguments, example

if TYPE_CHECKING:
    from splitlearn.config.sweep_trial import ConfigTrial
    from splitlearn.sweep import Frontiers, Study, Trial

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
    seed: int = 0,
    out: Path = Path("runs/sweep"),
    storage: str | None = None,
    cache: str = "float16",
    cache_dir: Path = Path("runs/features"),
    views: int = 1,
    rate: str = RATE,
    score: str = SCORE,
    by: str | None = None,
) -> None:
    """Train points drawn from a space over a config, show the frontier that no other beats, and test what is on it.

    Points are chosen by images that are held out from training; test images are looked at once, in the end.
    --config FILE and settings such as --data.root FOLDER are those of splitlearn fit. Launched again, a sweep goes on.

    Args:
        words: of the config's command line.
        space: YAML file with a parameter of the config a line, e.g. model.rate_weight: {log_uniform: [0.01, 1]};
            {uniform: [1, 16]} and {choice: [1, 2]} likewise.
        trials: how many points; more than before lengthens a sweep.
        workers: how many trials run at a time.
        launcher: where they run: processes, of this machine; ray, on the cluster that RAY_ADDRESS names, or one that is
            started here (needs the extra ray); or the import path of a splitlearn.sweep.Launcher of your own.
        cpus: of a trial, and the threads that it computes with.
        gpus: of a trial, 0.5 for two on each; by default processes see all GPUs, and Ray's workers none.
        seed: of the points.
        out: folder for tables, plot, and a folder with exported weights for each trial.
        storage: file or database that holds the trials, e.g. postgresql+psycopg://USER@HOST/NAME for many machines; by
            default OUT/journal.log. The name of --out tells several sweeps in one database apart.
        cache: how features of the frozen head are kept: float16, float32, uint8, or none to make them every epoch;
            those of validation and test images are always float32.
        cache_dir: folder for them, shared by all sweeps.
        views: how often each training image is augmented for the cache.
        rate: metric to minimise, measured with real payloads on validation images.
        score: metric to maximise, likewise; e.g. val/miou for segmentation.
        by: parameter whose values get a frontier each, e.g. model.model.net.at.
    """
    for option, metric in (("--rate", rate), ("--score", score)):
        if metric.startswith("test/"):
            raise UsageError(
                f"{option} {metric} would choose by test images, whose figures are then too good: take "
                f"val/{metric.removeprefix('test/')}; what is on the frontier is tested in the end"
            )
    if trials < 1 or workers < 1 or views < 1:
        raise UsageError(f"--trials, --workers and --views must be at least 1, got {trials}, {workers} and {views}")
    if cache not in CACHES:
        raise UsageError(f"--cache has no {cache!r}{did_you_mean(cache, CACHES)}; it takes {', '.join(CACHES)}")
    if not words:
        raise UsageError(f"sweep needs a config{example('sweep')}")

    check_trainer_arguments(["fit", *words])
    from rich.console import Console
    from rich.live import Live

    from splitlearn.config.instances import instance
    from splitlearn.config.sweep_data import facts_of
    from splitlearn.config.sweep_processes import SweepTrial
    from splitlearn.config.sweep_trial import ConfigTrial, settings_of
    from splitlearn.data import DataError
    from splitlearn.data.held_out import HeldOutImages
    from splitlearn.reporting import live_table, write_report
    from splitlearn.reporting.terminal import print_whole
    from splitlearn.shortage import ShortageError
    from splitlearn.sweep import Axes, Launcher, Space, SpaceError, State, Study, StudyError, launchers, run_sweep
    from splitlearn.tasks import TrainingTask, run_record

    try:
        drawn_from = Space.read(space)
    except (SpaceError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    if by is not None and by not in drawn_from.parameters:
        raise UsageError(f"--by {by} is no parameter of {space}{did_you_mean(by, drawn_from.parameters)}")
    name, axes, address = out.name, Axes(rate, score), storage or str(out / JOURNAL)
    run = ConfigTrial(tuple(words), out, name, None if cache == "none" else cache_dir, cache, views)
    task, data = run.first([drawn_from.point(seed, number) for number in range(trials)])  # before anything is stored
    try:
        HeldOutImages(data)
    except DataError as error:
        raise UsageError(str(error)) from error
    measured = [str(key) for key in task.val_scores] if isinstance(task, TrainingTask) else []
    if measured and score.startswith("val/") and not score.startswith(tuple(measured)):
        raise UsageError(
            f"--score {score} is not measured by {type(task).__name__}{did_you_mean(score, measured)}; it measures "
            f"{', '.join(measured)}"
        )
    starter = instance("launcher", launcher, launchers, Launcher, cpus=cpus, gpus=gpus)
    try:
        study = Study(address, name)  # whether it can be reached
        run.data_of(getattr(task, "model", None), data)  # the first point's features; workers find them there
        settings = {"config": settings_of(words), "rate": rate, "score": score, "cache": cache, "views": views}
        settings["data"] = facts_of(data)
        study.create(drawn_from, trials, seed, settings)  # last, since another launch must repeat these settings
    except StudyError as error:
        raise UsageError(str(error)) from error
    console = Console()
    console.print(f"{trials} trials; what workers print goes to {out / 'logs'}", soft_wrap=True)
    ended = 0
    with Live(console=console, refresh_per_second=1, transient=True) as live:

        def watch(now: list[Trial]) -> None:
            nonlocal ended
            before, ended = ended, sum(trial.state in (State.FINISHED, State.FAILED) for trial in now)
            live.update(live_table(now, axes))
            if not console.is_terminal and ended > before:
                console.print(f"{ended} of {len(now)} trials have ended")

        found = run_sweep(address, name, SweepTrial(run), workers, out / "logs", watch, starter)
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
            "the same command again, which runs these alone"
        )
    if not report.curves[0].trials:
        raise UsageError(f"no trial has finished: {found[0].error}")


def _test_frontiers(study: Study, run: ConfigTrial, report: Frontiers, trials: list[Trial]) -> str:
    """Test once what is on the frontiers and was not tested yet, once no trial is left; return what could not be."""
    from rich.progress import track

    from splitlearn.sweep import State

    if left := sum(trial.state in (State.WAITING, State.RUNNING) for trial in trials):
        return f"{left} trials run on other machines: the frontier is tested by the launch that sees the last one end"
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # a word of each trainer about its devices
    chosen = {trial.number: trial for curve in report.curves for trial in curve.frontier}
    untested = [t for t in chosen.values() if not any(name.startswith("test/") for name in t.metrics)]
    here = [trial for trial in untested if run.is_here(trial.number)]
    for trial in track(here, "Tests of the frontier", transient=True):
        study.note_test(trial.number, run.test(trial.number, trial.values, trial.metrics))
    away = [str(run.folder(trial.number)) for trial in untested if trial not in here]
    if not away:
        return ""
    return f"{', '.join(away)} lie on other machines: launch again there, or here with copies, to test them"


def pareto(
    out: Path,
    storage: str | None = None,
    name: str | None = None,
    rate: str | None = None,
    score: str | None = None,
    by: str | None = None,
    at: str | None = None,
    baseline: Path | None = None,
    html: bool = False,
    unsplit: float | None = None,
) -> None:
    """Show the frontier of a sweep: CSV, JSON and plot, with hypervolume, rates at given scores and BD-rate.

    What was tested has its test/… beside the figures that it was chosen by.

    Args:
        out: folder for the files.
        storage: file or database of the sweep; by default OUT/journal.log.
        name: of the sweep, the last word of its --out; by default that of this --out.
        rate: metric to minimise; by default the sweep's.
        score: metric to maximise; by default the sweep's.
        by: parameter whose values get a frontier each, e.g. model.model.net.at.
        at: scores to give the rates of, e.g. 0.87,0.86; interpolated.
        baseline: CSV file with columns of the same metrics, such as another sweep's trials.csv, to compare with; where
            it has the column --by, each value with its own.
        html: also write pareto.html, an interactive plot; needs the extra viz.
        unsplit: score of the network without a cut, drawn as a line.
    """
    address = storage or str(out / JOURNAL)
    if "://" not in address and not Path(address).is_file():
        raise UsageError(f"no sweep at {address}: name its --storage, or the --out that it was launched with")
    scores = _numbers(at)
    from rich.console import Console

    from splitlearn.reporting import (
        CHOSEN_BY_TEST,
        figures_table,
        frontier_table,
        write_interactive,
        write_report,
    )
    from splitlearn.reporting.terminal import print_whole
    from splitlearn.sweep import Axes, Study, StudyError, read_baseline
    from splitlearn.tasks import run_record

    try:
        study = Study(address, name or out.name)
        axes = Axes(rate or study.settings["rate"], score or study.settings["score"])
    except StudyError as error:
        raise UsageError(str(error)) from error
    trials = study.trials()
    measured = sorted({name for trial in trials for name in trial.metrics})
    for option, metric in (("--rate", axes.rate), ("--score", axes.score)):
        if measured and metric not in measured:
            raise UsageError(f"{option} {metric} was not measured{did_you_mean(metric, measured)}")
    try:
        points = None if baseline is None else read_baseline(baseline, axes, by)
        report = write_report(trials, axes, out, run_record(), by, scores, points, unsplit)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    if html:
        write_interactive(trials, axes, out / "pareto.html")
    console = Console()
    if axes.are_of_test_images:
        console.print(CHOSEN_BY_TEST, soft_wrap=True)
    print_whole(frontier_table(report.curves[0].frontier, axes), figures_table(report, axes))
    written = ["trials.csv", "frontier.csv", "pareto.json", *(["pareto.html"] if html else []), "pareto.png"]
    console.print(f"{out}: {', '.join(written[:-1])} and {written[-1]} written", soft_wrap=True)


def _numbers(text: str | None) -> list[float]:
    try:
        return [float(word) for word in (text or "").split(",") if word]
    except ValueError:
        raise UsageError(f"--at takes numbers, e.g. 0.87,0.86; got {text!r}") from None
