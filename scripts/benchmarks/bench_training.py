"""Time and memory of a bottleneck's training step: splitlearn against what people write by hand.

Every variant trains the same bottleneck in the same network with the same optimizer:
    ours                 ClassificationTask on a SplitModel: frozen in eval for good, the head runs without a graph
    ours, channels-last  the same, with the callback ChannelsLast
    (a) optimizer only   frozen by giving the optimizer nothing else; backbone in eval, or in train as people forget
    (b) requires_grad    requires_grad=False on the backbone; in eval, or in train as people forget
    head alone           the frozen part in front of the cut, without a graph

Those that do the same job must have the same losses. All take turns in one process, on another batch each round, and
the best round counts; peak memory is that of a fresh process each. Launch on an idle machine:
    scripts/benchmarks/bench_training
"""

from __future__ import annotations

import argparse
import copy
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from scripts.benchmarks.timing import take_turns
from splitlearn.codecs import Huffman
from splitlearn.data import Digits, ImageDataModule, ImageFolder
from splitlearn.files import write_json
from splitlearn.losses import L1Rate
from splitlearn.models import Bottleneck, DepthwiseSeparable, Split, SplitModel, backbone, split
from splitlearn.quantizers import Step
from splitlearn.reporting.figures import figure_file
from splitlearn.tasks import ChannelsLast, ClassificationTask, quieten, run_record
from splitlearn.tasks.callbacks import keep_freed_memory

Batch = tuple[Tensor, Tensor]
Function = Callable[[Batch], Any]
OURS = "ours"
AGREEING = (OURS, "(a) optimizer only, eval", "(b) requires_grad, eval")
VARIANTS = (OURS, "ours, channels-last", *AGREEING[1:], "(a) optimizer only, train", "(b) requires_grad, train")
LABELS = ("training step (ms)", "peak memory (MiB)")
STEP = 0.02  # of the quantizer: small, so that an untrained latent is more than zeros


def loss_by_hand(net: Split, bottleneck: Bottleneck, rate_weight: float, batch: Batch) -> Tensor:
    """Return what one writes without a framework: five modules in a row, rounding with a straight-through gradient."""
    (features,) = net.head(batch[0])
    latent: Tensor = bottleneck.encoder(features)
    latent_hat = latent + ((latent / STEP).round() * STEP - latent).detach()
    task_loss = nn.functional.cross_entropy(net.tail(bottleneck.decoder(latent_hat)), batch[1])
    return task_loss + rate_weight * latent.abs().mean()


def train(loss_of: Callable[[Batch], Tensor], optimizer: torch.optim.Optimizer, batch: Batch) -> Tensor:
    """Take one step of the optimizer and return the loss before it."""
    optimizer.zero_grad()
    loss = loss_of(batch)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def make_step(variant: str, network: nn.Module, at: str, args: argparse.Namespace) -> Function:
    """Return the training step of a variant, on its own copy of `network`."""
    net = split(copy.deepcopy(network), at, (3, args.image_size, args.image_size))
    torch.manual_seed(args.seed)  # the same bottleneck in every variant
    bottleneck = DepthwiseSeparable(net.shapes[0], args.channels, args.stride).to(args.device)
    adam = partial(torch.optim.Adam, lr=args.lr)
    if not variant.startswith(OURS):
        net.train("train" in variant).requires_grad_("requires_grad" not in variant)
        return partial(train, partial(loss_by_hand, net, bottleneck, args.rate_weight), adam(bottleneck.parameters()))
    model = SplitModel(net, Step(STEP), Huffman(), lambda shape: bottleneck)
    task = ClassificationTask(model, args.num_classes, L1Rate(), args.rate_weight, optimizer=adam).train()
    cast(Any, task).log_losses = lambda *args: None  # there is no Trainer to log to
    if "channels-last" in variant:
        ChannelsLast().setup(cast(Any, None), task, "fit")  # it does not look at the trainer
    return partial(train, partial(task.training_step, batch_idx=0), task.configure_optimizers())


def make_heads(network: nn.Module, at: str, args: argparse.Namespace) -> dict[str, Function]:
    """Return the head alone, in each way of running it."""
    head = split(copy.deepcopy(network), at, (3, args.image_size, args.image_size)).head
    names = ("train mode", "eval mode", "channels-last", "folded batch norm", "folded, channels-last")
    heads = {name: fuse(head) if "folded" in name else copy.deepcopy(head) for name in names}
    heads["train mode"].train()
    for name, half in heads.items():
        if "channels-last" in name:
            half.to(memory_format=torch.channels_last)
    return {f"head alone, {name}": partial(run_head, half) for name, half in heads.items()}


@torch.no_grad()
def run_head(head: nn.Module, batch: Batch) -> object:
    """Return the features of a batch."""
    return head(batch[0])


def check_agreement(steps: Mapping[str, Function], batches: Sequence[Batch]) -> None:
    """Raise RuntimeError unless the variants that do the same job have the same losses on the way."""
    losses = {name: torch.stack([steps[name](batch) for batch in batches]) for name in AGREEING if name in steps}
    if not all(torch.allclose(found, losses[OURS], rtol=1e-3) for found in losses.values()):
        raise RuntimeError(f"these variants do not do the same job: their losses are {losses}")


