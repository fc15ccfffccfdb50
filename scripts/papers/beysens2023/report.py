"""Tables and figures of scripts/papers/beysens2023."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.papers.beysens2023.runs import ENTROPY, Cut, Protocol, second_stage, third_stage
from scripts.papers.common.page import about, write_page
from splitlearn.analysis import partition
from splitlearn.codecs import Huffman
from splitlearn.models import EarlyExitModel, mobilenet_v2_cifar, split
from splitlearn.quantizers import Affine
from splitlearn.reporting import markdown_table
from splitlearn.reporting.rate_plots import Panel, plot_panels

KB = 1024
ACCURACY = "accuracy, INT8 (%)"
SHAPE = (3, 32, 32)
PAPERS_EXITS = (2, 5, 8, 12, 15)
CODECS = ("raw", "CSR", "Huffman", "RANS", "ContextRANS")
Found = Mapping[str, Mapping[str, Any]]  # by the name of the run


def table_ii() -> str:
    """Return Table II: weights and operations of MobileNetV2, from the architecture alone."""
    headings = ["exit", "device KB (exit)", "device M MAC (exit)", "server KB", "server M MAC", "raw KB, INT8"]
    rows, network = [], mobilenet_v2_cifar()
    for number in PAPERS_EXITS:
        at = network.exits[number]
        block = at.rpartition(".")[0]
        net = split(network, block if block in network.exits else at, SHAPE)
        p = partition(EarlyExitModel(net, Affine(), Huffman(), exits=[at]))
        device = f"{4 * p.device_weights / KB:,.1f} ({4 * p.exit_weights / KB:,.1f})"
        work = f"{p.device_macs / 1e6:.1f} ({p.exit_macs / 1e6:.2f})"
        server = f"{4 * p.edge_weights / KB:,.1f}", f"{p.edge_macs / 1e6:.1f}"
        rows.append([number, device, work, *server, f"{p.values / KB:.1f}"])
    return markdown_table(headings, rows, "r")


def rate_table(protocol: Protocol, cut: Cut, rate: str, weights: Sequence[float], found: Found) -> str:
    """Return Table III, IV or V: sizes of all codecs and accuracies over the weight of the rate."""
    rows = []
    for weight in weights:
        row = found[third_stage(protocol, cut, rate, weight).name]
        early, final = (f"{100 * accuracy:.1f}" for accuracy in row["accuracies"])
        sizes = [f"{row['bytes'][name] / KB:.2f}" for name in CODECS]
        mark = " (collapsed)" if row["collapsed"] else ""
        rows.append([f"{weight:g}", *sizes, f"{row['entropy_bits']:.2f}", early, f"{final}{mark}"])
    sign = "λ_e" if rate == ENTROPY else "λ_s"
    headings = [sign, *(f"{name} KB" for name in CODECS), "entropy, bits", "early %", "final %"]
    return markdown_table(headings, rows, "r")


def savings_table(protocol: Protocol, found: Found, accuracy: float) -> str:
    """Return mean KB at a fixed accuracy, T_c free: raw without regularization against the best of each codec."""
    table = []
    for heading, cut, rate, weights in protocol.tables:
        rows = {w: found[third_stage(protocol, cut, rate, w).name]["cheapest"][f"{accuracy:g}"] for w in weights}
        raw = _bytes(rows[0], "raw")
        cells = [heading, _kb(raw), _kb(_bytes(rows[0], "Huffman"))]
        for codec in ("Huffman", "ContextRANS"):
            best, weight = min((_bytes(row, codec), w) for w, row in rows.items())
            saved = f"{100 * (1 - best / raw):.0f} %" if 0 < raw < math.inf and best < math.inf else "–"
            cells += [f"{_kb(best)} (λ {weight:g})" if best < math.inf else _kb(best), saved]
        table.append(cells)
    columns = ["Huffman, best rate", "saved", "ContextRANS, best rate", "saved"]
    return markdown_table(["", "raw, no rate", "Huffman, no rate", *columns], table)


def _bytes(cheapest: Mapping[str, Any], codec: str) -> float:
    point = cheapest[codec]
    return math.inf if point is None else float(point["bytes_per_image"][codec])


def _kb(size: float) -> str:
    return f"{size / KB:.2f}" if size < math.inf else "not reached"


def int8_table(protocol: Protocol, found: Found) -> str:
    """Return what INT8 costs in accuracy, and how honest the early exits are."""
    rows = []
    for cut in protocol.cuts:
        row = found[second_stage(protocol, cut).name]
        pairs = zip(row["float_accuracies"], row["accuracies"], strict=True)
        both = [f"{100 * before:.2f} → {100 * after:.2f}" for before, after in pairs]
        honest = f"{row['calibration_errors'][0]:.3f}", f"{row['temperatures'][0]:.2f}"
        rows.append([cut.name, *both, *honest, f"{row['calibrated_errors'][0]:.3f}"])
    accuracies = [f"{which}, float → INT8 %" for which in ("early", "final")]
    return markdown_table(["", *accuracies, "calibration error", "temperature", "with it"], rows)


def figures(protocol: Protocol, found: Found, vanilla: float, out: Path) -> list[str]:
    """Draw the twins of Figs. 5 to 11; return the lines that show them."""
    network = mobilenet_v2_cifar()
    shapes = {n: split(network, name, SHAPE).shapes[0] for n, name in enumerate(network.exits[:18])}
    sizes = {"MobileNetV2": [(float(n), 4 * math.prod(shape) / KB) for n, shape in shapes.items()]}
    early = {cut.name: found[second_stage(protocol, cut).name] for cut in protocol.cuts}
    by_threshold = {name: over_thresholds(row) for name, row in early.items()}
    by_threshold["without exits"] = [(0.0, 100 * vanilla), (1.0, 100 * vanilla)]
    by_size = {n: curve(row, "raw") for n, row in early.items()}
    panels = {
        "figure5_sizes": [Panel("", sizes, "number of the exit", "activation, float32 (KB)")],
        "figure6_thresholds": [Panel("", by_threshold, "T_c", ACCURACY)],
        "figure7_raw": [Panel("", by_size, "raw KB per image, mean", ACCURACY)],
    }
    entropies, accuracies, coded = list[Panel](), list[Panel](), list[Panel]()
    rates: dict[Cut, dict[str, list[tuple[float, float]]]] = {}
    for heading, cut, rate, weights in protocol.tables:
        runs = {weight: third_stage(protocol, cut, rate, weight) for weight in weights}
        if rate == ENTROPY:
            traces = {f"λ {w:g}": run.entropies() for w, run in runs.items()}
            entropies.append(Panel(heading, traces, "training step", "entropy of the batch (bits)"))
        rows = {weight: found[run.name] for weight, run in runs.items()}
        found_accuracies = {f"λ {w:g}": over_thresholds(row) for w, row in rows.items()}
        accuracies.append(Panel(heading, found_accuracies, "T_c", ACCURACY))
        usable = {w: row for w, row in rows.items() if not row["collapsed"]}
        rates.setdefault(cut, {})[rate] = [
            (row["bytes"]["Huffman"] / KB, 100 * row["accuracies"][-1]) for row in usable.values()
        ]
        kept = {f"λ {w:g}": curve(row, "Huffman") for w, row in usable.items()}
        coded.append(Panel(heading, kept, "Huffman KB per image, mean", ACCURACY))
    label = "Huffman KB per image, all sent, a point for each λ"
    final = "accuracy of the final exit, INT8 (%)"
    compared = [Panel(cut.name, each, label, final) for cut, each in rates.items() if len(each) > 1]
    panels |= {
        "figure8_entropy": entropies,
        "figure9_accuracy": accuracies,
        "figure10_coded": coded,
        "figure11_entropy_sparsity": compared,
    }
    for name, several in panels.items():
        plot_panels(several, out / f"{name}.png", f"{protocol.network}, {name.replace('_', ' ')}")
    return [f"![{name.replace('_', ' ')}]({name}.png)\n" for name in panels]


def over_thresholds(row: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return thresholds and accuracy in percent."""
    return [(p["threshold"], 100 * p["accuracy"]) for p in row["points"]]


