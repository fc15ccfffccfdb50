"""Loading of weights from local files, without executing code in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from splitlearn.models.networks.weight_files import WeightsError, read_state_dicts, unwrapped

__all__ = ["WeightsError", "checked_weights", "load_weights", "with_weights"]

Network = TypeVar("Network", bound=nn.Module)

# names of the network beside other modules, such as a loss, in checkpoints of training scripts
OWNERS = {"model", "net", "network", "backbone", "encoder", "student", "teacher", "ema", "ema_model", "model_ema"}
COUNTERS = "num_batches_tracked"  # absent from many exports; only used by batch norm without momentum
AVERAGED = "n_averaged"  # counter of torch's AveragedModel


def load_weights(model: nn.Module, weights: str | Path, unused: str | None = None) -> None:
    """Load the weights of a local file into a model, in place, cast to the model's dtypes.

    Reading cannot run code: the file is safetensors, or a state dict saved by torch. Wrappers of training scripts are
    removed: dicts such as `{"state_dict": …}`, `{"model": …}` or a Lightning checkpoint, and name prefixes such as
    `module.`, `_orig_mod.` and `model.`.

    Args:
        model: network with the keys and shapes of the file.
        weights: path of the file, with any name.
        unused: name prefix of tensors in the file that the model does not need.

    Raises:
        FileNotFoundError: if the file does not exist.
        WeightsError: if the file has another format, is damaged, contains several different networks, or weights of
            another architecture.
    """
    model.load_state_dict(checked_weights(model.state_dict(), weights, type(model).__name__, unused), strict=False)


def with_weights(model: Network, weights: str | Path | None) -> Network:
    """Return `model` with the weights of a local file, if one is given; raises as `load_weights`."""
    if weights is not None:
        load_weights(model, weights)
    return model


def checked_weights(
    expected: Mapping[str, Tensor], weights: str | Path, owner: str, unused: str | None = None, partial: bool = False
) -> dict[str, Tensor]:
    """Return the tensors of a local file if they have the expected names and shapes; raises as `load_weights`.

    Tensors whose names begin with `unused` are left out; expected tensors may be missing if `partial`.
    """
    path = Path(weights).expanduser()
    found = [
        _Candidate(".".join(filter(None, (place, prefix))), state, misfits(expected, state, partial))
        for place, tensors in read_state_dicts(path).items()
        for prefix, state in _readings(expected, tensors, unused)
    ]
    fitting = [candidate for candidate in found if not candidate.problems]
    if not fitting:
        problems = min(found, key=lambda candidate: len(candidate.problems)).problems
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"{path} does not fit {owner}: {', '.join(problems[:3])}{more}; "
            "these weights belong to another architecture"
        )
    if not all(_equal(fitting[0].state, other.state) for other in fitting[1:]):
        names = " and ".join(candidate.name or "the outermost" for candidate in fitting)
        raise WeightsError(
            f"{path} holds several networks that fit {owner}, {names}: save the one that is meant by itself, with "
            "torch.save(state_dict, path)"
        )
    return fitting[0].state


@dataclass(frozen=True)
class _Candidate:
    """One interpretation of a file: key and prefix, tensors by expected name, if there is one, and mismatches."""

    name: str
    state: dict[str, Tensor]
    problems: list[str]


def _readings(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], unused: str | None
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield possible name prefixes of the network, and its tensors without the prefix.

    A prefix is possible if all names have it, or if it consists of names that training scripts give to a network.
    """
    mine, theirs = _by_plain_name(expected), _by_plain_name(tensors)
    if AVERAGED not in mine:
        theirs.pop(AVERAGED, None)
    first = next((name for name in mine if not name.endswith(COUNTERS)), "")
    for prefix in dict.fromkeys(["", *(n.removesuffix(first) for n in theirs if first and n.endswith(f".{first}"))]):
        inside = {name.removeprefix(prefix): name for name in theirs if name.startswith(prefix)}
        if len(inside) == len(theirs) or set(prefix.split(".")) - {""} <= OWNERS:
            state = {mine.get(name, name): tensors[theirs[full]] for name, full in inside.items()}
            kept = {k: v for k, v in state.items() if k in expected or unused is None or not k.startswith(unused)}
            yield prefix.rstrip("."), kept


def _by_plain_name(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Map names without wrappers to full names; full names to themselves if names would collide."""
    plain = {unwrapped(name): name for name in tensors}
    return plain if len(plain) == len(tensors) else {name: name for name in tensors}


def misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], partial: bool = False) -> list[str]:
    """Return descriptions of all mismatches: shapes and dtypes first, then missing and additional names.

    Expected tensors may be missing if `partial`.
    """
    both = [(key, found[key], tensor) for key, tensor in expected.items() if key in found]
    wrong = [
        f"{key} is {tuple(theirs.shape)} in the file and {tuple(mine.shape)} in the model"
        for key, theirs, mine in both
        if theirs.shape != mine.shape
    ]
    wrong += [
        f"{key} is {_kind(theirs)} in the file and {_kind(mine)} in the model"
        for key, theirs, mine in both
        if theirs.shape == mine.shape and not _can_be_cast(theirs, mine)
    ]
    twins = _tied(expected)
    wrong += [
        f"{key} and {twin} are one tensor in the model and differ in the file"
        for key, twin in twins.items()
        if key in found and twin in found and not torch.equal(found[key], found[twin])
    ]
    held = {twins.get(key, key) for key in found}
    absent = [key for key in expected if twins.get(key, key) not in held and not key.endswith(COUNTERS)]
    needed = [] if partial else absent
    surplus = [key for key in found if key not in expected]
    return wrong + [f"{key} is missing" for key in needed] + [f"{key} is not in the model" for key in surplus]


def _tied(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Map each further name of a tied weight to its first name."""
    first: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    places = [(name, (t.data_ptr(), t.shape, t.stride())) for name, t in tensors.items() if not t.is_meta and t.numel()]
    return {name: known for name, place in places if (known := first.setdefault(place, name)) != name}


def _can_be_cast(found: Tensor, expected: Tensor) -> bool:
    """Return whether a dtype can be cast to the expected one; integers cannot replace floats, as they lack a scale."""
    if found.is_meta or found.is_quantized or found.layout is not torch.strided or found.is_complex():
        return _kind(found) == _kind(expected)
    return found.is_floating_point() or not expected.is_floating_point()


def _kind(tensor: Tensor) -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    return f"{name} without values" if tensor.is_meta else name if tensor.layout is torch.strided else f"sparse {name}"


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]) for name, tensor in one.items()
    )
