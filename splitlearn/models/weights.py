"""Weights from local files, which cannot run code."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["WeightsError", "checked_weights", "load_weights"]


class WeightsError(ValueError):
    """Weights cannot be read, cannot be had, or belong to another architecture."""


def load_weights(model: nn.Module, weights: str | Path, unused: str | None = None) -> None:
    """Load the weights of a local file into a model, in place, cast to the model's own dtypes.

    Reading the file cannot run code: .safetensors, or a state dict saved by torch (.pt, .pth).

    Args:
        model: network whose state dict has the keys and shapes of the file.
        weights: path of the file.
        unused: what names of tensors begin with that the file may hold and the model has no place for.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: the file has another format, is damaged, or holds the weights of another architecture.
    """
    state = checked_weights(model.state_dict(), weights, type(model).__name__, unused)
    # num_batches_tracked, absent from many exports, only matters for batch norm without momentum
    model.load_state_dict(state, strict=False)


def checked_weights(
    expected: Mapping[str, Tensor], weights: str | Path, owner: str, unused: str | None = None, partial: bool = False
) -> dict[str, Tensor]:
    """Return the tensors of a local file if they have the names and shapes that are expected.

    Args:
        expected: tensors by name.
        weights: path of the file.
        owner: what these are the weights of, for messages.
        unused: what names of tensors begin with that the file may hold besides; they are left out.
        partial: whether the file need not hold all that is expected.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: the file has another format, is damaged, or holds the weights of another architecture.
    """
    path = Path(weights).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights file at {path.absolute()}; copy or download it there, "
            "or set `weights` to the path of a .safetensors, .pt or .pth file that exists"
        )
    state = {k: v for k, v in _read_state(path).items() if k in expected or not (unused and k.startswith(unused))}
    problems = _misfits({k: v for k, v in expected.items() if k in state} if partial else expected, state)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"{path} does not fit {owner}: {', '.join(problems[:3])}{more}; "
            "these weights belong to another architecture"
        )
    return state


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix not in {".safetensors", ".pt", ".pth"}:
        raise WeightsError(f"{path} is not a weights file: its name must end in .safetensors, .pt or .pth")
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} cannot be read, it is damaged or of another format ({error})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds no state dict: save it with torch.save(model.state_dict(), path)")
    return state


def _misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Say what differs: first shapes, which tell the most, then missing keys, then surplus ones."""
    shapes = [
        f"{key} is {tuple(found[key].shape)} in the file and {tuple(tensor.shape)} in the model"
        for key, tensor in expected.items()
        if key in found and found[key].shape != tensor.shape
    ]
    needed = [key for key in expected if key not in found and not key.endswith("num_batches_tracked")]
    surplus = [key for key in found if key not in expected]
    return shapes + [f"{key} is missing" for key in needed] + [f"{key} is not in the model" for key in surplus]
