"""Rebuild docs/results/gains: one model of six rates against six models trained apart, on ResNet-20 for CIFAR-10.

Both have the same unit, losses, density and cached features, and the same six weights of the rate; only what a rate
shares with the others differs. The times are processor seconds of training and validation. Held-out training images
show how the points lie; test images are measured once. A second set of six, with another seed, tells how far the
comparison is a matter of chance. What is finished is not run again.

    scripts/papers/photographs/gains --data FOLDER        with FOLDER/train/<class>/*.jpg, FOLDER/test/…
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from lightning import seed_everything

from scripts.papers.common.page import about, record, write_page
from scripts.papers.common.runs import Run, kept, refuse_other_settings
from splitlearn.config.build import config_of_words
from splitlearn.config.gain_rates import measured_rates
from splitlearn.config.sweep_trial import WEIGHTS, ConfigTrial
from splitlearn.data.held_out import HeldOutImages
from splitlearn.deploy import export_gains, load_bank
from splitlearn.files import write_json
from splitlearn.models import GainModel, resnet20
from splitlearn.reporting import markdown_table
from splitlearn.shipped import located
from splitlearn.sweep import bd_rate
from splitlearn.tasks.trained_weights import load_trained

OUT = Path("docs/results/gains")
GAINS = "configs/datta2022/gains_resnet20_layer3.yaml"
APART = ("configs/datta2022/resnet20_layer2.yaml", "configs/datta2022/ours_factorized.yaml")
BANK = "bank.safetensors"
Points = list[dict[str, float]]


@dataclass(frozen=True)
class Study:
    """One cut, with the lengths of the trainings.

    Attributes:
        cut: layer of ResNet-20.
        data: folder of the images.
        runs: folder for weights and finished figures.
        epochs: of each model that is trained alone.
        together: epochs of the model of all rates.
        settings: further words of both command lines.
    """

    cut: str
    data: Path
    runs: Path
    epochs: int
    together: int
    settings: tuple[str, ...]

    def trial(self, configs: tuple[str, ...], at: str, epochs: int, seed: int, name: str) -> ConfigTrial:
        """Return what trains configs from cached features."""
        options = (
            f"--{at}.net.at",
            self.cut,
            "--data.root",
            str(self.data),
            "--trainer.max_epochs",
            str(epochs),
            *self.settings,
        )
        words = (*Run(self.runs, configs, options).words, "--seed_everything", str(seed))
        return ConfigTrial(words, self.runs / self.cut / name, name, self.runs / "features", "float16", 2)

    @property
    def gains(self) -> ConfigTrial:
        """The training of all rates together."""
        return self.trial((GAINS,), "model.model.model", self.together, 0, "gains")

    def apart(self, seed: int) -> ConfigTrial:
        """The trainings of a model for each rate."""
        return self.trial(APART, "model.model", self.epochs, seed, f"apart{seed}")

    @property
    def weights(self) -> list[float]:
        """The weight of the rate at each rate."""
        task = config_of_words(self.gains.words)["model"]["init_args"]
        return [float(weight * task["rate_weight"]) for weight in task["model"]["init_args"]["rate_weights"]]


def trained_together(study: Study) -> dict[str, Any]:
    """Train the model of all rates; return points and seconds, and leave its bank."""
    trial = study.gains
    seconds, _ = timed(trial, 0, {})
    task, data = built(trial)
    load_trained(task, trial.folder(0) / WEIGHTS)
    held_out = measured_rates(task, HeldOutImages(data), prefix="val/")
    tested = measured_rates(task, data)
    points = [one | two for one, two in zip(held_out, tested, strict=True)]
    bank = export_gains(task.model, trial.folder(0) / BANK, points)
    return {"seconds": seconds, "points": points, "images": data.info.images, "bank_bytes": bank.stat().st_size}


def trained_apart(study: Study, seed: int, number: int) -> dict[str, Any]:
    """Train a model for one rate; return its point and seconds."""
    trial, values = study.apart(seed), {"model.rate_weight": study.weights[number]}
    seconds, metrics = timed(trial, number, values)
    return {"seconds": seconds, "point": metrics | trial.test(number, values, metrics)}


def timed(trial: ConfigTrial, number: int, values: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """Run a trial, with the features in the cache before; return its processor seconds and metrics."""
    task: Any
    task, data = trial.build(values)
    trial.data_of(task.model, data)
    started = time.process_time()
    metrics = trial(number, values)
    return time.process_time() - started, metrics


def built(trial: ConfigTrial) -> tuple[Any, Any]:
    """Return task and cached data of the training of all rates."""
    seed_everything(0, verbose=False)
    task, data = trial.build({})
    model = task.model
    assert isinstance(model, GainModel)
    return task, trial.data_of(model, data)


def backbone_of(trial: ConfigTrial) -> Any:
    """Return the network around the bottleneck, newly built."""
    model = config_of_words(trial.words)["model"]["init_args"]["model"]["init_args"]["model"]["init_args"]
    return resnet20(weights=model["net"]["init_args"]["model"]["init_args"]["weights"])


def curve(points: Sequence[Mapping[str, float]], part: str = "test") -> list[tuple[float, float]]:
    """Return (bytes per image, accuracy) of points."""
    return [(point[f"{part}/bytes_per_image"], point[f"{part}/accuracy"]) for point in points]


def compared(study: Study, seeds: int) -> dict[str, Any]:
    """Train and measure what is missing, and return the comparison of a cut."""
    folder = study.runs / study.cut
    names = {"epochs": study.epochs, "together": study.together, "settings": study.settings}
    refuse_other_settings(folder, names | {"configs": [located(Path(file)).read_text() for file in (GAINS, *APART)]})
    together = kept(folder / "gains.json", lambda: trained_together(study))
    sets = []
    for seed in range(seeds):
        rows = []
        for number in range(len(study.weights)):
            file = folder / f"apart{seed}_{number}.json"
            rows.append(kept(file, partial(trained_apart, study, seed, number)))
        sets.append(rows)
    lines = [[row["point"] for row in rows] for rows in sets]
    seconds = [sum(row["seconds"] for row in rows) for rows in sets]
    return {
        "cut": study.cut,
        "images": together["images"],
        "epochs": {"together": study.together, "apart": study.epochs},
        "rate_weights": study.weights,
        "together": together["points"],
        "apart": lines,
        "seconds": {"together": together["seconds"], "apart": seconds},
        "share_of_time": together["seconds"] / float(np.mean(seconds)),
        "bd_rate_percent": [bd_rate(curve(together["points"]), curve(line)) for line in lines],
        "bd_rate_without_lowest_percent": [bd_rate(curve(together["points"])[1:], curve(line)[1:]) for line in lines],
        "bd_rate_of_seeds_percent": [bd_rate(curve(line), curve(lines[0])) for line in lines[1:]],
        "bd_rate_held_out_percent": [bd_rate(curve(together["points"], "val"), curve(line, "val")) for line in lines],
        "bank_bytes": together["bank_bytes"],
        "switch_bytes": load_bank(study.gains.folder(0) / BANK, backbone_of(study.gains)).switch_bytes,
    }


def section(found: Mapping[str, Any]) -> list[str]:
    """Return the figures of a cut as Markdown."""
    images, best = found["images"], max(accuracy for _, accuracy in curve(found["together"]))
    rows = []
    for number, weight in enumerate(found["rate_weights"]):
        cells = [f"{weight:g}"]
        for points in (found["together"], *found["apart"]):
            size, accuracy = curve(points)[number]
            cells += [f"{size:,.1f}", f"{100 * accuracy:.2f}"]
        rows.append(cells)
    heads = ["rate weight", "together, B", "%"]
    heads += [head for seed in range(len(found["apart"])) for head in (f"apart, seed {seed}, B", "%")]
    rates = ", ".join(f"{rate:+.1f} %" for rate in found["bd_rate_percent"])
    upper = ", ".join(f"{rate:+.1f} %" for rate in found["bd_rate_without_lowest_percent"])
    between = ", ".join(f"{rate:+.1f} %" for rate in found["bd_rate_of_seeds_percent"])
    chance = f" The second set of six against the first: {between}." if between else ""
    apart = ", ".join(f"{seconds:,.0f}" for seconds in found["seconds"]["apart"])
    return [
        f"## {found['cut']}\n",
        f"{images['train']:,} images to train, {images['val']:,} held out beside them, {images['test']:,} to test: the "
        f"standard error of an accuracy near {best:.0%} is {100 * (best * (1 - best) / images['test']) ** 0.5:.1f} "
        "points, and a BD-rate takes its uncertainty from that and from the chance in each training.\n",
        f"BD-rate of the model of six rates against six models, accuracy on the test images: {rates}; without "
        f"the lowest rate of both: {upper}.{chance} Training "
        f"took {found['seconds']['together']:,.0f} s of a processor ({found['epochs']['together']} epochs) against "
        f"{apart} s for six ({found['epochs']['apart']} epochs each): {found['share_of_time']:.2f} of their time. "
        f"A switch of rates loads {max(found['switch_bytes']):,} bytes at most; the file of all {len(rows)} has "
        f"{found['bank_bytes']:,}.\n",
        markdown_table(heads, rows, "r" * len(heads)),
    ]


def main() -> None:
    """Run what is missing and write JSON file and page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/*.jpg and test/…")
    parser.add_argument("--cuts", nargs="+", default=["layer3", "layer2"])
    parser.add_argument("--epochs", type=int, default=6, help="of each model that is trained alone")
    parser.add_argument("--together", type=int, default=15, help="epochs of the model of all rates")
    parser.add_argument("--seeds", type=int, default=2, help="sets of models that are trained apart")
    parser.add_argument("--runs", type=Path, default=Path("runs/gains"), help="folder for weights and figures")
    parser.add_argument("--out", type=Path, default=OUT)
    options, settings = parser.parse_known_args()  # others are settings of both trainings, e.g. --data.val_size 1000
    lengths = options.epochs, options.together, tuple(settings)
    studies = [Study(cut, options.data, options.runs, *lengths) for cut in options.cuts]
    facts = {"data": "CIFAR-10 as JPEG", **record()}
    found = [compared(study, options.seeds) for study in studies]
    options.out.mkdir(parents=True, exist_ok=True)
    write_json(options.out / "results.json", {**facts, "cuts": found})
    lines = [line for each in found for line in section(each)]
    write_page(options.out / "table.md", ["# One model of six rates against six models\n", about(facts), *lines])


if __name__ == "__main__":
    main()
