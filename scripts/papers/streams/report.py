"""docs/results/streams from what scripts/papers/streams has measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from scripts.papers.common.page import about, record, write_page
from scripts.papers.streams.footage import Scene
from scripts.papers.streams.networks import Network
from scripts.papers.streams.points import ALONE, CHOICE, NEXT, STICKY, STILL, StreamPoint
from scripts.papers.streams.texts import GOALS, HEADS, INTRODUCTION, NOTES
from splitlearn.files import write_json
from splitlearn.reporting import markdown_table, write_csv
from splitlearn.reporting.rate_plots import Panel, plot_panels

KEPT = 0.98  # share of the agreement without margin that a margin has to keep
TILED, PIXELS = "tiled features", "of the pixels"


@dataclass(frozen=True)
class Found:
    """All points of a network and a scene.

    Attributes:
        network: name of the network, and what its answers are scored by.
        score: what the answers are scored by, with its unit.
        scene: name of the scene.
        data: what it shows.
        points: of all ways of sending.
    """

    network: str
    score: str
    scene: str
    data: str
    points: Sequence[StreamPoint]

    def of(self, method: str) -> list[StreamPoint]:
        """Return the points of a method, in the order of their settings."""
        return [point for point in self.points if point.method == method]

    def like(self, words: str) -> list[StreamPoint]:
        """Return the points of methods whose names hold words."""
        return [point for point in self.points if words in point.method]

    def at(self, method: str, setting: str) -> StreamPoint | None:
        """Return a point."""
        return next((point for point in self.of(method) if point.setting == setting), None)

    @property
    def streams(self) -> Iterator[Stream]:
        """Each quantizer, with the margin that was chosen for it."""
        for alone in self.of(ALONE):
            following = self.at(NEXT, alone.setting)
            if following is not None:
                yield Stream(self, alone, following, self._chosen(alone.setting))

    def _chosen(self, setting: str) -> StreamPoint | None:
        """Return the point of the largest margin that keeps agreement on the frames to choose on; None if none does."""
        plain = self.at(CHOICE, setting)
        kept = [
            point.setting
            for point in self.of(CHOICE)
            if plain is not None and point.setting.startswith(f"{setting}, margin ") and keeps(point, plain)
        ]
        return self.at(STICKY, max(kept, key=margin_of)) if kept else None


@dataclass(frozen=True)
class Stream:
    """A quantizer: every frame by itself, the frame before as reference, and sticky symbols."""

    found: Found
    alone: StreamPoint
    following: StreamPoint
    sticky: StreamPoint | None

    @property
    def best(self) -> StreamPoint:
        """The sticky point if a margin was chosen."""
        return self.sticky or self.following


def keeps(point: StreamPoint, plain: StreamPoint) -> bool:
    """Return whether a point keeps the agreement without margin; nothing is kept where nothing agreed."""
    return plain.agreement > 0 and point.agreement >= KEPT * plain.agreement


def margin_of(setting: str) -> float:
    """Return the margin in the name of a setting."""
    return float(setting.rpartition(" ")[2])


def read(network: Network, scene: Scene, runs: Path) -> Found:
    """Return what lies in the files of a network and a scene."""
    files = sorted((runs / f"{network.slug}_{scene.slug}").glob("[!.]*.json"))
    points = [StreamPoint(**json.loads(file.read_text())) for file in files]
    return Found(network.name, network.score_name, scene.name, scene.about, points)


def report(networks: Sequence[Network], scenes: Sequence[Scene], runs: Path, out: Path) -> None:
    """Write page, CSV, JSON and plots from what lies in a folder of runs."""
    write([read(network, scene, runs) for network in networks for scene in scenes], out)


def write(found: Sequence[Found], out: Path) -> None:
    """Write page, CSV, JSON and plots."""
    facts = record()
    out.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(StreamPoint) if field.name != "sizes"]
    cells = [[f.network, f.scene, *(getattr(p, name) for name in names)] for f in found for p in f.points]
    write_csv(out / "points.csv", ["network", "scene", *names], cells)
    results = [
        {"network": f.network, "scene": f.scene, "data": f.data, "points": [asdict(p) for p in f.points]} for f in found
    ]
    write_json(out / "results.json", {**facts, "results": results})
    for network in dict.fromkeys(each.network for each in found):
        panels = [panel(each) for each in found if each.network == network and each.like(PIXELS)]
        if panels:
            plot_panels(panels, out / f"{slug(network)}.png", f"{network}: agreement against bytes")
    write_page(out / "README.md", page(found, facts))


def slug(network: str) -> str:
    """Return the name of a network as a file name."""
    return network.lower().replace(" ", "_").replace(".", "_")


def panel(found: Found) -> Panel:
    """Return the curves of a scene."""
    methods = [ALONE, NEXT, STICKY, *dict.fromkeys(p.method for p in (*found.like(TILED), *found.like(PIXELS)))]
    curves = {m: [(p.bytes_per_frame, 100 * p.agreement) for p in found.of(m)] for m in methods if found.of(m)}
    return Panel(found.scene, curves, "bytes per frame", found.score)


def page(found: Sequence[Found], facts: Mapping[str, Any]) -> list[str]:
    """Return the parts of the page of results."""
    parts = ["# Videos as streams of features\n", about(facts, "seed 0"), INTRODUCTION]
    parts += ["## What the goals say\n", GOALS, goals(found)]
    for network in dict.fromkeys(each.network for each in found):
        parts.append(f"## {network}\n")
        mine = [each for each in found if each.network == network]
        if any(each.like(PIXELS) for each in mine):
            parts.append(f"![agreement against bytes]({slug(network)}.png)\n")
        for each in mine:
            parts += [f"### {each.scene}\n", f"{each.data}.\n", streams(each)]
            if each.like(PIXELS):
                parts += [HEADS["tiled"], rivals(each, TILED), HEADS["pixels"], rivals(each, PIXELS), wins(each)]
            if each.of(STILL):
                parts += [HEADS["still"], stills(each)]
            parts.append(f"<details><summary>all points</summary>\n\n{everything(each)}\n</details>\n")
    return [*parts, NOTES]


def goals(found: Sequence[Found]) -> str:
    """Return the goals of the streams and whether they are met, quantizer by quantizer."""
    limits = {"static camera": (0.78, 0.5), "moving camera": (0.9, 0.75)}
    lines = []
    for each in found:
        for stream in each.streams:
            name, alone = [each.network, each.scene, stream.alone.setting], stream.alone.bytes_per_frame
            if each.scene in limits:
                after, sticky = limits[each.scene]
                lines.append([*name, "reference", *verdict(stream.following.bytes_per_delta_frame / alone, after)])
                if stream.sticky is not None:
                    told, size = f"sticky, {margin_told(stream.sticky)}", stream.sticky.bytes_per_delta_frame
                    if keeps(stream.sticky, stream.alone):
                        lines.append([*name, told, *verdict(size / alone, sticky)])
                    else:
                        lost = f"**no**: {share(stream.sticky, stream.alone)} of the agreement"
                        lines.append([*name, told, f"{size / alone:.3f}", f"{sticky:g}", lost])
                else:
                    lines.append([*name, f"sticky: no margin keeps {100 * KEPT:.0f} %", "–", f"{sticky:g}", "**no**"])
            elif each.scene == "unrelated images":
                pairs = zip(stream.following.sizes, stream.alone.sizes, strict=True)
                lines.append([*name, "reference, worst frame", *verdict(max(a / b for a, b in pairs), 1.01)])
    return markdown_table(["network", "scene", "levels", "", "bytes ÷ alone", "at most", "met"], lines, "llll")


def verdict(share: float, most: float) -> list[str]:
    """Return a share, its limit, and whether it is kept."""
    return [f"{share:.3f}", f"{most:g}", "yes" if share <= most else "**no**"]


def margin_told(point: StreamPoint) -> str:
    """Return the margin of a point in words."""
    return f"margin {margin_of(point.setting):g}"


def streams(found: Found) -> str:
    """Return bytes and agreement of each quantizer."""
    rows = []
    for s in found.streams:
        for name, p in ((ALONE, s.alone), (NEXT, s.following), (STICKY, s.sticky)):
            if p is None:
                rows.append([s.alone.setting, f"{name}: no margin keeps {100 * KEPT:.0f} %", *["–"] * 7])
                continue
            told = f"{name}, {margin_told(p)}" if name == STICKY else name
            ratio = p.bytes_per_frame / s.alone.bytes_per_frame
            rows.append([s.alone.setting, told, *figures(p), f"**{ratio:.2f}**", share(p, s.alone)])
    heads = ["levels", "sent", "B/frame", "B/key frame", "B/delta frame", "B/s", found.score, "÷ alone", "agreement ÷"]
    return markdown_table(heads, rows, "ll")


def figures(point: StreamPoint) -> list[str]:
    """Return bytes and agreement of a point."""
    delta = f"{point.bytes_per_delta_frame:,.0f}" if point.frames > point.key_frames else "–"
    sizes = [f"{point.bytes_per_frame:,.0f}", f"{point.bytes_per_key_frame:,.0f}", delta]
    return [*sizes, f"{point.bytes_per_second:,.0f}", percent(point)]


def percent(point: StreamPoint) -> str:
    """Return the agreement of a point."""
    return f"{100 * point.agreement:.1f}" if point.agreement >= 0 else "–"


def share(point: StreamPoint, of: StreamPoint) -> str:
    """Return the agreement of a point as a share of another's."""
    return f"{point.agreement / of.agreement:.3f}" if of.agreement > 0 else "–"


