"""Rebuild docs/results/beysens2023: Tables II to V and Figs. 5 to 11 of Beysens et al. 2023.

    scripts/papers/beysens2023/run --data FOLDER     ResNet-20 in short: 3 + 2 epochs, an hour on two cores
    … --protocol full                                MobileNetV2, 300 + 50 + 10 epochs, days on a GPU

with FOLDER/train/<class>/*.jpg and FOLDER/test/<class>/*.jpg. What is finished is not run again: a killed run goes on
where it was. The short protocol starts from weights that are shipped, and its cuts are all behind a ReLU.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scripts.papers.beysens2023.report import write_report
from scripts.papers.beysens2023.runs import (
    CONFIGS,
    ENTROPY,
    SPARSITY,
    Cut,
    ExitsRun,
    Protocol,
    first_stage,
    second_stage,
    third_stage,
)
from scripts.papers.common.page import record
from splitlearn.files import write_json

OUT = Path("docs/results/beysens2023")
LOSS = 0.05  # at which bytes are compared, below the network without exits
LAYER1, LAYER2 = Cut("layer1", "layer1", "layer1"), Cut("layer2", "layer2", "layer2")
LAMBDAS = (0.0, 0.5, 1.0, 2.5, 5.0)
SHORT = Protocol(
    name="short",
    network="ResNet-20, short protocol",
    vanilla=None,
    weights="checkpoints/resnet20_cifar10_jpeg.safetensors",
    early=f"{CONFIGS}/resnet20_exit.yaml",
    regularised=f"{CONFIGS}/resnet20_exit_entropy.yaml",
    epochs=(0, 3, 2),
    cuts=(LAYER1, LAYER2),
    tables=(
        ("Table III: entropy, cut after layer1 (16×32×32)", LAYER1, ENTROPY, LAMBDAS),
        ("Table IV: entropy, cut after layer2 (32×16×16)", LAYER2, ENTROPY, LAMBDAS),
        ("Table V: sparsity, cut after layer1", LAYER1, SPARSITY, (0.0, 0.03, 0.1, 0.3, 1.0)),
    ),
)
EXITS = {
    2: Cut("exit 2", "blocks.0.compression", "blocks.0.compression"),
    4: Cut("exit 4", "blocks.1.depthwise", "blocks.1.depthwise"),
    5: Cut("exit 5", "blocks.1.compression", "blocks.1.compression"),
    8: Cut("exit 8", "blocks.2", "blocks.2.compression"),  # cut behind the shortcut: one tensor crosses instead of two
    12: Cut("exit 12", "blocks.3.compression", "blocks.3.compression"),
    15: Cut("exit 15", "blocks.4", "blocks.4.compression"),
}
FULL = Protocol(
    name="full",
    network="MobileNetV2, full protocol",
    vanilla=f"{CONFIGS}/mobilenet_v2_vanilla.yaml",
    weights="runs/beysens2023/full/vanilla/network.safetensors",
    early=f"{CONFIGS}/mobilenet_v2_exit5.yaml",
    regularised=f"{CONFIGS}/mobilenet_v2_exit5_entropy.yaml",
    epochs=(300, 50, 10),
    cuts=tuple(EXITS.values()),
    tables=(
        ("Table III: entropy, exit 5", EXITS[5], ENTROPY, (*LAMBDAS, 10.0)),
        ("Table IV: entropy, exit 12", EXITS[12], ENTROPY, LAMBDAS),
        ("Table V: sparsity, exit 4", EXITS[4], SPARSITY, (0.0, 1e-5, 1e-4, 1e-3, 1e-2)),
        ("Fig. 11: entropy, exit 4", EXITS[4], ENTROPY, LAMBDAS),
    ),
)
PROTOCOLS = {"short": SHORT, "full": FULL}


def runs_of(protocol: Protocol) -> tuple[list[ExitsRun], list[ExitsRun]]:
    """Return the trainings of the second stage, and those of the third, each once."""
    early = [second_stage(protocol, cut) for cut in protocol.cuts]
    late = [third_stage(protocol, cut, rate, w) for _, cut, rate, weights in protocol.tables for w in weights]
    return early, list({run.name: run for run in late}.values())  # tables share the runs without a rate


def vanilla_accuracy(protocol: Protocol, data: str) -> float:
    """Train the network without exits, if need be, and return its accuracy on the test images."""
    stage = first_stage(protocol)
    if stage is None:
        record = json.loads(Path(protocol.weights).with_suffix(".json").read_text())
        return float(record["metrics"]["test/accuracy"])
    stage.export(data)
    return float(stage.tested(data, str(stage.best))["test/accuracy"])


def main() -> None:
    """Run all stages and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train/<class>/*.jpg and test/<class>/*.jpg")
    parser.add_argument("--protocol", default="short", choices=list(PROTOCOLS))
    parser.add_argument("--workers", type=int, default=2, help="trainings at a time, one thread each")
    options = parser.parse_args()
    protocol, data = PROTOCOLS[options.protocol], options.data
    vanilla = vanilla_accuracy(protocol, data)
    at = round(vanilla - LOSS, 4)
    early, late = runs_of(protocol)
    found: dict[str, dict[str, Any]] = {}

    def finish(run: ExitsRun) -> dict[str, Any]:
        run.export(data)
        return run.evaluated(data, f"{at:g}")

    with ThreadPoolExecutor(options.workers) as pool:
        for stage in (early, late):
            for run, row in zip(stage, pool.map(finish, stage), strict=True):
                found[run.name] = row
                accuracies = ", ".join(f"{100 * accuracy:.1f}" for accuracy in row["accuracies"])
                print(f"{run.name}: {accuracies} %, entropy {row['entropy_bits']:.2f} bits", flush=True)
    facts = {"data": "CIFAR-10 as JPEG, quality 75; 10,000 test images", "seed": 0, **record()}
    out = OUT if protocol is SHORT else OUT / protocol.name
    write_report(protocol, found, vanilla, at, out, facts)
    write_json(out / "results.json", {**facts, "vanilla_accuracy": vanilla, "accuracy": at, "runs": found})
    print(f"{out}: README.md, results.json and figures written")
