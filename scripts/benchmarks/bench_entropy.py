"""Time and memory of EntropyRate: against the formula written out, and in the training step of a real network.

    dense      Beysens et al. 2023, eqs. 3 to 5, as one writes them with autograd: every value against every node
    torch      EntropyRate without its compiled loops: what runs on a GPU
    compiled   EntropyRate, as it is

All take turns on the same activations, those of a network on images, and must agree in value and gradient; the best
round counts. Then the training step of EarlyExitTask, with the rate and without, takes turns likewise. Launch on an
idle machine, with 6 GB of free memory for the dense form: scripts/benchmarks/bench_entropy
"""

from __future__ import annotations

import argparse
import copy
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from scripts.benchmarks.timing import take_turns
from splitlearn.codecs import Huffman
from splitlearn.data import Digits, ImageFolder
from splitlearn.files import write_json
from splitlearn.losses import EntropyRate, entropy
from splitlearn.models import EarlyExitModel, backbone, split
from splitlearn.quantizers import MinMax
from splitlearn.reporting import processor
from splitlearn.tasks import EarlyExitTask, quieten, run_record

Batch = tuple[Tensor, Tensor]
Step = Callable[[Batch], None]
SHAPE = (3, 32, 32)
NETWORKS = {"mobilenet_v2_cifar": "blocks.1.compression", "resnet20": "layer1"}  # and where they are cut
AGREE = 1e-5


def dense_rate(values: Tensor, low: float, high: float, bins: int = 256) -> Tensor:
    """Return the normalized entropy of the soft histogram, each value weighed against each node."""
    x = (values.flatten() - low) / (high - low)
    x = x[(x >= 0) & (x <= 1)]
    weights = (1 - (x[:, None] - torch.linspace(0, 1, bins, dtype=x.dtype)).abs() * (bins - 1)).clamp(min=0)
    h = weights.mean(0)
    return -(h * h.clamp(min=1e-12).log2()).sum() / math.log2(bins)


def with_gradient(rate: Callable[[Tensor], Tensor], values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rate of values and its gradient."""
    values = values.detach().requires_grad_()
    found = rate(values)
    found.backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    return found.detach(), values.grad


def in_torch(rate: Callable[[Tensor], Tensor], values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same without compiled loops."""
    with (
        patch.object(entropy, "count_compiled", entropy.count_in_torch),
        patch.object(entropy, "look_up_compiled", entropy.look_up),
    ):
        return with_gradient(rate, values)


def kept_bytes(rate: EntropyRate, values: Tensor) -> float:
    """Return how many bytes a value autograd keeps between forward and backward pass."""
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        rate(values.detach().requires_grad_())
    return sum(tensor.nbytes for tensor in kept) / values.numel()


def bench_rate(values: Tensor, args: argparse.Namespace) -> dict[str, Any]:
    """Return times of all three forms on the same values; raises RuntimeError if they do not agree."""
    rate = EntropyRate()
    rate(values)
    rate.eval()  # so that all see the same limits
    low, high = (float(limit) for limit in cast(Any, rate.ranges[0])(values))
    dense = partial(with_gradient, partial(dense_rate, low=low, high=high))
    forms = {"compiled": partial(with_gradient, rate), "torch": partial(in_torch, rate), "dense": dense}
    found = {name: form(values) for name, form in forms.items()}
    exact = dense(values[: 1 << 14].double())
    ours = with_gradient(rate, values[: 1 << 14])
    for name, (value, gradient), (other, slope) in (
        ("dense in double precision", ours, exact),
        ("torch", found["compiled"], found["torch"]),
    ):
        off = max(abs(float(value - other)), float((gradient - slope).abs().max() / slope.abs().max()))
        if off > AGREE:
            raise RuntimeError(f"compiled and {name} differ by {off}")
    del found
    values_each_round = [values] * (args.rounds + 1)
    times = take_turns(forms, values_each_round, {"dense": args.dense_rounds})
    best = {name: min(ms) for name, ms in times.items()}
    return {
        "values": values.numel(),
        "bytes_kept_per_value": kept_bytes(rate, values),
        "forms": {n: {"best_ms": best[n], "times_dense": best["dense"] / best[n], "ms": times[n]} for n in forms},
    }


def make_step(name: str, rate: EntropyRate | None, args: argparse.Namespace) -> Step:
    """Return the function that takes one training step on a batch."""
    torch.manual_seed(args.seed)
    model = EarlyExitModel(split(backbone(name), NETWORKS[name], SHAPE), MinMax(8), Huffman())
    task = EarlyExitTask(model, 10, None, rate, 1.0, optimizer=partial(torch.optim.SGD, lr=0.01, momentum=0.9))
    cast(Any, task).log_losses = lambda *args: None  # there is no Trainer to log to
    task.to(memory_format=torch.channels_last)
    optimizer = task.configure_optimizers()

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        task.training_step(copy.copy(batch), 0).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def bench_step(name: str, batch: Batch, args: argparse.Namespace) -> dict[str, Any]:
    """Return times of a network's training step with the rate and without."""
    steps = {"without": make_step(name, None, args), "with": make_step(name, EntropyRate(), args)}
    times = take_turns(steps, [batch] * (args.step_rounds + 1))
    best = {which: min(ms) for which, ms in times.items()}
    return {"at": NETWORKS[name], "ratio": best["with"] / best["without"], "best_ms": best, "ms": times}


def load_batch(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Return shuffled training images in [0, 1] and their labels."""
    size = {"batch_size": args.batch_size, "val_size": 1, "seed": args.seed}
    data = ImageFolder(args.data, 32, **size) if args.data else Digits(**size)
    data.setup("fit")
    images, labels = next(iter(data.train_dataloader()))
    return images / 255, labels


def activations(batch: Batch, count: int) -> Tensor:
    """Return that many values of ResNet-20's layer1, batch norm taking the statistics of the images."""
    torch.manual_seed(0)
    net = split(backbone("resnet20"), "layer1", SHAPE).train()
    with torch.no_grad():
        (features,) = net.head(batch[0])
    return cast(Tensor, features.flatten()[:count].clone())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and leave a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="image folder with train/<class>/; default: scikit-learn's digits")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    numbers = {"values": 1 << 20, "rounds": 30, "dense-rounds": 3, "step-rounds": 12, "batch-size": 128}
    for name, default in {**numbers, "threads": 1, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_entropy/results.json"))
    args = parser.parse_args(argv)
    quieten()
    torch.set_num_threads(args.threads)
    load, batch = os.getloadavg()[0], load_batch(args)
    rate = bench_rate(activations(batch, args.values), args)
    steps = {name: bench_step(name, batch, args) for name in args.networks}
    console = Console()
    table = Table(
        "form", "best ms", "× dense", title=f"{rate['values']:,} values, forward and backward, load {load:.1f}"
    )
    for name, row in rate["forms"].items():
        table.add_row(name, f"{row['best_ms']:,.2f}", f"{row['times_dense']:,.0f}")
    console.print(table)
    console.print(f"{rate['bytes_kept_per_value']:.3f} bytes a value are kept for the backward pass")
    table = Table("network", "cut", "with / without", "ms without", title=f"training step, batch {args.batch_size}")
    for name, row in steps.items():
        table.add_row(name, row["at"], f"{row['ratio']:.3f}", f"{row['best_ms']['without']:,.0f}")
    console.print(table)
    about = {**run_record(), "processor": processor(), "load_average": load, "settings": vars(args)}
    write_json(args.out, {**about, "rate": rate, "steps": steps})
    console.print(f"{args.out} written")
