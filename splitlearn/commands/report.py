"""`splitlearn report`: runs and sweeps as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from splitlearn.commands.sweep import opened_sweep
from splitlearn.config.messages import UsageError
from splitlearn.config.options import make_folder

MOST_RATES = 6  # of a sweep, in pictures


def report(
    folders: Sequence[Path],
    out: Path = Path("report.html"),
    images: int = 4,
    title: str | None = None,
    data_root: Path | None = None,
    trust: bool = False,
) -> None:
    """Show runs and sweeps as one HTML page: tables, plots, and predictions from payloads at falling rates.

    The page has all pictures inside, needs no network, and fits a phone. FOLDER is a folder of a run, of a sweep, or of
    many, as splitlearn fit, test and sweep write them: splitlearn report runs/quickstart runs/sweep_quickstart.
    Predictions are those of tested runs, and of the frontier of a sweep, whose data and weights are still there.

    Args:
        folders: folders of runs and sweeps.
        out: HTML file to write.
        images: number of test images with predictions; 0 for none.
        title: title of the page; by default the names of the folders.
        data_root: folder of the images, in place of data.root in the settings.
        trust: accept settings with any classes, which are imported and run.
    """
    if not folders:
        raise UsageError("report takes folders of runs and sweeps, e.g. splitlearn report runs/quickstart")
    if not 0 <= images <= 64:
        raise UsageError(f"--images must lie in 0…64, got {images}")
    from rich.console import Console

    from splitlearn.config.reported import Candidate, candidates_of, found_folders, pictured, reported_run
    from splitlearn.reporting import ReportedSweep, write_html_report
    from splitlearn.sweep import evenly_spaced_rates
    from splitlearn.tasks import quieten

    quieten()
    make_folder(out, file=True)
    places, swept = found_folders(folders)
    runs = [reported_run(place) for place in places]
    candidates, sweeps = candidates_of(runs), []
    for place in swept:
        study, axes = opened_sweep(place, None, None)
        trials = study.trials()
        sweeps.append(ReportedSweep(str(place), axes, trials))
        if frontier := axes.frontier(trials):
            chosen = evenly_spaced_rates([trial.metrics[axes.rate] for trial in frontier], MOST_RATES)
            candidates += [
                Candidate(f"{place.name}, trial {number}", place / "trials" / f"{number:03}")
                for number in (frontier[i].number for i in chosen)
            ]
    shown, notes = pictured(candidates, images, data_root, trust) if images else ([], [])
    write_html_report(out, title or f"Report of {', '.join(map(str, folders))}", runs, sweeps, shown, notes)
    console = Console()
    for note in notes:
        console.print(note, soft_wrap=True, highlight=False)
    told = f"{len(runs)} runs, {len(sweeps)} sweeps, {len(shown)} images with predictions"
    console.print(f"{out}: {told}, {out.stat().st_size:,} bytes", soft_wrap=True, highlight=False)