def rivals(found: Found, words: str) -> str:
    """Return, for each stream, the smallest video of at least its agreement."""
    rows = []
    for s in found.streams:
        mine = s.best
        for method in dict.fromkeys(p.method for p in found.like(words)):
            fit = [p for p in found.of(method) if p.agreement >= mine.agreement]
            head = [mine.setting, f"{mine.bytes_per_frame:,.0f}", percent(mine), method]
            if not fit:
                best = max(found.of(method), key=lambda p: p.agreement)
                rows.append([*head, f"none of those measured (at most {percent(best)})", "–", "–", "–", "–"])
                continue
            p = min(fit, key=lambda p: p.bytes_per_frame)
            told = [p.setting, f"{p.bytes_per_frame:,.0f}", percent(p)]
            ratio, faster = mine.bytes_per_frame / p.bytes_per_frame, p.encode_ms / mine.encode_ms
            rows.append([*head, *told, f"**{ratio:.2f}**", f"{faster:.1f}"])
    heads = ["stream", "B/frame", found.score, "video", "setting", "B/frame", found.score]
    return markdown_table([*heads, "stream ÷ video", "frames per second ÷"], rows, "lrrll")


def wins(found: Found) -> str:
    """Return who needs fewest bytes at the agreement of each stream, in a sentence."""
    ours = [s.best for s in found.streams]
    better = []
    for mine in ours:
        fit = [p for p in found.like(PIXELS) if p.agreement >= mine.agreement]
        better.append(not fit or mine.bytes_per_frame < min(p.bytes_per_frame for p in fit))
    won = ", ".join(point.setting for point, wins in zip(ours, better, strict=True) if wins) or "none"
    lost = ", ".join(point.setting for point, wins in zip(ours, better, strict=True) if not wins) or "none"
    return f"Fewer bytes than any video of the pixels with at least the same agreement: {won}. More bytes: {lost}.\n"


def stills(found: Found) -> str:
    """Return what frames cost that barely differ."""
    rows = []
    for p in found.of(STILL):
        setting, _, noise = p.setting.rpartition(", noise ")
        ratio = 100 * p.bytes_per_delta_frame / p.bytes_per_key_frame
        rows.append(
            [setting, noise, f"{p.bytes_per_key_frame:,.0f}", f"{p.bytes_per_delta_frame:,.0f}", f"{ratio:.2f}"]
        )
    return markdown_table(["levels", "noise (grey levels)", "B/key frame", "B/other frame", "% of a key frame"], rows)


def everything(found: Found) -> str:
    """Return all points but those of stills."""
    rows = [
        [p.method, p.setting, *figures(p), f"{p.encode_ms:.1f}", f"{p.table_bytes:,}"]
        for p in found.points
        if p.method != STILL
    ]
    heads = ["method", "setting", "B/frame", "B/key frame", "B/delta frame", "B/s", found.score, "encoding (ms)"]
    return markdown_table([*heads, "tables sent once (B)"], rows, "ll")