def load_batches(args: argparse.Namespace, wanted: int) -> list[Batch]:
    """Return shuffled training batches, one epoch after another: images in [0, 1], enlarged if need be, and labels."""
    make: Callable[..., ImageDataModule] = partial(ImageFolder, args.data, args.image_size) if args.data else Digits
    data = make(batch_size=args.batch_size, val_size=1, seed=args.seed)
    data.setup("fit")
    batches = (b for _ in range(wanted) for b in data.train_dataloader() if len(b[1]) == args.batch_size)
    enlarge = partial(nn.functional.interpolate, size=args.image_size, mode="bilinear")
    return [(enlarge(x.to(args.device) / 255), labels.to(args.device)) for x, labels in islice(batches, wanted)]


def make_network(args: argparse.Namespace, batch: Batch) -> nn.Module:
    """Return the whole network in eval; one with random weights gets batch norm statistics of this batch."""
    network = backbone(args.model, args.weights, args.num_classes).to(args.device)
    if args.weights is None:
        for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.momentum = 1.0
        run_head(network.train(), batch)
    return network.eval()


def peak_memory(args: argparse.Namespace, at: str, variant: str) -> float:
    """Return MiB that steps need above what was held before them, on Linux or a GPU; a small step loads libraries."""
    (images, labels), *batches = load_batches(args, 4)
    few = (images[:16], labels[:16])
    step = make_step(variant, make_network(args, few), at, args)
    step(few)
    # reset the high-water mark: the other one, ru_maxrss, inherits that of the parent process
    torch.cuda.reset_peak_memory_stats() if args.device == "cuda" else Path("/proc/self/clear_refs").write_text("5")
    before = peak_bytes(args.device)
    for batch in batches:
        step(batch)
    return (peak_bytes(args.device) - before) / 2**20


def peak_bytes(device: str) -> int:
    """Return the most that was held since the mark was last reset."""
    status = Path("/proc/self/status").read_text()
    return torch.cuda.max_memory_allocated() if device == "cuda" else 1024 * int(status.split("VmHWM:")[1].split()[0])


def memory_in_fresh_process(argv: Sequence[str], at: str, variant: str) -> float:
    """Run `peak_memory` in a new process, in which freed tensors go back to the system at once."""
    command = [sys.executable, str(Path(__file__).with_suffix("")), *argv, "--memory-of", at, variant]
    return float(subprocess.check_output(command, env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}))


def bench(at: str, args: argparse.Namespace, argv: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what was measured at one cut, by variant."""
    batches = load_batches(args, args.rounds + 1)
    network = make_network(args, batches[0])
    steps = {variant: make_step(variant, network, at, args) for variant in args.variants}
    check_agreement(steps, batches[:3])
    times = take_turns({**steps, **make_heads(network, at, args)}, batches)
    with ThreadPoolExecutor(2) as pool:  # nothing is timed any more
        peaks = dict(zip(steps, pool.map(partial(memory_in_fresh_process, argv, at), steps), strict=True))
    best = min(times[OURS])
    return {
        name: {"best_ms": min(ms), "ratio_to_ours": min(ms) / best, "peak_mib": peaks.get(name), "ms": ms}
        for name, ms in times.items()
    }


def report(results: Mapping[str, Any], args: argparse.Namespace, load: float) -> None:
    """Print the table; draw bars of step time and of peak memory."""
    title = f"{args.model}, {args.image_size} pixels, batch {args.batch_size}, best of {args.rounds}, load {load:.1f}"
    table = Table("cut", "variant", "best ms", " ÷ ours", "peak MiB", title=title)
    for at, found in results.items():
        for name, row in found.items():
            peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:8.1f}"
            table.add_row(at, name, f"{row['best_ms']:7.1f}", f"{row['ratio_to_ours']:7.2f}", peak)
    Console(width=100).print(table)
    bars = {f"{at}: {name}": found[name] for at, found in results.items() for name in args.variants}
    size = (11, 1 + 0.35 * len(bars))
    with figure_file(args.out.with_suffix(".png"), 2, 2, size, title, sharey=True) as (_, pair):
        for axes, key, label in zip(pair, ("best_ms", "peak_mib"), LABELS, strict=True):
            axes.bar_label(axes.barh(list(bars), [row[key] for row in bars.values()]), fmt="%.0f", padding=2)
            axes.set(xlabel=label, ylim=(len(bars) - 0.4, -0.6), xmargin=0.15)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet20", help="as in splitlearn.models.backbone")
    parser.add_argument("--weights", help="file of weights; default: random ones, which take as long")
    parser.add_argument("--cuts", nargs="+", default=["layer2", "layer3"], help="names of modules")
    parser.add_argument("--data", help="image folder with train/<class>/; default: scikit-learn's digits")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS, metavar="VARIANT")
    numbers = {"image-size": 32, "num-classes": 10, "batch-size": 128, "rounds": 15, "channels": 8, "stride": 2}
    for name, default in {**numbers, "threads": 1, "seed": 0, "lr": 1e-3, "rate-weight": 0.1}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help="default: %(default)s")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=Path("runs/bench_training/results.json"))
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)  # cut and variant of a fresh process
    args = parser.parse_args(argv)
    args.variants = list(dict.fromkeys([OURS, *args.variants]))
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, and leave a JSON file and a chart."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse(argv)
    quieten()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.memory_of:
        print(peak_memory(args, *args.memory_of))
        return
    keep_freed_memory()  # else page faults depend on which variant ran before
    load = os.getloadavg()[0]
    results = {at: bench(at, args, argv) for at in args.cuts}
    write_json(args.out, {**run_record(), "load_average": load, "settings": vars(args), "cuts": results})
    report(results, args, load)
    print(f"{args.out} and {args.out.with_suffix('.png')} written")
