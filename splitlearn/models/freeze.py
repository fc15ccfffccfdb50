"""Freezing of modules: permanent eval mode and no gradients."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

from splitlearn.models.cutting import check_name

Module = TypeVar("Module", bound=nn.Module)


class StayInEval:
    """Replacement of a module's `train` method that leaves the module in eval mode.

    An object rather than a closure, so that copies and pickles of the module refer to their own module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        """Return the module, unchanged."""
        return self.module


def freeze(module: Module) -> Module:
    """Freeze `module` in place and return it: no gradients, and `train()` no longer has an effect.

    Setting `requires_grad` alone would let batch norm update its statistics. Only the `train` method of every submodule
    is replaced, so classes and state dict names stay the same. Gradients of parameters are dropped.
    """
    module.eval()
    for part in module.modules():
        part.train = StayInEval(part)  # type: ignore[method-assign]
    for parameter in module.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return module


def frozen_except(model: nn.Module, trains: list[str]) -> nn.Module:
    """Freeze a network in place except for some modules, and return it: for a new classifier on a trained network.

    Args:
        model: any network.
        trains: dotted names of the modules that train.

    Raises:
        CutError: if a module does not exist; the message names similar ones.
        ValueError: if no module is named.
    """
    if not trains:
        raise ValueError("nothing would train: name the modules that do, such as the classifier")
    for name in trains:
        check_name(model, name)
    above = {name[:end] for name in trains for end, letter in enumerate(name) if letter == "."} | {""}
    for name, part in list(model.named_modules()):
        parent = name.rpartition(".")[0]
        if name in above:
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad_(False)
        elif parent in above and name not in trains:
            freeze(part)
    return model


def thaw(module: Module) -> Module:
    """Undo `freeze` in place and return the module, which stays in eval mode until `train()` is called."""
    for part in module.modules():
        if isinstance(part.__dict__.get("train"), StayInEval):
            del part.train
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return module


def frozen_modules(module: nn.Module) -> list[str]:
    """Return the names of all frozen modules in `module`, itself included."""
    return [
        name
        for name, part in module.named_modules(remove_duplicate=False)
        if isinstance(part.__dict__.get("train"), StayInEval)
    ]


def frozen_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers of all frozen modules in `module`, by their names in its state dict."""
    found: dict[str, Tensor] = {}
    for path in frozen_modules(module):
        part = module.get_submodule(path)
        for name, tensor in [*part._parameters.items(), *part._buffers.items()]:
            if tensor is not None:
                found[f"{path}.{name}" if path else name] = tensor
    return found
