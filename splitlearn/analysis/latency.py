"""Latencies in torch: every module of a network, and every rate of a trained model.

A module's times come from hooks before and behind it in whole passes, so that any network can be timed, also at cuts
that no trace finds, and all modules in one go; to run each head by itself would take a trace and a proof for each cut.
Hooks cost time themselves, a few microseconds each: what one costs is measured on a module that does nothing, and taken
off for each that has run. The head of a cut is everything that runs until its module is done.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from splitlearn.latencies import CoderLatency, Latency, ModuleLatency, differences, timed
from splitlearn.models import CutModel
from splitlearn.models.modes import evaluating

CALIBRATIONS = 100


class _StopWatch:
    """Hooks of modules that note the time.

    Attributes:
        stamps: of the last pass, in order: a module's name, empty for the network; whether it is done; seconds.
        shapes: of the first output of each module that has run.
    """

    def __init__(self) -> None:
        self.stamps: list[tuple[str, bool, float]] = []
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run(self, model: nn.Module, images: Tensor, names: Sequence[str]) -> None:
        """Run a network once, with hooks that are gone afterwards."""
        handles = []
        for name in names:
            module = model.get_submodule(name)
            handles.append(module.register_forward_pre_hook(self._before(name)))
            handles.append(module.register_forward_hook(self._behind(name)))
        try:
            self.stamps = [("", False, time.perf_counter())]
            model(images)
            self.stamps.append(("", True, time.perf_counter()))
        finally:
            for handle in handles:
                handle.remove()

    def _before(self, name: str) -> Any:
        def note(*_: object) -> None:
            self.stamps.append((name, False, time.perf_counter()))

        return note

    def _behind(self, name: str) -> Any:
        def note(_module: nn.Module, _given: object, output: object) -> None:
            self.stamps.append((name, True, time.perf_counter()))
            if name not in self.shapes:
                tensors = [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]
                self.shapes[name] = tuple(tensors[0].shape[1:]) if tensors else ()

        return note


@torch.no_grad()
def time_modules(
    model: nn.Module, images: Tensor, names: Sequence[str], rounds: int
) -> tuple[tuple[ModuleLatency, ...], Latency]:
    """Return the latencies of modules, and of the whole network.

    Args:
        model: any network of images; it is timed in eval mode.
        images: one batch, normalized if the network needs that.
        names: names of the modules to time, as in `model.named_modules()`; those that do not run are left out.
        rounds: number of timed passes; as many more are timed without hooks.

    Returns:
        Latencies of modules in the order in which they finish, and of a pass without hooks.
    """
    watch, passes = _StopWatch(), list[list[tuple[str, bool, float]]]()

    def stamped(_: int) -> None:
        watch.run(model, images, names)
        passes.append(watch.stamps)

    hook_ms = _hook_ms()
    with evaluating(model):
        plain = timed({"plain": lambda _: model(images), "stamped": stamped}, rounds)["plain"]
    return _modules(passes[-rounds:], hook_ms, watch.shapes), Latency.of(plain)


def _hook_ms() -> float:
    """Return the milliseconds of one hook: the least of several measurements, which other work only lengthens."""
    watch, idle, nothing = _StopWatch(), nn.Sequential(nn.Identity()), torch.zeros(1, 1)
    took: dict[bool, list[float]] = {False: [], True: []}
    for is_hooked in (False, True) * CALIBRATIONS:
        watch.run(idle, nothing, ["0"] if is_hooked else [])
        took[is_hooked].append(1e3 * (watch.stamps[-1][2] - watch.stamps[0][2]))
    return max(0.0, min(took[True]) - min(took[False])) / 2


def _modules(
    passes: Sequence[Sequence[tuple[str, bool, float]]], hook_ms: float, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[ModuleLatency, ...]:
    """Return the latencies of modules from the stamps of passes, without what hooks took.

    Args:
        passes: stamps of each pass.
        hook_ms: milliseconds of one hook.
        shapes: of the output of each module.
    """
    own: dict[str, list[float]] = {name: [] for name in shapes}
    until: dict[str, list[float]] = {}
    after: dict[str, list[float]] = {name: [] for name in shapes}
    for stamps in passes:
        begun: dict[str, float] = {}
        took = dict.fromkeys(shapes, 0.0)
        done: dict[str, float] = {}
        for number, (name, is_done, seconds) in enumerate(stamps[1:]):
            now = 1e3 * (seconds - stamps[0][2]) - number * hook_ms
            if not is_done:
                begun[name] = now
            elif name:
                done.pop(name, None)  # a module that runs again is done when its last run is
                done[name] = now
                took[name] += now - begun[name]
        whole = 1e3 * (stamps[-1][2] - stamps[0][2]) - (len(stamps) - 2) * hook_ms
        for name, now in done.items():
            own[name].append(took[name])
            until.setdefault(name, []).append(now)
            after[name].append(whole - now)
    return tuple(
        ModuleLatency(name, shapes[name], Latency.of(own[name]), Latency.of(values), Latency.of(after[name]))
        for name, values in until.items()
    )


@torch.inference_mode()
def time_coders(model: CutModel, images: Tensor, rounds: int, fingerprint: str) -> tuple[CoderLatency, ...]:
    """Return the latencies of each rate of a trained model, one image at a time.

    Args:
        model: a trained model.
        images: `(B, C, H, W)` in [0, 1]; each round takes the next one.
        rounds: number of timed rounds.
        fingerprint: fingerprint of the model, stored with the latencies.
    """
    with evaluating(model):
        return tuple(_coder(model, number, images, rounds, fingerprint) for number in range(len(model.rates)))


def _coder(model: CutModel, rate: int, images: Tensor, rounds: int, fingerprint: str) -> CoderLatency:
    coder, net = model.rates[rate], model.net
    features = [model.features(image[None]) for image in images]
    payloads = [coder.compress(each) for each in features]
    latents_hat = [coder.latents_hat(each) for each in payloads]
    features_hat = [coder.restored(each) for each in latents_hat]
    count = len(images)
    times = timed(
        {
            "head": lambda n: model.features(images[n % count][None]),
            "encoder": lambda n: coder.encoded(features[n % count]),
            "compress": lambda n: coder.compress(features[n % count]),
            "decode": lambda n: coder.latents_hat(payloads[n % count]),
            "decoder": lambda n: coder.restored(latents_hat[n % count]),
            "tail": lambda n: net.tail(*features_hat[n % count]),
        },
        rounds,
    )
    point = model.points[rate] if model.points else None
    return CoderLatency(
        model=fingerprint,
        at=net.at,
        rate=rate,
        device=Latency.of(_sums(times["head"], times["encoder"])),
        encode=Latency.of(differences(times["compress"], times["encoder"])),
        decode=Latency.of(times["decode"]),
        edge=Latency.of(_sums(times["decoder"], times["tail"])),
        encoder=Latency.of(times["encoder"]),
        decoder=Latency.of(times["decoder"]),
        bytes_per_image=fmean(len(payload) for [payload] in payloads),
        score=None if point is None else point.score,
    )


def _sums(one: Sequence[float], other: Sequence[float]) -> list[float]:
    return [a + b for a, b in zip(one, other, strict=True)]