def curve(row: Mapping[str, Any], codec: str) -> list[tuple[float, float]]:
    """Return mean KB and accuracy over the thresholds."""
    return [(p["bytes_per_image"][codec] / KB, 100 * p["accuracy"]) for p in row["points"]]


def write_report(
    protocol: Protocol, found: Found, vanilla: float, accuracy: float, out: Path, facts: Mapping[str, Any]
) -> None:
    """Write README.md and figures.

    Args:
        protocol: that was run.
        found: results of all runs.
        vanilla: accuracy of the network without exits.
        accuracy: at which bytes are compared.
        out: folder.
        facts: data, machine, command, date.
    """
    stages = ", ".join(map(str, protocol.epochs))
    parts = [
        f"# Early exits with compressible activations: {protocol.network}\n",
        about(facts),
        f"Epochs of the three stages (0: weights that are shipped): {stages}. {ABOUT}",
        "## Table II: MobileNetV2 in float32, from its architecture\n",
        table_ii(),
        TABLE_II_NOTE,
    ]
    for heading, cut, rate, weights in protocol.tables:
        parts += [f"## {heading}\n", rate_table(protocol, cut, rate, weights, found)]
    parts += [
        f"## Mean KB an image at {100 * accuracy:.1f} %, T_c free\n",
        savings_table(protocol, found, accuracy),
        "## INT8, and confidences\n",
        int8_table(protocol, found),
        "## Figures\n",
        *figures(protocol, found, vanilla, out),
    ]
    write_page(out / "README.md", parts)


ABOUT = """Weights and activations are INT8, quantized after training with scales from a quarter of the validation
images, as are the static tables of Huffman, RANS and ContextRANS. Sizes are those of payloads, header and checksum
included, tables not: these are sent once. fbgemm keeps activations to seven bits, so that a bit of each raw byte is
always 0: an eighth of each saving against raw may come from there. At a fixed accuracy, T_c and λ are those that are
cheapest on the test images themselves: savings are optimistic. The paper tells neither how it chose them nor its bits.
One seed; the standard error of an accuracy is 0.3 points. Images are JPEG, so
absolute accuracies are not comparable with published ones.
"""
TABLE_II_NOTE = """Weights without batch norm and biases. The paper's 268.9 KB for the device at exit 8 must be a
misprint: from exit 5 to exit 8 its server loses 32.1 KB, the weights of one block, and its device gains 33.1.
"""
