"""Keep a module as it is: in eval for good, and without gradients."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class StayInEval:
    """Takes the place of a module's `train` method and leaves the module in eval mode.

    An object rather than a method or a closure: copies and pickles of the module then get one that belongs to them.

    Args:
        module: the module that is to stay as it is.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        """Return the module, unchanged."""
        return self.module


def freeze(module: Module) -> Module:
    """Freeze `module` in place: `train()` on it, or on what holds it, no longer wakes batch norm or dropout.

    Freezing by `requires_grad` alone would leave batch norm counting. The module's class, its names in state dicts and
    its place in other modules stay what they are, because only `train` is replaced, on every module inside.

    Args:
        module: any module; its parameters need no gradient afterwards and drop the one they have.

    Returns:
        The same module.
    """
    module.eval()
    for part in module.modules():
        part.train = StayInEval(part)  # type: ignore[method-assign]
    for parameter in module.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return module


def thaw(module: Module) -> Module:
    """Undo `freeze` in place: `train()` works again, and floating-point parameters take gradients.

    Args:
        module: a module that was frozen; it stays in eval mode until somebody calls `train()`.

    Returns:
        The same module.
    """
    for part in module.modules():
        if isinstance(part.__dict__.get("train"), StayInEval):
            del part.train
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return module


def frozen_modules(module: nn.Module) -> list[str]:
    """Return the names of all modules in `module`, itself included, that were frozen."""
    return [
        name
        for name, part in module.named_modules(remove_duplicate=False)
        if isinstance(part.__dict__.get("train"), StayInEval)
    ]


def frozen_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers of the frozen modules in `module`, by their names in its state dict."""
    found: dict[str, Tensor] = {}
    for path in frozen_modules(module):
        part = module.get_submodule(path)
        for name, tensor in [*part._parameters.items(), *part._buffers.items()]:
            if tensor is not None:
                found[f"{path}.{name}" if path else name] = tensor
    return found
