"""Searches that cost less than a random one: what they spend of its training, and what they find of its frontier.

ResNet-20 on CIFAR-10, cut twice; channels, stride and rate weight of our bottleneck are drawn. At each cut and seed of
the sweep, `splitlearn sweep` searches in four ways:
    random    all trials, each trained to its end
    halving   the same trials and seeds, with --pruner SuccessiveHalving, which stops those far from the frontier
    Sobol     as many trials, trained to their ends, as halving's epochs pay for; points spread evenly
    TPE       likewise; points drawn where earlier ones promise most
Spent are the epochs of all trials, which have equally many steps, over those of the random search. Found is the area
between frontier and a reference point (hypervolume), on validation images, over that of the random search; the point is
the largest rate and the lowest accuracy of any trial at this cut and seed. Finished sweeps are kept in --runs, and a
killed run goes on.

Goal: halving finds 0.98 and spends 0.4.
    scripts/benchmarks/bench_searches --data FOLDER       with FOLDER/train/<class>/*.jpg and FOLDER/test/<class>/*.jpg
Further options, such as --data.val_size 1000, are settings of all trainings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scripts.papers.common.config_rows import DATTA
from scripts.papers.common.page import about, record, write_page
from scripts.papers.common.runs import Run, refuse_other_settings, run_command
from splitlearn.files import whole_file, write_json
from splitlearn.reporting import markdown_table
from splitlearn.sweep import Study, Trial, hypervolume
from splitlearn.sweep.trial import State

OURS = "configs/datta2022/ours_factorized.yaml"
SPACE = """model.model.bottleneck.channels: {choice: [8, 16, 32, 64]}
model.model.bottleneck.stride: {choice: [1, 2, 4, 8]}
model.rate_weight: {log_uniform: [0.005, 1]}
"""
RATE, SCORE = "val/bits_per_pixel", "val/accuracy"
WHOLE, HALVING = "random", "halving"
WAYS = {
    WHOLE: (),
    HALVING: ("--pruner", "SuccessiveHalving"),
    "Sobol": ("--sampler", "sobol"),
    "TPE": ("--sampler", "TPE"),
}
FOUND, SPENT = 0.98, 0.4  # the goal of halving


@dataclass(frozen=True)
class Search:
    """What is searched, and for how long.

    Attributes:
        data: folder of the images.
        runs: folder of the sweeps.
        trials: of the whole search.
        epochs: of each trial.
        share: of the training images that an epoch takes.
        settings: further words of all sweeps.
    """

    data: Path
    runs: Path
    trials: int
    epochs: int
    share: float
    settings: tuple[str, ...]

    def run(self, way: str, cut: str, seed: int, trials: int) -> list[Trial]:
        """Return the trials of a sweep, which is run or finished first."""
        space, out = self.runs / "space.yaml", self.runs / f"{cut}_{seed}_{way}"
        with whole_file(space) as temporary:
            temporary.write_text(SPACE)
        words = [*Run(out, (*DATTA, OURS)).words, "--data.root", str(self.data), "--model.model.net.at", cut]
        words += ["--trainer.max_epochs", str(self.epochs), "--trainer.limit_train_batches", str(self.share)]
        words += ["--trainer.limit_test_batches", "1", *self.settings, "--space", str(space), "--trials", str(trials)]
        words += ["--seed", str(seed), "--cache_dir", str(self.runs / "features"), "--out", str(out), *WAYS[way]]
        run_command(["sweep", *words])
        return Study(str(out / "journal.log"), out.name).trials()

    def epochs_of(self, trials: Sequence[Trial]) -> int:
        """Return how many epochs trials have trained together."""
        return sum(self.epochs if trial.stopped_after is None else trial.stopped_after for trial in trials)

    def compared(self, cut: str, seed: int) -> dict[str, dict[str, float]]:
        """Return what each way spends and finds at a cut and a seed, over the whole random search."""
        found = {way: self.run(way, cut, seed, self.trials) for way in (WHOLE, HALVING)}
        few = max(1, round(self.epochs_of(found[HALVING]) / self.epochs))
        found |= {way: self.run(way, cut, seed, few) for way in WAYS if way not in found}
        points = {way: points_of(trials) for way, trials in found.items()}
        worst_rate, _ = np.concatenate(list(points.values())).max(0)
        _, worst_score = np.concatenate(list(points.values())).min(0)
        area = {way: hypervolume(several, worst_rate, worst_score) for way, several in points.items()}
        spent = {way: self.epochs_of(trials) for way, trials in found.items()}
        return {
            way: {
                "trials": len(found[way]),
                "finished": len(points[way]),
                "spent": spent[way] / spent[WHOLE],
                "found": area[way] / area[WHOLE] if area[WHOLE] else 1.0,  # no trial is better than another
            }
            for way in WAYS
        }


def points_of(trials: Sequence[Trial]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return rate and score `(n, 2)` of the trials that were trained to their ends."""
    finished = [trial.metrics for trial in trials if trial.state is State.FINISHED]
    return np.array([(metrics[RATE], metrics[SCORE]) for metrics in finished])


