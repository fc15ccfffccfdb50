"""Layer-by-layer plots of several networks: sizes of outputs and cumulative parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from splitlearn.analysis.profile import ModuleProfile
from splitlearn.reporting.figures import figure_file
from splitlearn.reporting.log_ticks import plain_log_ticks

WHOLE = "(output)"

Value = Callable[[ModuleProfile], float]


def plot_sizes(networks: Mapping[str, Sequence[ModuleProfile]], path: Path) -> None:
    """Plot the output size of each module relative to the input.

    Args:
        networks: profiles by name of the network; modules with the same last part of their names share an x position.
        path: path of the image file.

    Reference:
        Matsubara & Levorato 2020, Fig. 2.
    """
    _plot(networks, lambda p: p.relative_size, "elements of the output / elements of the input", path, log=True)


def plot_parameters(networks: Mapping[str, Sequence[ModuleProfile]], path: Path) -> None:
    """Plot the parameters that a device must hold to run each module. Arguments are those of `plot_sizes`.

    Reference:
        Matsubara & Levorato 2020, Figs. 3 and 4.
    """
    _plot(networks, lambda p: p.cumulative_parameters / 1e6, "cumulative parameters (millions)", path, log=False)


def _label(profile: ModuleProfile) -> str:
    """Return the last part of a module's name."""
    return profile.name.rpartition(".")[2] or WHOLE


def _plot(networks: Mapping[str, Sequence[ModuleProfile]], value: Value, quantity: str, path: Path, log: bool) -> None:
    labels = list(dict.fromkeys(_label(p) for profiles in networks.values() for p in profiles))
    with figure_file(path, size=(min(max(6, 0.4 * len(labels)), 20), 4)) as (_, (axes,)):
        for name, profiles in networks.items():
            axes.plot([labels.index(_label(p)) for p in profiles], list(map(value, profiles)), marker=".", label=name)
        if log:
            axes.set_yscale("log")
            axes.axhline(1, color="black", linewidth=0.8, linestyle=":", label="input")
            plain_log_ticks(axes.yaxis)
        axes.set(ylabel=quantity)
        axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
