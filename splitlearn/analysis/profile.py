"""Profile of a network: elements that cross a cut after each module, and parameters and operations before it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from splitlearn.analysis.detector_profile import is_rcnn, without_values
from splitlearn.models import check_name, crossing_tensors
from splitlearn.resource_errors import of_machine

TRIED = 8  # modules that are traced to find a cut which sends less than the input


@dataclass(frozen=True)
class ModuleProfile:
    """Size, cost and crossing tensors of one module, for a cut after it.

    Attributes:
        name: dotted name for `split(model, at=…)`; empty for the whole network.
        kind: class of the module.
        output_shape: shape of its (first) output for one image, without the batch.
        output_size: number of elements of all its outputs for one image.
        relative_size: `output_size` divided by the number of elements of the input image.
        cumulative_parameters: number of parameters of all modules that have run up to its end.
        cumulative_macs: multiply–accumulates for one image up to its end.
        relative_macs: `cumulative_macs` divided by those of the whole network.
        crossing_tensors: number of float tensors that cross a cut after it; None if the network cannot be traced there.
        relative_crossing: number of elements of all crossing tensors, also of integer ones such as image sizes, divided
            by that of the input image; None if the network cannot be traced there.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    output_size: int
    relative_size: float
    cumulative_parameters: int
    cumulative_macs: int
    relative_macs: float
    crossing_tensors: int | None
    relative_crossing: float | None


def profile_model(
    model: nn.Module, input_shape: Sequence[int], depth: int | None = None, at: Collection[str] | None = None
) -> list[ModuleProfile]:
    """Return the profile of every module that runs, in the order in which they end.

    If possible, the network runs without arithmetic and memory: on the meta device, or with fake tensors if its code
    depends on values of its buffers. A network that depends on values of the image runs on the CPU. R-CNN detectors
    have their maximum number of regions and objects, in torchvision 1000 and 100.

    Args:
        model: any network for images; it is not changed.
        input_shape: `(C, H, W)` of one image.
        depth: largest number of dots in the names of profiled modules; None for no limit.
        at: names of the modules to profile, at any depth; the empty name is the whole network. None profiles all. Each
            module needs a trace of the network.

    Raises:
        ValueError: if the network does not accept images of this shape, or a name in `at` is no module that runs.
    """
    for name in filter(None, at or ()):
        check_name(model, name)
    running, image = _prepare(model, input_shape)
    rows = _run(running, image)
    if idle := set(at or ()) - {row.name for row in rows}:
        raise ValueError(f"module {min(idle)!r} of {type(model).__name__} never runs: name one that does")
    chosen = [
        row
        for row in rows
        if (row.name and (depth is None or row.name.count(".") <= depth) if at is None else row.name in at)
    ]
    return [_profile(running, image, row, rows[-1].macs) for row in chosen]


def smaller_cut(model: nn.Module, input_shape: Sequence[int], beside: Collection[str]) -> ModuleProfile | None:
    """Return a module after which a cut sends less than the input and leaves work to the tail; None if none is found.

    Modules in `beside` are skipped. Of the others with an output smaller than the input, the `TRIED` least nested ones
    are traced, since only a trace shows whether more tensors than the output cross.
    """
    running, image = _prepare(model, input_shape)
    rows = _run(running, image)
    smaller = [
        row
        for row in rows
        if row.name
        and row.name not in beside
        and row.macs < rows[-1].macs
        and sum(map(_numel, row.shapes)) < image.numel()
    ]
    for row in sorted(smaller, key=lambda row: row.name.count("."))[:TRIED]:
        found = _profile(running, image, row, rows[-1].macs)
        if found.relative_crossing is not None and found.relative_crossing < 1:
            return found
    return None


@dataclass(frozen=True)
class _Row:
    name: str
    shapes: list[tuple[int, ...]]
    parameters: int
    macs: int


