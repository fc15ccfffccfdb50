"""Time of a distillation step against a step that runs both detectors whole.

    distillation   DistillationTask: teacher and student as far as the last paired layer, gradients of what trains
    to the losses  teacher and student whole, in training mode, to their losses: regions, classes, boxes; the gradient
                   is that of the distillation loss, as above
    end to end     likewise, and the gradient is that of the student's own losses too

All take turns in one process, on the same batch, another one each round; the median counts. Launch on an idle machine:
    scripts/benchmarks/bench_distillation --backbone resnet50 --side 320
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from scripts.benchmarks.timing import take_turns
from splitlearn.files import write_json
from splitlearn.models import RedesignedLayer1, faster_rcnn, mask_rcnn, replaced
from splitlearn.models.layer_outputs import in_order, watched
from splitlearn.tasks import DistillationTask, run_record

LAYERS = {"resnet": [f"layer{n}" for n in (1, 2, 3, 4)], "mobilenet": ["3", "6", "13", "17"]}
STEMS = {"resnet": ["conv1", "layer1"], "mobilenet": ["0", "1", "2", "3"]}
BLOCKS = {"resnet18": (64, 64), "resnet34": (64, 64)}
Objects = list[dict[str, Tensor]]


def make_task(args: argparse.Namespace) -> DistillationTask:
    """Return teacher and student with random weights; time does not depend on these."""
    family = "mobilenet" if "mobilenet" in args.backbone else "resnet"
    build = mask_rcnn if args.masks else faster_rcnn
    teacher = build(args.backbone, 2, min_size=args.side, max_size=round(args.side * 5 / 3))
    inputs, outputs = (24, 24) if family == "mobilenet" else BLOCKS.get(args.backbone, (64, 256))
    block = RedesignedLayer1(inputs, args.channels, outputs, rectified=family == "resnet")
    layers = [f"backbone.body.{name}" for name in LAYERS[family]]
    student = replaced(copy.deepcopy(teacher), layers[0], block)
    pairs = [(layer, layer) for layer in (layers[:1] if args.hnd else layers)]
    task = DistillationTask(teacher, student, pairs, [f"backbone.body.{name}" for name in STEMS[family]])
    for name in ("log", "log_dict"):
        setattr(task, name, lambda *_, **__: None)  # there is no Trainer to log to
    return task.train().to(args.device)


def random_batch(args: argparse.Namespace) -> tuple[list[Tensor], Objects]:
    """Return images of different sizes with a few objects each."""
    images, objects = [], []
    for n in range(args.batch_size):
        height, width = args.side, round(args.side * (1 + n / args.batch_size / 2))
        images.append(torch.rand(3, height, width, device=args.device))
        corners = torch.rand(4, 2, 2) * torch.tensor([width, height]) * 0.6
        xyxy = torch.cat([corners.amin(1), corners.amax(1) + 16], 1).to(args.device)
        masks = torch.zeros(4, height, width, dtype=torch.uint8, device=args.device)
        masks[:, : height // 2] = 1
        objects.append({"boxes": xyxy, "labels": torch.ones(4, dtype=torch.int64, device=args.device), "masks": masks})
    return images, objects


def whole(task: DistillationTask, own_losses: bool, images: list[Tensor], objects: Objects) -> Tensor:
    """Return the loss of a step that runs both detectors to their losses."""

    def losses(network: nn.Module, layers: list[str]) -> tuple[list[Tensor], Tensor]:
        parts = [network, *(network.get_submodule(name) for name in ("rpn", "roi_heads", "transform"))]
        for part in parts:
            part.training = True  # these choose by it whether they make losses; norms stay as they are
        with watched(network, layers) as found:
            total = torch.stack(list(network(images, objects).values())).sum()
        for part in parts:
            part.training = False
        return in_order(found, layers), total

    with torch.no_grad():
        wanted, _ = losses(task.teacher, task.teacher_layers)
    given, total = losses(task.model, task.student_layers)
    distance = task.distance(given, wanted)
    return distance + total if own_losses else distance


def main() -> None:
    """Measure, print a table and leave the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--masks", action="store_true", help="Mask R-CNN in place of Faster R-CNN")
    parser.add_argument("--hnd", action="store_true", help="pair the first block alone")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--side", type=int, default=320, help="shorter side of the images, which are of several widths")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_distillation/results.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    task = make_task(args)
    optimizer = torch.optim.Adam([p for p in task.parameters() if p.requires_grad], 1e-3)
    losses: dict[str, Callable[[list[Tensor], Objects], Tensor]] = {
        "distillation": lambda images, _: task.training_step((images, cast(Any, None)), 0),
        "to the losses": lambda images, objects: whole(task, False, images, objects),
        "end to end": lambda images, objects: whole(task, True, images, objects),
    }

    def step(name: str, batch: tuple[list[Tensor], Objects]) -> None:
        optimizer.zero_grad()
        losses[name](*batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    batches = [random_batch(args) for _ in range(args.rounds + 1)]
    times = take_turns({name: partial(step, name) for name in losses}, batches)
    table = Table("step", "median ms", "times distillation's", title=f"{args.backbone}, batch {args.batch_size}")
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        table.add_row(name, f"{median:.0f}", f"{median / medians['distillation']:.2f}")
    Console().print(table)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    write_json(args.out, {**run_record(), "settings": settings, "ms": times, "median_ms": medians})
    Console().print(f"{args.out} written")
