"""Made-up profiles, whose numbers tests can add up."""

from __future__ import annotations

from splitlearn.latencies import CoderLatency, Latency, LatencyProfile, ModuleLatency, PictureLatency

MODEL, OTHER = "ab" * 32, "cd" * 32
WHOLE = 40.0


def ms(value: float) -> Latency:
    return Latency(value, 2 * value)


def coder(rate: int, size: float, score: float | None, factor: float = 1.0, model: str = MODEL) -> CoderLatency:
    """One rate at layer2: 8 ms on the device, 1 to encode, 2 to decode, 4 on the edge."""
    device, encode, decode, edge = (ms(factor * value) for value in (8.0, 1.0, 2.0, 4.0))
    return CoderLatency(model, "layer2", rate, device, encode, decode, edge, None, None, size, score)


def profile(
    factor: float = 1.0,
    coders: tuple[CoderLatency, ...] | None = None,
    names: tuple[str, ...] = ("layer1", "layer2", "layer3"),
    pictures: bool = True,
    network: str = "Net",
) -> LatencyProfile:
    """A network of 40 ms, of which layer1 ends after 10; `factor` times as slow; three modules and two rates."""
    shares = [(n + 1) / (len(names) + 1) for n in range(len(names))]
    modules = tuple(
        ModuleLatency(
            name,
            (8, 4, 4),
            ms(factor * 10),
            ms(factor * WHOLE * share),
            ms(factor * WHOLE * (1 - share)),
        )
        for name, share in zip(names, shares, strict=True)
    )
    coders = (coder(0, 41, 0.8, factor), coder(1, 941, 0.9, factor)) if coders is None else coders
    files = (PictureLatency("JPEG 75", ms(factor), ms(2 * factor), 4821.0),) if pictures else ()
    machine = {"processor": "made up"}
    about = (network, (3, 16, 16), "torch", 1, 1, 10, machine, "2026-01-01T00:00:00+00:00")
    return LatencyProfile(*about, ms(factor * WHOLE), False, modules, coders, files)