def rows(found: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> Iterator[list[str]]:
    """Yield a row for each cut and way: means over the seeds, and the least found and most spent of any."""
    for cut, seeds in found.items():
        for way in WAYS:
            each = [seed[way] for seed in seeds.values()]
            spent, got = ([float(one[name]) for one in each] for name in ("spent", "found"))
            trials = ", ".join(f"{one['finished']:.0f} of {one['trials']:.0f}" for one in each)
            figures = [np.mean(got), min(got), np.mean(spent), max(spent)]
            yield [cut, way, trials, *(f"{figure:.3f}" for figure in figures)]


def main() -> None:
    """Run what has not been run; write JSON file and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/*.jpg and test/…")
    parser.add_argument("--cuts", nargs="+", default=["layer3", "layer3.1"])
    parser.add_argument("--seeds", type=int, default=3, help="of the sweep; default 3")
    parser.add_argument("--trials", type=int, default=32, help="of the whole random search; default 32")
    parser.add_argument("--epochs", type=int, default=8, help="of each trial; default 8")
    parser.add_argument("--share", type=float, default=0.2, help="of the training images in an epoch; default 0.2")
    parser.add_argument("--runs", type=Path, default=Path("runs/searches"), help="folder that keeps what is finished")
    parser.add_argument("--out", type=Path, default=Path("docs/results/searches"), help="folder of the page")
    options, settings = parser.parse_known_args()
    search = Search(options.data, options.runs, options.trials, options.epochs, options.share, tuple(settings))
    refuse_other_settings(
        options.runs,
        {"trials": search.trials, "epochs": search.epochs, "share": search.share, "settings": settings, "space": SPACE},
    )
    found = {cut: {str(seed): search.compared(cut, seed) for seed in range(options.seeds)} for cut in options.cuts}
    facts = {"data": "CIFAR-10 as JPEG", **record()}
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "results.json", {**facts, "epochs": search.epochs, "share": search.share, "cuts": found})
    heads = ["cut", "search", "trained to the end", "found, mean", "found, least", "spent, mean", "spent, most"]
    length = f"{search.epochs} epochs of {search.share:.0%} of the training images"
    parts = ["# Searches against a whole random search\n", about(facts, f"{options.seeds} seeds", length)]
    parts += [(__doc__ or "").split("\n\n")[1].replace("    random", "\n    random", 1) + "\n"]
    write_page(options.out / "README.md", [*parts, markdown_table(heads, rows(found), "lllrrrr")])
    for cut, seeds in found.items():
        each = [seed[HALVING] for seed in seeds.values()]
        met = all(one["found"] >= FOUND and one["spent"] <= SPENT for one in each)
        told = ", ".join(f"{one['found']:.3f} of the area for {one['spent']:.3f} of the epochs" for one in each)
        print(f"{cut}: halving finds {told}: {'met' if met else 'missed'}")
    print(f"{options.out / 'README.md'} written")


if __name__ == "__main__":
    main()
