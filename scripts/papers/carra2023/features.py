"""Figs. 1 to 4 of Carra & Neglia 2023, and its truncated spectrum: what coefficients at a cut are like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from scripts.papers.carra2023.points import Section
from scripts.papers.carra2023.sources import BATCH, Source, model_and_data
from scripts.papers.common.rate_study import Subject
from splitlearn.analysis import (
    AxisCorrelation,
    Distribution,
    SpectrumPoint,
    axis_correlation,
    class_gradients,
    coefficients,
    cut_features,
    difference_distributions,
    min_max_entropies,
    quantized_zeros,
    relevance,
    spectrum_accuracy,
)
from splitlearn.analysis.correlation import AXES, FRAME
from splitlearn.data import read_video
from splitlearn.reporting import markdown_table, plot_distributions, plot_entropies, write_quantiles, write_records
from splitlearn.reporting.rate_plots import Panel, plot_panels

FRAMES = 64
SHOWN = 0.002, 0.998  # beyond these shares single outliers would stretch the axis


def coefficients_section(sources: Sequence[Source], out: Path) -> Section:
    """Fig. 1."""
    found = {s.name: coefficients(s.features) for s in sources}
    zeros = {s.name: quantized_zeros(s.features) for s in sources}
    write_records(out / "coefficients.csv", found)
    write_quantiles(out / "coefficients_cdf.csv", found)
    write_records(out / "coefficients_zeros.csv", zeros)
    plot_distributions(found, out / "figure1_coefficients.png", "Coefficients", between=SHOWN)
    rows = [
        [name, *statistics(one), *(f"{100 * z.zeros:.1f}" for z in zeros[name])] for name, (one, *_) in found.items()
    ]
    said = "; ".join(
        f"{name} has {100 * one.zeros:.1f} % zeros and values from {_figure(one.minimum)} to {_figure(one.maximum)}"
        for name, (one, *_) in found.items()
    )
    lowest = "; ".join(f"{name} {100 * next(z.zeros for z in zeros[name] if z.bits == 4):.1f} %" for name in found)
    bits = [f"n = {z.bits}" for z in next(iter(zeros.values()))]
    columns = ["cut", "zeros %", "mean", "std", "min", "max", *bits]
    return Section(
        "Coefficients (Fig. 1)",
        "40 to 50 % of the coefficients are zero behind a ReLU, the rest lies below 20 (VGG16) or 2 (ResNet-50).",
        f"{said}. The share of symbols that are 0, the lowest level, which is all that run lengths live on, is at "
        f"4 bits: {lowest}; for other n it stands in the last columns, in %.",
        markdown_table(columns, rows),
        {"figure1_coefficients.png": "empirical CDF of coefficients"},
        records(found) | {f"{name}, min–max": list(map(asdict, rows)) for name, rows in zeros.items()},
    )


def differences_section(sources: Sequence[Source], out: Path) -> Section:
    """Fig. 2."""
    found = {s.name: [axis_correlation(s.features, axis) for axis in AXES] for s in sources}
    cdfs = {
        s.name: [
            replace(coefficients(s.features)[0], name="coefficients"),
            *(replace(difference_distributions(s.features, axis)[0], name=f"{axis} differences") for axis in AXES),
        ]
        for s in sources
    }
    write_records(out / "differences.csv", found)
    write_records(out / "differences_distributions.csv", cdfs)
    write_quantiles(out / "differences_cdf.csv", cdfs)
    label = "coefficient or difference"
    plot_distributions(cdfs, out / "figure2_differences.png", "Differences of neighbours", label, SHOWN)
    return Section(
        "Differences of neighbours (Fig. 2)",
        "differences along a row have about half the range for some images, which saves a bit at best; no spatial "
        "correlation that could be used.",
        "; ".join(f"{name}: differences have {_correlations(rows)}" for name, rows in found.items())
        + ". A range hangs on its two outermost values; a linear prediction from a neighbour takes the square of the "
        "correlation off the variance.",
        _correlation_table(found),
        {"figure2_differences.png": "empirical CDF of coefficients and of differences"},
        {name: list(map(asdict, rows)) for name, rows in found.items()},
    )


def entropy_section(sources: Sequence[Source], out: Path) -> Section:
    """What contexts tell about symbols: Sec. V, last paragraph."""
    found = {s.name: min_max_entropies(s.features) for s in sources}
    write_records(out / "entropy.csv", found)
    plot_entropies(found, out / "entropy.png", "What contexts save")
    contexts = list(dict.fromkeys(row.context for rows in found.values() for row in rows))
    by = {(name, row.levels, row.context): row.bits_per_element for name, rows in found.items() for row in rows}
    levels = sorted({key[1] for key in by})
    rows = [
        [name, str((n - 1).bit_length()), *(f"{by[name, n, context]:.3f}" for context in contexts)]
        for name in found
        for n in levels
    ]
    saved = "; ".join(
        f"{name} {100 * (1 - by[name, 8, 'left and upper'] / by[name, 8, 'none']):.0f} % at 3 bits and "
        f"{100 * (1 - by[name, 16, 'left and upper'] / by[name, 16, 'none']):.0f} % at 4"
        for name in found
    )
    return Section(
        "Symbols under a context (Sec. V)",
        "differential encoding of quantized coefficients “yielded limited advantages”.",
        f"a code that knows a symbol's left and upper neighbour saves against one that knows none: {saved}. Bits an "
        "element, learnt from one half of the images and tried on the other; ContextRANS is such a code.",
        markdown_table(["cut", "bits", *contexts], rows),
        {"entropy.png": "bits an element under a context, over order 0"},
    )


def spectrum_section(sources: Sequence[Source], out: Path) -> Section:
    """The FFT of Sec. III."""
    found = {s.name: _spectrum(s) for s in sources}
    write_records(out / "spectrum.csv", found)
    panels = [
        Panel(
            name,
            {
                " → ".join(order[::-1]): [(100 * p.share, 100 * p.accuracy) for p in points if p.order == order]
                for order in dict.fromkeys(p.order for p in points)
            },
            "lowest frequencies kept (%)",
            "top-1 accuracy (%)",
        )
        for name, points in found.items()
    ]
    plot_panels(panels, out / "spectrum.png", "Low frequencies only", "written fastest → slowest")
    said = "; ".join(f"{name}: {_halves(points)}" for name, points in found.items())
    shares = sorted({p.share for points in found.values() for p in points})
    by = {(name, p.order, p.share): p.accuracy for name, points in found.items() for p in points}
    rows = [
        [name, " → ".join(order[::-1]), *(f"{100 * by[name, order, share]:.1f}" for share in shares)]
        for name, order in dict.fromkeys(key[:2] for key in by)
    ]
    return Section(
        "Low frequencies (Sec. III)",
        "the tensor is written into a vector, in various orders; sending the lower frequencies only loses accuracy "
        "substantially (no figures).",
        f"{said}.",
        markdown_table(["cut", "fastest → slowest", *(f"{100 * share:g} %" for share in shares)], rows, "llr"),
        {"spectrum.png": "accuracy against the share of frequencies kept"},
        {name: list(map(asdict, points)) for name, points in found.items()},
    )


def _spectrum(source: Source) -> list[SpectrumPoint]:
    assert source.labels is not None
    return spectrum_accuracy(source.model.net.tail, source.crossing, source.labels)


def _halves(points: Sequence[SpectrumPoint]) -> str:
    half = {p.order: 100 * p.accuracy for p in points if p.share == 0.5}
    whole = next(100 * p.accuracy for p in points if p.share == 1)
    return (
        f"half of the frequencies leave {min(half.values()):.1f} to {max(half.values()):.1f} % top-1 over the orders, "
        f"all of them {whole:.1f} % ({points[0].images} images)"
    )


def relevance_section(sources: Sequence[Source], out: Path) -> Section:
    """Fig. 4."""
    found = {s.name: _relevant(s) for s in sources}
    write_records(out / "relevance.csv", found)
    write_quantiles(out / "relevance_cdf.csv", found)
    title = "Most relevant 10 % of each image's coefficients"
    plot_distributions(found, out / "figure4_relevance.png", title, between=SHOWN)
    said = "; ".join(
        f"{name}: mean {everything.mean:.2f} of all, "
        + ", ".join(f"{one.mean:.2f} of the relevant by {one.name} ({100 * one.zeros:.1f} % zeros)" for one in relevant)
        for name, (everything, *relevant) in found.items()
    )
    rows = [[name, one.name, *statistics(one)] for name, several in found.items() for one in several]
    return Section(
        "Relevance (Fig. 4)",
        "relevant coefficients tend to be larger, but some are very small; in ResNet Grad-CAM finds most of the zeros "
        "relevant.",
        f"{said}. What is relevant hangs on the measure: weight × activation can't choose zeros before all positive "
        "products are used up, while the map knows positions alone.",
        markdown_table(["cut", "relevant by", "zeros %", "mean", "std", "min", "max"], rows, "llr"),
        {"figure4_relevance.png": "empirical CDF of relevant coefficients"},
        records(found),
    )


def _relevant(source: Source) -> list[Distribution]:
    gradient = class_gradients(source.model.net.tail, source.crossing)[0]
    found = relevance(source.features, gradient)
    return [found.everything, *found.relevant]


def video_section(subject: Subject, video: Path, out: Path) -> Section:
    """Fig. 3."""
    model, _ = model_and_data(subject)
    _, height, width = model.net.input_shape
    frames = read_video(video, (height, width), FRAMES)
    found = cut_features(model, ((batch, None) for batch in torch.split(frames, BATCH)), FRAMES)
    features = found.floats[0]
    correlation = axis_correlation(features, FRAME)
    panels = {
        "coefficients": [replace(d, name=d.name.replace("image", "frame")) for d in coefficients(features)],
        "differences of frames": difference_distributions(features, FRAME),
    }
    write_records(out / "video.csv", {subject.name: [correlation]})
    write_quantiles(out / "video_cdf.csv", panels)
    heading = f"Consecutive frames · {subject.name}, {len(features)} frames"
    plot_distributions(panels, out / "figure3_video.png", heading, "coefficient or difference")
    return Section(
        "Frames of a video (Fig. 3)",
        "even in nearly static scenes differences of consecutive frames have about half the range.",
        f"{subject.name} on {len(features)} frames of a fixed camera ({video.name}): differences have "
        f"{_correlations([correlation])}.",
        "",
        {"figure3_video.png": "empirical CDF of coefficients and of differences between frames"},
        asdict(correlation),
    )


def statistics(one: Distribution) -> list[str]:
    """Return share of zeros, mean, standard deviation and extremes as cells of a table."""
    return [f"{100 * one.zeros:.1f}", *(f"{value:.3f}" for value in (one.mean, one.std, one.minimum, one.maximum))]


def records(found: Mapping[str, Sequence[Distribution]]) -> dict[str, Any]:
    """Return distributions without their quantiles, which have a CSV file."""
    return {
        name: [{key: value for key, value in asdict(one).items() if key != "quantiles"} for one in several]
        for name, several in found.items()
    }


def _figure(value: float | None, form: str = ".2f") -> str:
    return "–" if value is None else format(value, form).replace("-", "−")


def _correlations(rows: Sequence[AxisCorrelation]) -> str:
    """Say what differences along each axis are like."""
    return ", ".join(
        f"{'from frame to frame' if row.axis == FRAME else f'along the {row.axis}'} {_figure(row.range_ratio)} of the "
        f"coefficients' range and {_figure(row.std_ratio)} of their deviation (correlation {_figure(row.correlation)})"
        for row in rows
    )


def _correlation_table(found: dict[str, list[AxisCorrelation]]) -> str:
    columns = ["cut", "along", "range ÷", "std ÷", "correlation", "without channel means"]
    rows = [
        [
            name,
            row.axis,
            *(_figure(row.range_ratio, ".3f"), _figure(row.std_ratio, ".3f")),
            *(_figure(row.correlation, ".3f"), _figure(row.correlation_in_channel, ".3f")),
        ]
        for name, several in found.items()
        for row in several
    ]
    return markdown_table(columns, rows, "llr")
