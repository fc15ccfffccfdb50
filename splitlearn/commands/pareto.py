"""`splitlearn pareto`: the Pareto frontier of a sweep."""

from __future__ import annotations

from pathlib import Path

from splitlearn.commands.sweep import opened_sweep
from splitlearn.config.messages import UsageError, did_you_mean
from splitlearn.config.options import numbers


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
    beside: str | None = None,
    unsplit: float | None = None,
) -> None:
    """Show the Pareto frontier of a sweep: CSV, JSON and plot, with hypervolume, rates at given scores and BD-rate.

    For points that were tested, the metrics test/… are shown too.

    Args:
        out: folder for the files.
        storage: file or database of the sweep; by default OUT/journal.log.
        name: name of the sweep, the last part of its --out; by default the last part of this --out.
        rate: metric to minimise; by default that of the sweep.
        score: metric to maximise; by default that of the sweep.
        by: parameter with a separate frontier for each value, e.g. model.model.net.at.
        at: scores for which to interpolate rates, e.g. 0.87,0.86.
        baseline: CSV file with columns of the same metrics for comparison, such as another sweep's trials.csv; values
            of a column --by are compared separately.
        html: also write pareto.html, a page that works without a network: frontier with trials to point at, parallel
            coordinates, importance of parameters, progress over time; needs the extra viz.
        beside: folders of other sweeps on the same page, e.g. runs/paper,runs/ours, each with a journal.log.
        unsplit: score of the network without a cut, drawn as a line.
    """
    scores = numbers("--at", at, "numbers, e.g. 0.87,0.86", float)
    from rich.console import Console

    from splitlearn.reporting import (
        CHOSEN_BY_TEST,
        SweepResults,
        figures_table,
        frontier_table,
        sweep_html,
        write_report,
    )
    from splitlearn.reporting.terminal import print_whole
    from splitlearn.sweep import read_baseline
    from splitlearn.tasks import run_record

    if beside and not html:
        raise UsageError("--beside is for the page: add --html true")
    study, axes = opened_sweep(out, storage, name, rate, score)
    trials = study.trials()
    folders = [Path(folder) for folder in (beside or "").split(",") if folder]
    alike = {each.name for each in folders} & {name or out.name} or len({each.name for each in folders}) < len(folders)
    others = [
        SweepResults(str(each) if alike else each.name, opened_sweep(each, None, None)[0].trials(), each)
        for each in folders
    ]
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
        try:
            sweep_html([SweepResults(name or out.name, trials, out), *others], axes, out / "pareto.html")
        except ValueError as error:
            raise UsageError(str(error)) from error
    console = Console()
    if axes.are_of_test_images:
        console.print(CHOSEN_BY_TEST, soft_wrap=True)
    print_whole(frontier_table(report.curves[0].frontier, axes), figures_table(report, axes))
    written = ["trials.csv", "frontier.csv", "pareto.json", *(["pareto.html"] if html else []), "pareto.png"]
    console.print(f"{out}: {', '.join(written[:-1])} and {written[-1]} written", soft_wrap=True)