def _profile(running: nn.Module, image: Tensor, row: _Row, macs: int) -> ModuleProfile:
    """Return the profile of a module of a prepared network with `macs` multiply–accumulates in total."""
    crossing = crossing_tensors(running, row.name, image) if row.name else None
    size = sum(map(_numel, row.shapes))
    return ModuleProfile(
        name=row.name,
        kind=type(running.get_submodule(row.name)).__name__,
        output_shape=row.shapes[0],
        output_size=size,
        relative_size=size / image.numel(),
        cumulative_parameters=row.parameters,
        cumulative_macs=row.macs,
        relative_macs=row.macs / max(macs, 1),
        crossing_tensors=None if crossing is None else sum(tensor.is_floating_point() for tensor in crossing),
        relative_crossing=None if crossing is None else sum(_numel(t.shape[1:]) for t in crossing) / image.numel(),
    )


def _prepare(model: nn.Module, input_shape: Sequence[int]) -> tuple[nn.Module, Tensor]:
    """Return a copy of the model and an image for it, both without values if possible, else on the CPU."""
    failure: Exception | None = None
    for place in (*((_detector_on_meta,) if is_rcnn(model) else ()), _on_meta, _with_fakes, _on_cpu):
        try:
            running, image = place(copy.deepcopy(model).float().eval(), (1, *input_shape))
            with torch.no_grad(), _without_log():
                running(image)
        except Exception as error:  # a user's network may fail in any way
            failure = error
        else:
            return running, image
    if failure is not None and of_machine(failure):
        raise failure
    raise ValueError(
        f"{type(model).__name__} does not take images of shape {tuple(input_shape)}: {failure}"
    ) from failure


@contextmanager
def _without_log() -> Iterator[None]:
    """Silence the tracebacks that fake tensors log before another method is tried."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _on_meta(model: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
    return model.to("meta"), torch.zeros(shape, device="meta", dtype=torch.float32)


def _detector_on_meta(model: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
    return without_values(model).to("meta"), torch.zeros(shape, device="meta", dtype=torch.float32)


def _with_fakes(model: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
    """Return model and image as fake tensors, except for buffers, on whose values code may depend (YOLO's strides)."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    for module in model.cpu().modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(mode.from_tensor(parameter.detach()), requires_grad=False))
    with mode:
        return model, torch.zeros(shape, dtype=torch.float32)


def _on_cpu(model: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
    return model.cpu(), torch.zeros(shape, dtype=torch.float32)


def _run(model: nn.Module, image: Tensor) -> list[_Row]:
    """Run the model once; return for every module its output, and the parameters and operations up to its end."""
    rows: dict[str, _Row] = {}
    seen: dict[int, int] = {}

    def hook(name: str) -> Any:
        def note(module: nn.Module, arguments: Any, output: Any) -> None:
            seen.update({id(p): p.numel() for p in module.parameters()})
            shapes = [_of_image(t.shape) for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]
            if shapes:
                rows.pop(name, None)  # a module that runs again is done when its last run is
                rows[name] = _Row(name, shapes, sum(seen.values()), int(counter.get_total_flops()) // 2)

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_modules()]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter, _UsedParameters(model, seen):
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return list(rows.values())


class _UsedParameters(TorchFunctionMode):
    """Records each parameter when it is used: a module may use own parameters, beside its layers, before it ends.

    Args:
        model: owner of the parameters.
        seen: dict that gets the number of elements of each used parameter, by identity.
    """

    def __init__(self, model: nn.Module, seen: dict[int, int]) -> None:
        super().__init__()
        self.sizes, self.seen = {id(p): p.numel() for p in model.parameters()}, seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") != "__get__":  # reading a shape, say, is no use of the values
            for each in pytree.tree_leaves((args, kwargs)):
                if id(each) in self.sizes:
                    self.seen[id(each)] = self.sizes[id(each)]
        return func(*args, **(kwargs or {}))


def _of_image(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape without its batch dimension of 1; regions and objects of detectors have no batch dimension."""
    return tuple(shape[1:] if shape and shape[0] == 1 else shape)


def _numel(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())
