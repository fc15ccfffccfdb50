"""Reports of `splitlearn analyze`: CSV files, a plot and a table in the terminal for each analysis of features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from torch import Tensor

from splitlearn.analysis.coefficients import coefficients, quantized_zeros
from splitlearn.analysis.correlation import AXES, FRAME, AxisCorrelation, axis_correlation, difference_distributions
from splitlearn.analysis.distribution import Distribution, checked_features
from splitlearn.analysis.entropy import context_entropies, min_max_entropies
from splitlearn.analysis.features import CutFeatures
from splitlearn.analysis.relevance import class_gradients, relevance
from splitlearn.analysis.spectrum import KEPT, spectrum_accuracy
from splitlearn.models import CoderModel
from splitlearn.reporting.csv_files import write_quantiles, write_records
from splitlearn.reporting.feature_plots import plot_distributions, plot_entropies, plot_spectrum
from splitlearn.reporting.terminal import decimal, percent, print_table


@dataclass(frozen=True)
class FeatureRun:
    """Input of the analyses in one run of `splitlearn analyze`, and the folder for their results.

    Attributes:
        model: the cut network; some analyses run its tail.
        features: features of the images at the cut.
        out: folder for CSV files and plots.
        amount: number and kind of the images in words, for titles.
    """

    model: CoderModel
    features: CutFeatures
    out: Path
    amount: str

    @property
    def sources(self) -> dict[str, Tensor]:
        """The crossing float tensors, by name."""
        floats = self.features.floats
        names = ["features"] if len(floats) == 1 else [f"features {i}" for i in range(len(floats))]
        return {
            f"{name}, {'×'.join(map(str, t.shape[1:]))}": checked_features(t)
            for name, t in zip(names, floats, strict=True)
        }

    @property
    def spatial(self) -> dict[str, Tensor]:
        """The crossing float tensors `(B, C, H, W)`, by name."""
        return {name: t for name, t in self.sources.items() if t.ndim == 4}

    def title(self, text: str) -> str:
        """Return a title that names network, cut and images."""
        return f"{text} · {self.model.net.name} at {self.model.net.at}, {self.amount}"


def _coefficients(run: FeatureRun) -> None:
    found = {source: coefficients(t) for source, t in run.sources.items()}
    zeros = {source: quantized_zeros(t) for source, t in run.sources.items()}
    write_records(run.out / "coefficients.csv", found)
    write_quantiles(run.out / "coefficients_cdf.csv", found)
    write_records(run.out / "coefficients_zeros.csv", zeros)
    plot_distributions(found, run.out / "coefficients.png", run.title("Coefficients"))
    columns = ["", "zeros %", *(f"n = {row.bits}" for row in next(iter(zeros.values()))), "min", "max", "std"]
    rows = [
        [source, percent(all_.zeros), *(percent(row.zeros) for row in zeros[source]), *_spread(all_)]
        for source, (all_, *_) in found.items()
    ]
    print_table(run.title("Zeros in %, as floats and after min–max of n bits"), columns, rows)


def _spread(one: Distribution) -> list[str]:
    return [decimal(one.minimum), decimal(one.maximum), decimal(one.std)]


def _differences(run: FeatureRun) -> None:
    axes = {source: [axis for axis, dim in AXES.items() if t.shape[dim] > 1] for source, t in run.spatial.items()}
    found = {source: [axis_correlation(t, axis) for axis in axes[source]] for source, t in run.spatial.items()}
    all_ = {source: [_named("coefficients", coefficients(t))] for source, t in run.spatial.items()}
    for source, t in run.spatial.items():
        all_[source] += [_named(f"{axis} differences", difference_distributions(t, axis)) for axis in axes[source]]
    _write_correlations(run, "differences", found, all_, "Differences of neighbours")
    firsts = {source: [replace(d, name=d.name.split(",")[0]) for d, *_ in groups] for source, groups in all_.items()}
    title = run.title("Differences of neighbours")
    plot_distributions(firsts, run.out / "differences.png", title, "coefficient or difference")


def _named(prefix: str, found: Sequence[Distribution]) -> list[Distribution]:
    return [replace(one, name=f"{prefix}, {one.name}") for one in found]


def _write_correlations(
    run: FeatureRun,
    name: str,
    found: Mapping[str, Sequence[AxisCorrelation]],
    groups: Mapping[str, Sequence[Sequence[Distribution]]],
    title: str,
) -> None:
    """Write NAME.csv, NAME_distributions.csv and NAME_cdf.csv, and print the correlations."""
    flat = {source: [one for group in several for one in group] for source, several in groups.items()}
    write_records(run.out / f"{name}.csv", found)
    write_records(run.out / f"{name}_distributions.csv", flat)
    write_quantiles(run.out / f"{name}_cdf.csv", flat)
    columns = ["", "along", "range ×", "std ×", "correlation", "in channel"]
    rows = [
        [
            source,
            row.axis,
            *map(decimal, (row.range_ratio, row.std_ratio, row.correlation, row.correlation_in_channel)),
        ]
        for source, records in found.items()
        for row in records
    ]
    print_table(run.title(f"{title} over coefficients"), columns, rows)


def _entropy(run: FeatureRun) -> None:
    found = {source: min_max_entropies(t) for source, t in run.sources.items()}
    own = {
        source: context_entropies(symbols, quantizer.levels, f"{quantizer} of the model")
        for source, symbols, quantizer in zip(
            run.sources, run.features.symbols, run.model.coder.quantizers, strict=True
        )
    }
    write_records(run.out / "entropy.csv", {source: found[source] + own[source] for source in found})
    plot_entropies(found, run.out / "entropy.png", run.title("Entropy under contexts"))
    contexts = list(dict.fromkeys(row.context for rows in found.values() for row in rows))
    lines = []
    for source in found:
        for _, group in groupby(found[source] + own[source], key=lambda row: row.quantizer):
            rows = list(group)
            bits = {row.context: decimal(row.bits_per_element) for row in rows}
            lines.append([source, rows[0].quantizer, *(bits.get(context, "–") for context in contexts)])
    title = run.title("Bits per element under a context, learnt from the other half of the images")
    print_table(title, ["", "quantizer", *contexts], lines)


def _spectrum(run: FeatureRun) -> None:
    assert run.features.labels is not None
    points = spectrum_accuracy(run.model.net.tail, run.features.crossing, run.features.labels)
    write_records(run.out / "spectrum.csv", {", ".join(run.sources): points})
    plot_spectrum(points, run.out / "spectrum.png", run.title("Low frequencies only"))
    rows = [
        [order, *(percent(point.accuracy) for point in group)]
        for order, group in groupby(points, key=lambda point: point.order)
    ]
    columns = ["last fastest", *(f"{100 * share:g} %" for share in KEPT)]
    print_table(run.title("Top-1 in % with the lowest frequencies"), columns, rows)


def _relevance(run: FeatureRun) -> None:
    gradients = dict(zip(run.sources, class_gradients(run.model.net.tail, run.features.crossing), strict=True))
    found = {source: relevance(t, gradients[source]) for source, t in run.spatial.items()}
    everything = {source: [one.everything, *one.relevant] for source, one in found.items()}
    write_records(run.out / "relevance.csv", everything)
    write_quantiles(run.out / "relevance_cdf.csv", everything)
    title = run.title("Most relevant 10 % of each image's coefficients")
    plot_distributions(everything, run.out / "relevance.png", title)
    rows = [
        [source, one.name, percent(one.zeros), decimal(one.mean), *_spread(one)]
        for source, several in everything.items()
        for one in several
    ]
    print_table(title, ["", "relevant by", "zeros %", "mean", "min", "max", "std"], rows)


def _video(run: FeatureRun) -> None:
    found = {source: [axis_correlation(t, FRAME)] for source, t in run.sources.items()}
    panels: dict[str, list[Distribution]] = {}
    groups: dict[str, list[list[Distribution]]] = {}
    for source, t in run.sources.items():
        frames = [replace(one, name=one.name.replace("image", "frame")) for one in coefficients(t)]
        pairs = difference_distributions(t, FRAME)
        groups[source] = [_named("coefficients", frames), _named("differences", pairs)]
        panels |= {f"{source}: coefficients": frames, f"{source}: differences": pairs}
    _write_correlations(run, "video", found, groups, "Differences of frames")
    plot_distributions(panels, run.out / "video.png", run.title("Consecutive frames"), "coefficient or difference")


RUNS: dict[str, Callable[[FeatureRun], None]] = {
    "coefficients": _coefficients,
    "differences": _differences,
    "entropy": _entropy,
    "spectrum": _spectrum,
    "relevance": _relevance,
    "video": _video,
}
