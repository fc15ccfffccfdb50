"""Proof on first use that the halves, head and tail, are exact for other image shapes and dtypes and in training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from splitlearn.models.cutting.check import run_reference, same, verify
from splitlearn.models.cutting.graph import Halves
from splitlearn.models.cutting.names import CutError
from splitlearn.models.images import like
from splitlearn.resource_errors import raised_as

_ONE_AT_A_TIME = RLock()  # a proof temporarily changes modes and hooks


class Proof:
    """Comparison of the halves with the uncut network, which shares their tensors.

    Images of a new shape or dtype are refused unless network and halves agree on noise of that kind, because a traced
    graph has no Python checks and may contain sizes as constants. Training mode is refused unless a training pass
    through the halves equals one through the network, because the mode may also have become a constant.

    Args:
        model: the network.
        at: name of the module before the cut.
        head: images → tuple of crossing tensors.
        tail: crossing tensors → the network's output.
        example: images `(B, …)` for which the halves are proven already.
    """

    def __init__(self, model: nn.Module, at: str, head: nn.Module, tail: nn.Module, example: Tensor) -> None:
        self.model, self.at, self.head, self.tail = model, at, head, tail
        self.shape = tuple(example.shape[1:])
        self.taken = {(self.shape, example.dtype)}
        self.trains = False
        self.proving = False

    def network(self) -> nn.Module:
        """Return the uncut network with the current tensors of the halves."""
        self._share_buffers()
        return self.model

    def behind(self, head: nn.Module) -> Proof:
        """Return a proof of the same cut with an equivalent head."""
        other = Proof(self.model, self.at, head, self.tail, torch.empty(1, *self.shape))
        other.taken = set(self.taken)
        return other

    def check(self, images: Any, training: bool) -> None:
        """Prove that the halves are exact for images of this shape and dtype, and in training if `training` is set.

        Each case is proven once. Images on the meta device have no values and are not checked. Raises ValueError if the
        network refuses such images, or the halves are not exact for them; CutError if the halves would train
        differently from the network.
        """
        if torch.compiler.is_compiling():
            return
        if isinstance(images, Tensor) and not images.is_meta:
            kind = (tuple(images.shape[1:]), images.dtype)
            if kind not in self.taken:
                self._once(lambda: self._prove_images(*kind))
        if training and not self.trains:
            with torch.inference_mode(False):  # inference mode would prevent gradients
                self._once(self._prove_training)

    def _once(self, prove: Callable[[], None]) -> None:
        """Run a proof, unless called from within a proof."""
        with _ONE_AT_A_TIME:
            if self.proving:
                return
            self.proving = True
            try:
                prove()
            finally:
                self.proving = False

    def _prove_images(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self._share_buffers()
        with _undisturbed(self._modules()), torch.no_grad(), _full_precision(self._device):
            noise = self._noise(shape, dtype)
            with raised_as(lambda error: ValueError(f"{self._name} refuses {_kind(noise)}: {_first_line(error)}")):
                reference = run_reference(self.model, self.at, noise)
            with raised_as(lambda _: ValueError(self._other_kind(noise))):  # a wrong size may fail in any layer
                verify(Halves(self.head, self.tail), noise, reference)
        self.taken.add((shape, dtype))

    def _prove_training(self) -> None:
        self._share_buffers()
        with _undisturbed(self._modules()), _full_precision(self._device):
            self.head.train(), self.tail.train()
            alone = {id(m): m.training for half in (self.head, self.tail) for m in half.modules()}
            self.model.train()  # may be overridden, for instance to keep a norm in eval mode
            if any(alone.get(id(module), True) != module.training for module in self.model.modules()):
                raise CutError(self._untrainable())
            images = self._noise(self.shape, None)
            with raised_as(lambda error: CutError(f"{self._name} cannot train in two halves: {_first_line(error)}")):
                whole = self._learnt(self.model, images)
            with raised_as(lambda _: CutError(self._untrainable())):
                parts = self._learnt(lambda given: self.tail(*self.head(given)), images)
        if not same(whole, parts):
            raise CutError(self._untrainable())
        self.trains = True

    def _learnt(self, network: Callable[[Tensor], Any], images: Tensor) -> tuple[Any, list[Tensor], list[bool]]:
        """Return output and buffers of a training pass and whether each parameter gets a gradient; undo the pass."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        modules = self._modules()
        with _fixed_seed(self._device), _restored(modules), torch.enable_grad():
            output = network(images.clone())
            buffers = [b.detach().clone() for module in modules for b in module.buffers(recurse=False)]
            ends = [t.float().sum() for t in _tensors(output) if t.requires_grad]
            found = torch.autograd.grad(ends, parameters, allow_unused=True) if ends and parameters else ()
            return output, buffers, [gradient is not None for gradient in found]

    def _share_buffers(self) -> None:
        """Give the network the current buffers of its halves, which may have been moved or loaded."""
        for half in (self.head, self.tail):
            for name, buffer in half.named_buffers():
                path, _, leaf = name.rpartition(".")
                try:
                    owner = self.model.get_submodule(path)
                except AttributeError:  # in a graph of torch.export
                    continue
                if leaf in owner._buffers:
                    owner._buffers[leaf] = buffer

    def _modules(self) -> list[nn.Module]:
        return list({id(m): m for part in (self.model, self.head, self.tail) for m in part.modules()}.values())

    def _noise(self, shape: Sequence[int], dtype: torch.dtype | None) -> Tensor:
        """Return two images of noise in [0, 1], or 0…255 for integers; None for the network's dtype."""
        noise = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
        dtype = self._like.dtype if dtype is None else dtype
        return (noise if dtype.is_floating_point else noise * 255).to(self._device, dtype)

    @property
    def _like(self) -> Tensor:
        return like(self.model)

    @property
    def _device(self) -> torch.device:
        return self._like.device

    @property
    def _name(self) -> str:
        return type(self.model).__name__

    def _other_kind(self, images: Tensor) -> str:
        known, found = self.shape, tuple(images.shape[1:])
        if len(known) != 3 or len(found) != 3 or known[0] != found[0] or known == found:
            return (
                f"this cut takes images like its example, of shape {known}, not {_kind(images)}: split again with these"
            )
        return (
            f"this cut fixes the input at {known[1]}×{known[2]} pixels, the images have {found[1]}×{found[2]}: "
            "split again with an example of that size"
        )

    def _untrainable(self) -> str:
        return (
            f"{self._name} cut at {self.at!r} would not train as the uncut network does (dropout, batch norm or a "
            "branch on the mode is fixed at its state in eval mode): cut at another module, or keep the network "
            "frozen, in a SplitModel"
        )


