"""Tables I and II of Carra & Neglia 2023: what crosses the paper's cuts, beside the paper's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod

import torch

from scripts.papers.carra2023.points import KB, LAYOUTS, Measured, Section
from splitlearn.models import backbone, crossing_shapes
from splitlearn.reporting import markdown_table

PAPER_JPEG = {"images/val2017": 159.1, "val": 128.5, ".": 128.5}
"""Mean JPEG file in kB, by the layout of what is at hand of the same data set."""


@dataclass(frozen=True)
class Cut:
    """A row of Table I or II.

    Attributes:
        label: as in the paper.
        network: what `backbone` takes.
        at: the cut.
        image: shape of the input.
        paper_kb: size of the tensor.
        paper_by_jpeg: over the mean JPEG file.
        paper_by_input: over the input tensor; None where the paper has no such figure.
        jpeg_kb: the paper's mean JPEG file.
    """

    label: str
    network: str
    at: str
    image: tuple[int, int, int]
    paper_kb: float
    paper_by_jpeg: float
    paper_by_input: float | None
    jpeg_kb: float = 128.5


@dataclass(frozen=True)
class Size:
    """What crosses a cut: all tensors, of which the paper counts the first."""

    label: str
    at: str
    shapes: list[tuple[int, ...]]
    kb: list[float]
    paper_kb: float


PHOTO = 3, 224, 224
CUTS = (
    Cut("VGG16, layer 10", "torchvision/vgg16", "features.9", PHOTO, 1568.0, 12.20, 2.67),
    Cut("VGG16, layer 17", "torchvision/vgg16", "features.16", PHOTO, 784.0, 6.10, 1.33),
    Cut("ResNet-50, layer 4", "torchvision/resnet50", "maxpool", PHOTO, 784.0, 6.10, 1.33),
    Cut("ResNet-50, layer 8", "torchvision/resnet50", "layer2.0", PHOTO, 1568.0, 12.20, 2.67),
    Cut("ResNet-152, layer 16", "torchvision/resnet152", "layer3.0", PHOTO, 784.0, 6.10, 1.33),
    Cut("Yolov5m, layer 4.m", "ultralytics/yolov5m", "model.4.m", (3, 480, 640), 1800.0, 11.31, None, 159.1),
)


def shapes_at(cut: Cut) -> list[tuple[int, ...]]:
    """Return the shapes that cross a cut: on the meta device, or with random weights where a network refuses it.

    Raises ImportError if the network's library is not installed, ValueError if tracing cannot tell.
    """
    device = "cpu" if cut.network.startswith("ultralytics") else "meta"
    with torch.device(device):
        shapes = crossing_shapes(backbone(cut.network).eval(), cut.at, torch.zeros(1, *cut.image))
    if shapes is None:
        raise ValueError(f"tracing cannot tell what crosses {cut.network} at {cut.at}")
    return shapes


def sizes_section(measured: Sequence[Measured]) -> Section:
    """Tables I and II: our cuts beside the paper's figures, and the images at hand beside the paper's."""
    rows, records, missing = [], list[Size](), list[str]()
    for cut in CUTS:
        try:
            shapes = shapes_at(cut)
        except ImportError as error:
            missing.append(f" {cut.label} is left out: {error}.")
            continue
        sizes = [4 * prod(shape) / KB for shape in shapes]
        pixels = 4 * prod(cut.image) / KB
        records.append(Size(cut.label, cut.at, shapes, sizes, cut.paper_kb))
        rows.append(
            [
                cut.label,
                f"`{cut.at}`",
                " + ".join("×".join(map(str, shape)) for shape in shapes),
                *(" + ".join(f"{size:,.1f}" for size in sizes), f"{cut.paper_kb:,.1f}"),
                *(" + ".join(f"{size / cut.jpeg_kb:.2f}" for size in sizes), f"{cut.paper_by_jpeg:.2f}"),
                " + ".join(f"{size / pixels:.2f}" for size in sizes),
                f"{cut.paper_by_input:.2f}" if cut.paper_by_input else "–",
            ]
        )
    columns = ["row", "our cut", "floats", "kB", "paper", "÷ JPEG", "paper", "÷ input", "paper"]
    images = {m.images.layout: m.images for m in measured}
    files = [
        [LAYOUTS[key], f"{i.count:,}", f"{i.mean_bytes / KB:.2f}", f"{PAPER_JPEG[key]}" if key in PAPER_JPEG else "–"]
        for key, i in images.items()
    ]
    hand = [[m.name, f"{m.float_bytes / KB:,.1f}", f"{m.float_bytes / m.images.mean_bytes:.2f}"] for m in measured]
    same = sum(abs(size.kb[0] - size.paper_kb) < 0.05 for size in records)
    several = [size.label for size in records if len(size.shapes) > 1]
    more = f" At {' and '.join(several)} more crosses than the paper counts; all of it stands here." if several else ""
    return Section(
        "Sizes (Tables I and II)",
        "tensors at the first cuts are 6 to 12 times as large as the JPEG file of the image, whose mean is 128.5 kB in "
        "ImageNet and 159.1 kB in COCO. A bottleneck trained into ResNet-152 sends 10.6 kB, one in Faster R-CNN 101.8.",
        f"{same} of {len(records)} sizes are the paper's (kB: 1,024 bytes of float32; random weights, as sizes don't "
        f"depend on them; ÷ JPEG: over the paper's mean file).{more}{''.join(missing)}",
        "\n".join(
            [
                markdown_table(columns, rows, "lllr"),
                markdown_table(["images at hand", "number", "mean JPEG, kB", "paper's mean, kB"], files),
                markdown_table(["network and cut at hand", "floats, kB", "÷ JPEG at hand"], hand),
            ]
        ),
        records={
            "cuts": list(map(asdict, records)),
            "jpeg_bytes": {LAYOUTS[key]: i.mean_bytes for key, i in images.items()},
        },
    )
