"""Figs. 5 to 7 of Carra & Neglia 2023: score and bytes against bits, image files, zlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from scripts.papers.carra2023.points import CODECS, KB, LAYOUTS, Measured, Section, signed
from scripts.papers.carra2023.sources import Source
from splitlearn.analysis import compare_codecs
from splitlearn.codecs import Codec, Deflate, RunLength
from splitlearn.numpy_quantizers import MinMaxGrid
from splitlearn.reporting import markdown_table
from splitlearn.reporting.rate_plots import Panel, plot_panels

BITS = "bits a coefficient, n"
FILE_LINE = "mean JPEG file of the data set"
BEST_FILE = "cheapest image file within a point"
TIMED_IMAGES = 49
ROUNDS = 11
LITTLE = 0.005  # half a point of the score


def rates_section(measured: Sequence[Measured], out: Path) -> Section:
    """Figs. 5 and 6."""
    tables = [_summary(measured), *(f"### {m.name}\n\n{_heading(m)}\n\n{_rates(m)}" for m in measured)]
    _plot_scores(measured, out / "figure5_score.png")
    _plot_bytes(measured, out / "figure6_bytes.png")
    by_files = [_over_file(m) for m in measured]
    ratios = [ratio for ratio in by_files if ratio is not None]
    ours = f"{_losses(measured, 4)}; {_losses(measured, 3)}."
    if ratios:
        ours += (
            f" At no more than a point of loss, run-length payloads are {_span(ratios, '.1f')} times as large as the "
            "cheapest image file that the whole network can be sent instead."
        )
    return Section(
        "Score and bytes against bits (Figs. 5 and 6)",
        "4 bits cost nothing but for ResNet-50, 3 bits little; payloads are in the range of those of bottlenecks, "
        "which must be trained.",
        ours,
        "\n".join(tables),
        {
            "figure5_score.png": "score against bits; dotted: unsplit",
            "figure6_bytes.png": "bytes an image against bits, of all codes",
        },
    )


def _span(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def _losses(measured: Sequence[Measured], bits: int) -> str:
    """Say what a number of bits does to each network."""
    changes = {m.name: m.of("run-length")[bits].score - m.unsplit for m in measured}
    kept = sum(change >= -LITTLE for change in changes.values())
    listed = ", ".join(f"{name} {signed(change)}" for name, change in changes.items())
    return f"{bits} bits cost {kept} of {len(measured)} cuts no more than half a point ({listed})"


def _over_file(m: Measured) -> float | None:
    coded, file = m.within_a_point(m.of("run-length").values()), m.within_a_point(m.files)
    return coded.bytes_per_image / file.bytes_per_image if coded and file else None


def _heading(m: Measured) -> str:
    return (
        f"{m.images.count:,} images ({LAYOUTS[m.images.layout]}), unsplit {100 * m.unsplit:.2f} ({m.score_name}); "
        f"{m.float_bytes:,} bytes of floats cross."
    )


def _summary(measured: Sequence[Measured]) -> str:
    """Return the table of what is cheapest at no more than a point of loss."""
    rows = []
    for m in measured:
        best = [m.within_a_point(m.of(codec).values()) for codec in CODECS[1:]]
        cells = [f"{p.bytes_per_image:,.0f} (n = {p.setting.split()[0]})" if p else "–" for p in best]
        file = m.within_a_point(m.files)
        cells.append(f"{file.bytes_per_image:,.0f} ({file.method}, {file.setting})" if file else "–")
        rows.append([m.name, m.score_name, f"{100 * m.unsplit:.2f}", *cells])
    columns = ["cheapest within a point, bytes/image", "score", "unsplit", *CODECS[1:], "image file"]
    return markdown_table(columns, rows, "llr")


def _rates(m: Measured) -> str:
    columns = ["bits", m.score_name, "change", *CODECS, "tables of ContextRANS, once"]
    rows = []
    for bits, point in m.of("run-length").items():
        sizes = [m.of(codec)[bits] for codec in CODECS]
        cells = [f"{p.bytes_per_image:,.0f}" for p in sizes]
        scores = [f"{100 * point.score:.2f}", signed(point.score - m.unsplit)]
        rows.append([str(bits), *scores, *cells, f"{sizes[-1].table_bytes:,}"])
    return markdown_table(columns, rows, "r")


def _plot_scores(measured: Sequence[Measured], path: Path) -> None:
    panels = []
    kinds = {False: ("classification", "top-1 accuracy (%)"), True: ("detection", "mAP50–95 (%)")}
    for detection, (heading, label) in kinds.items():
        mine = [m for m in measured if m.detection == detection]
        curves = {m.name: [(n, 100 * p.score) for n, p in m.of("run-length").items()] for m in mine}
        if mine:
            panels.append(Panel(heading, curves, BITS, label, {m.name: 100 * m.unsplit for m in mine}))
    plot_panels(panels, path, "Score after min–max quantization · dotted: unsplit")


def _plot_bytes(measured: Sequence[Measured], path: Path) -> None:
    panels = []
    for m in measured:
        curves = {codec: [(n, p.bytes_per_image / KB) for n, p in m.of(codec).items()] for codec in CODECS}
        lines, best = {FILE_LINE: m.images.mean_bytes / KB}, m.within_a_point(m.files)
        if best:
            lines[BEST_FILE] = best.bytes_per_image / KB
        panels.append(Panel(m.name, curves, BITS, "kB an image (1,024 bytes)", lines, log=True))
    plot_panels(panels, path, "Bytes after min–max quantization")


def files_section(measured: Sequence[Measured]) -> Section:
    """The image itself, sent to the whole network."""
    networks = list({m.network: m for m in measured if m.files}.values())
    kinds = list(dict.fromkeys((p.method, p.setting) for m in networks for p in m.files))
    rows = []
    for kind in sorted(kinds, key=lambda kind: (kind[0].lower(), [int(w) for w in kind[1].split() if w.isdigit()])):
        found = [next((p for p in m.files if (p.method, p.setting) == kind), None) for m in networks]
        cells = [f"{100 * p.score:.2f} / {p.bytes_per_image:,.0f}" if p else "–" for p in found]
        rows.append([*kind, *cells])
    columns = ["format", "setting", *(f"{m.network}, {m.score_name} / bytes" for m in networks)]
    plain = ", ".join(f"{m.network} {100 * m.unsplit:.2f} %" for m in networks)
    return Section(
        "Image files in place of features",
        "its baseline of this kind is the mean JPEG file of the data set.",
        "each image, as the network takes it (scaled and cropped), is written as a file, sent, decoded, and goes "
        f"through the whole network. On the images as they are at hand: {plain}. Those have been through JPEG already: "
        "what a file loses here comes on top.",
        markdown_table(columns, rows, "llr"),
    )


def zlib_section(measured: Sequence[Measured], source: Source, out: Path) -> Section:
    """Fig. 7; features of the source, which is one of the subjects, are timed."""
    one = next(m for m in measured if m.name == source.name)
    latents = [image.numpy() for image in source.features[:TIMED_IMAGES]]
    codecs: dict[str, Codec] = {"run-length": RunLength(), "zlib-1": Deflate(1), "zlib-6": Deflate(6)}
    rows = {n: compare_codecs(latents, MinMaxGrid(n), codecs, ROUNDS, in_full=codecs) for n in one.of("run-length")}
    times = {n: {row.codec: latents[0].nbytes / row.encode_gbps / 1e6 for row in found} for n, found in rows.items()}
    _plot_zlib(one, times, out / "figure7_zlib.png")
    ratios = {m.name: _over_zlib(m) for m in measured}
    by_level = {
        level: _span([found[level] / found["run-length"] for found in times.values()], ".1f")
        for level in ("zlib-1", "zlib-6")
    }
    shape = "×".join(map(str, source.features.shape[1:]))
    return Section(
        "Against zlib (Fig. 7)",
        "“our simple scheme achieves even larger savings, but for extreme values of quantization (less than 4 bits)”, "
        "and zlib takes two to three times as long (ResNet-50, layer 4, on an i9-10900X).",
        f"run-length payloads are {_span([r for f in ratios.values() for r in f.values()], '.2f')} times as large as "
        f"those of zlib-6; smaller: {_smaller(ratios)}. To quantize and encode {source.name} ({shape} floats) zlib-1 "
        f"takes {by_level['zlib-1']} times as long as run-length coding, zlib-6 {by_level['zlib-6']} times "
        f"({len(latents)} images, best of {ROUNDS} rounds, one thread; kernels are compiled by numba, zlib is the C "
        "library).",
        _ratios_table(ratios) + "\n" + _times_table(times),
        {"figure7_zlib.png": "bytes and encoding time of run-length coding and zlib against bits"},
        {n: [asdict(row) for row in found] for n, found in rows.items()},
    )


def _over_zlib(m: Measured) -> dict[int, float]:
    zlib = m.of("zlib-6")
    return {n: p.bytes_per_image / zlib[n].bytes_per_image for n, p in m.of("run-length").items()}


def _smaller(ratios: dict[str, dict[int, float]]) -> str:
    """Say where run-length coding is smaller than zlib."""
    bits = {name: [str(n) for n, ratio in found.items() if ratio < 1] for name, found in ratios.items()}
    return "; ".join(f"{name} at {', '.join(n)} bits" for name, n in bits.items() if n) or "nowhere"


def _ratios_table(ratios: dict[str, dict[int, float]]) -> str:
    bits = sorted({n for found in ratios.values() for n in found})
    rows = [[name, *(f"{found[n]:.2f}" if n in found else "–" for n in bits)] for name, found in ratios.items()]
    return markdown_table(["run-length ÷ zlib-6, bytes", *(f"n = {n}" for n in bits)], rows)


def _times_table(times: dict[int, dict[str, float]]) -> str:
    labels = list(next(iter(times.values())))
    lines = [[str(n), *(f"{found[label]:.3f}" for label in labels)] for n, found in times.items()]
    return markdown_table(["bits", *(f"{label}, ms an image" for label in labels)], lines, "r")


def _plot_zlib(one: Measured, times: dict[int, dict[str, float]], path: Path) -> None:
    sizes = {
        codec: [(n, p.bytes_per_image / KB) for n, p in one.of(codec).items()] for codec in ("run-length", "zlib-6")
    }
    curves = {label: [(n, found[label]) for n, found in times.items()] for label in ("run-length", "zlib-6", "zlib-1")}
    lines = {FILE_LINE: one.images.mean_bytes / KB}
    left = Panel("payload", sizes, BITS, "kB an image (1,024 bytes)", lines)
    right = Panel("time to quantize and encode", curves, BITS, "ms an image (log scale)", log=True)
    plot_panels([left, right], path, f"Run-length coding and zlib · {one.name}")
