"""Figs. 2 to 4 of Matsubara & Levorato 2020: what the layers of R-CNN detectors give and hold, at 800×800."""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from pathlib import Path

import torch

from splitlearn.analysis import ModuleProfile, profile_model
from splitlearn.analysis.detector_profile import core_modules
from splitlearn.files import whole_file
from splitlearn.models import RedesignedLayer1, faster_rcnn, keypoint_rcnn, mask_rcnn
from splitlearn.reporting import advice, markdown_table, plot_parameters, plot_sizes

INPUT = (3, 800, 800)
DETECTORS = {"Faster R-CNN": faster_rcnn, "Mask R-CNN": mask_rcnn, "Keypoint R-CNN": keypoint_rcnn}
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101")
CHANNELS = (3, 6, 9, 12, 15)


def layers_section(out: Path) -> str:
    """Write the figures and their table as CSV to a folder; return their section of the page."""
    rows: list[tuple[str, str, ModuleProfile]] = []
    text = ["## Figs. 2 to 4: layer by layer, 3×800×800\n"]
    for name in DETECTORS:
        backbones = BACKBONES if name != "Keypoint R-CNN" else BACKBONES[2:3]
        networks = {backbone: _profiled(name, backbone) for backbone in backbones}
        rows += [(name, backbone, profile) for backbone, profiles in networks.items() for profile in profiles]
        slug = name.split()[0].lower()
        plot_sizes(networks, out / f"sizes_{slug}.png")
        plot_parameters(networks, out / f"parameters_{slug}.png")
        text.append(f"![sizes](sizes_{slug}.png) ![parameters](parameters_{slug}.png)\n")
        words = advice(networks["resnet50"]).replace("\n", "; ")
        text.append(f"{name} with ResNet-50: {words}.\n")
    _write(rows, out / "layers.csv")
    text.append("All figures are in `layers.csv`; no figure depends on weights, and the networks have none.\n")
    return "\n".join([*text, _bottlenecks()])


def _profiled(name: str, backbone: str) -> list[ModuleProfile]:
    """Return the profile of a detector's core modules."""
    with torch.device("meta"):
        detector = DETECTORS[name](backbone)
    return profile_model(detector, INPUT, at=core_modules(detector))


def _bottlenecks() -> str:
    rows = []
    for channels in CHANNELS:
        block = RedesignedLayer1(channels=channels)
        with torch.no_grad():
            shape = block.to("meta").encoder(torch.empty(1, 64, INPUT[1] // 4, INPUT[2] // 4, device="meta")).shape[1:]
        share = 100 * shape.numel() / torch.Size(INPUT).numel()
        counts = [f"{sum(p.numel() for p in module.parameters()):,}" for module in (block.encoder, block)]
        rows.append([channels, "×".join(map(str, shape)), f"{share:.1f}", f"{100 - share:.1f}", *counts])
    said = "The bottleneck's tensor, C×(H/4 + 4)×(W/4 + 4), against the input's; of the paper 80.3 to 93.4 % saved:"
    headings = ["C", "shape", "relative size %", "saved %", "encoder parameters", "all parameters"]
    return f"{said}\n\n{markdown_table(headings, rows, 'rlr')}"


def _write(rows: list[tuple[str, str, ModuleProfile]], path: Path) -> None:
    with whole_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["detector", "backbone", *(field.name for field in fields(ModuleProfile))])
        writer.writeheader()
        for detector, backbone, profile in rows:
            shape = "x".join(map(str, profile.output_shape))
            about = {"detector": detector, "backbone": backbone}
            writer.writerow(about | asdict(profile) | {"name": profile.name or "(output)", "output_shape": shape})
