"""Names of modules at which a network can be cut, and the error for illegal ones."""

from __future__ import annotations

import difflib

from torch import nn
from torch.jit import ScriptModule
from torch.jit._trace import TopLevelTracedModule


class CutError(ValueError):
    """A network cannot be cut at a module; the message gives the reason and names similar cuts."""


def legal_cuts(model: nn.Module) -> list[str]:
    """Return the dotted names of all modules of `model`, outermost first: candidates for the argument `at`."""
    return [name for name, _ in model.named_modules() if name]


def inside(path: str, at: str) -> bool:
    """Return whether the module `path` is the module `at` or one of its descendants."""
    return path == at or path.startswith(f"{at}.")


def nearest(at: str, names: list[str], count: int = 5) -> str:
    """Return up to `count` of `names` most similar to `at`, best first, as text for a message."""
    return ", ".join(difflib.get_close_matches(at, names, n=count, cutoff=0.0))


def check_name(model: nn.Module, at: str, called: str | None = None) -> None:
    """Raise CutError, with similar names, if `model` has no module `at`; also if it contains TorchScript.

    Args:
        model: the network, or a part of it.
        at: dotted name of a module in it.
        called: what messages call the model; by default its class.
    """
    if scripted := [name for name, m in model.named_modules() if isinstance(m, (ScriptModule, TopLevelTracedModule))]:
        where = f"its module {scripted[0]!r} is" if scripted[0] else "is"
        raise CutError(
            f"{type(model).__name__} cannot be cut, {where} a program of TorchScript, closed to tracing: give the "
            "network of Python that it was made from, with its weights"
        )
    names = legal_cuts(model)
    if at not in names:
        name = type(model).__name__ if called is None else called
        if not names:
            raise CutError(f"{name} has no modules inside, and so no cut: put its layers into modules of their own")
        raise CutError(f"no module {at!r} in {name}: did you mean {nearest(at, names)}?")


def alternatives(model: nn.Module, at: str, called: set[str]) -> str:
    """Return alternatives to the cut `at`, as text: running parent modules, then running modules of similar names."""
    parts = at.split(".")
    parents = [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]
    parents = [name for name in parents if name in called]
    others = [name for name in legal_cuts(model) if name in called and name not in parents and not inside(name, at)]
    return ", ".join([*parents, *difflib.get_close_matches(at, others, n=max(1, 5 - len(parents)), cutoff=0.0)])