def _kind(images: Tensor) -> str:
    return f"images of shape {tuple(images.shape[1:])} and type {str(images.dtype).removeprefix('torch.')}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors of a nested output."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for item in value.values() for t in _tensors(item)]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in _tensors(item)]
    return _tensors(vars(value)) if hasattr(value, "__dict__") else []


@contextmanager
def _undisturbed(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Remove forward hooks of `modules` and set eval mode; restore both afterwards."""
    hooks = [(m, m._forward_hooks, m.training) for m in modules]
    for module in modules:
        module._forward_hooks, module.training = type(module._forward_hooks)(), False
    try:
        yield
    finally:
        for module, forward_hooks, mode in hooks:
            module._forward_hooks, module.training = forward_hooks, mode


@contextmanager
def _restored(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Restore the buffers of `modules` afterwards."""
    places = [(m, name, b, b.clone()) for m in modules for name, b in m._buffers.items() if b is not None]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in places:
                module._buffers[name] = buffer
                buffer.copy_(value)


@contextmanager
def _fixed_seed(device: torch.device) -> Iterator[None]:
    """Set a fixed seed; restore the random generators afterwards."""
    state = random.getstate()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        random.seed(0)
        try:
            yield
        finally:
            random.setstate(state)


def _full_precision(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, enabled=False)
