"""Time that batched exits spare: a trained network with exits at several shares of images that leave early.

Thresholds are set so that none, a quarter, half, … all images leave through an exit; each is run on the same batches,
in turn with the network that runs everything. Device and server are the same processor here, nothing is coded. In
proportion means: the device's part for all images, the rest for those that stay. Predictions of batches must be those
of the images one by one. Launch on an idle machine:

    scripts/benchmarks/bench_exits --config FILE.yaml --ckpt_path FILE.ckpt --data_root FOLDER
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from scripts.benchmarks.timing import take_turns
from splitlearn.config.images import model_of
from splitlearn.files import write_json
from splitlearn.models import EarlyExitModel
from splitlearn.tasks import quieten, run_record

SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
ALONE = 64  # images that are also run one by one


def threshold_of(model: EarlyExitModel, batches: list[Tensor], share: float) -> float:
    """Return T_c at which about this share of images leaves early."""
    if share in (0.0, 1.0):
        return 1.0 - share
    sure = torch.cat([torch.stack([model.confidence(e) for e in model.run(b).exits]).amax(0) for b in batches])
    return float(sure.quantile(1 - share))


def at(model: EarlyExitModel, threshold: float, images: Tensor) -> Tensor:
    """Return the logits of images at a threshold."""
    model.threshold = threshold
    logits: Tensor = model(images)
    return logits


def everything(model: EarlyExitModel, images: Tensor) -> Tensor:
    """Return the logits of the network without exits."""
    logits: Tensor = model.net.tail(*model.features(images))
    return logits


@torch.inference_mode()
def bench(model: EarlyExitModel, batches: list[Tensor], rounds: int) -> dict[str, Any]:
    """Return milliseconds a batch of the best round, by share; and of the whole network and the device's part."""
    thresholds = {f"{share:g}": threshold_of(model, batches, share) for share in SHARES}
    ways: dict[str, Callable[[Tensor], Any]] = {
        "everything": partial(everything, model),
        "device": model.features,
        **{name: partial(at, model, threshold) for name, threshold in thresholds.items()},
    }

    def run(way: Callable[[Tensor], Any], batches: list[Tensor]) -> None:
        for images in batches:
            way(images)

    times = take_turns({name: partial(run, way) for name, way in ways.items()}, [batches] * (rounds + 1))
    best = {name: min(ms) / len(batches) for name, ms in times.items()}
    rows = {}
    for name, threshold in thresholds.items():
        model.threshold = threshold
        left = sum(int((~model.decide(images).sent).sum()) for images in batches) / sum(map(len, batches))
        proportional = best["device"] + (1 - left) * (best["everything"] - best["device"])
        together = at(model, threshold, torch.cat(batches)[:ALONE]).argmax(1)
        singly = torch.cat([at(model, threshold, image[None]) for image in torch.cat(batches)[:ALONE]]).argmax(1)
        if not torch.equal(together, singly):
            raise RuntimeError(f"a batch is classified otherwise than its images one by one, T_c = {threshold}")
        rows[name] = {"threshold": threshold, "exit_share": left, "ms": best[name], "proportional_ms": proportional}
    return {"everything_ms": best["everything"], "device_ms": best["device"], "shares": rows}


def main() -> None:
    """Measure, print the table, leave a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="a config whose model is an EarlyExitModel")
    parser.add_argument("--ckpt_path", type=Path, help="checkpoint that splitlearn fit left")
    parser.add_argument("--data_root", type=Path, help="folder of images, in place of the config's")
    parser.add_argument("--batches", type=int, default=49)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_exits/results.json"))
    options = parser.parse_args()
    quieten()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    words = ("--data.batch_size", str(options.batch_size))
    has = "an EarlyExitModel has exits"
    model, data = model_of(options.config, options.ckpt_path, options.data_root, words, EarlyExitModel, has)
    data.prepare_data()
    data.setup("test")
    form = torch.channels_last
    model.to(memory_format=form)
    images = [batch.contiguous(memory_format=form) for batch, _ in islice(data.batches("test"), options.batches)]
    found = bench(model, images, options.rounds)
    write_json(options.out, {**run_record(), "load_average": load, "batch_size": len(images[0]), **found})
    table = Table("left early", "T_c", "ms a batch", "of everything", "in proportion", title="forward, one thread")
    for row in found["shares"].values():
        ratios = (f"{row[key] / found['everything_ms']:.2f}" for key in ("ms", "proportional_ms"))
        table.add_row(f"{100 * row['exit_share']:.1f} %", f"{row['threshold']:.3f}", f"{row['ms']:.1f}", *ratios)
    Console().print(table)
    print(f"everything {found['everything_ms']:.1f} ms, the device's part {found['device_ms']:.1f} ms a batch")
    print(f"{options.out} written")
