"""`split`: division of a network into a head and a tail, proven exact on an example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from splitlearn.models.cutting.check import Reference, make_safe, run_reference, verify
from splitlearn.models.cutting.detector import DetectorHead, cut_detector, is_detector
from splitlearn.models.cutting.exported import cut_exported
from splitlearn.models.cutting.graph import Halves
from splitlearn.models.cutting.names import CutError, alternatives, check_name
from splitlearn.models.cutting.proof import Proof
from splitlearn.models.cutting.sizes import MAX_GROWTH, FeatureShape, varying_sizes
from splitlearn.models.cutting.traced import cut_traced
from splitlearn.models.images import like
from splitlearn.outputs import MAX_PIXELS

Method = Callable[[nn.Module, str, Sequence[Tensor]], Halves]


class _Guard:
    """Hook that checks the input of a head; independent of `Split`, so that a head can be copied by itself."""

    def __init__(self, proof: Proof, by_image: bool) -> None:
        self.proof, self.by_image = proof, by_image

    def __call__(self, head: nn.Module, given: tuple[Any, ...]) -> None:
        self.proof.check(None if self.by_image or not given else given[0], head.training)


class Split(nn.Module):
    """A network in two halves, head and tail, that share its parameters.

    ```
    images → head → crossing tensors → tail → the model's output
    ```
    Both halves are differentiable. `split` makes this object after it has proven that the halves agree with the model.
    The head refuses images that the model refuses, image shapes for which the halves are not exact, and training mode
    if the halves would train differently from the model.

    Args:
        name: class of the network.
        at: name of the module before the cut.
        head: images `(B, C, H, W)` → tuple of crossing tensors; the first is the output of the module `at`.
        tail: crossing tensors → the model's output.
        shapes: shape of each crossing tensor for one image of the example, without the batch.
        dtypes: type of each crossing tensor, in the same order.
        input_shape: `(C, H, W)` of the example.
        method: how the cut was made.
        by_image: whether images have individual sizes and cross one by one, as in torchvision detectors.
        proof: check that the halves are exact for other image shapes and in training.

    Attributes:
        crosses: what crosses: "features", or "pixels" where an encoder takes the image.
        max_growth: largest allowed ratio of a crossing tensor's elements to those for the example, for networks that
            accept several image sizes; may be set. Larger tensors are neither sent nor decoded.
        max_pixels: largest number of pixels of an image for a detector; may be set.
    """

    crosses: ClassVar[str] = "features"

    def __init__(
        self,
        name: str,
        at: str,
        head: nn.Module,
        tail: nn.Module,
        shapes: tuple[tuple[int, ...], ...],
        dtypes: tuple[torch.dtype, ...],
        input_shape: tuple[int, ...],
        method: str,
        by_image: bool,
        proof: Proof,
    ) -> None:
        super().__init__()
        self.name = name
        self.at = at
        self.head = head
        self.tail = tail
        self.shapes = shapes
        self.dtypes = dtypes
        self.input_shape = input_shape
        self.method = method
        self.by_image = by_image
        self.max_growth: float = MAX_GROWTH
        self.max_pixels = MAX_PIXELS
        self.guard(proof)
        self.eval()

    def forward(self, images: Tensor) -> Any:
        """Return the model's output for `images`, computed by the tail from the crossing tensors."""
        return self.tail(*self.head(images))

    @property
    def tail_shapes(self) -> tuple[FeatureShape, ...]:
        """Shape of each tensor that the tail takes, for one image of the example."""
        return self.shapes

    def wanted(self, crossing: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the tensors that the tail is to get for what crosses: the crossing tensors themselves."""
        return crossing

    def guard(self, proof: Proof) -> None:
        """Let `proof` check every input of the current head; call this again after the head was replaced."""
        self.proof = proof
        self.head.register_forward_pre_hook(_Guard(proof, self.by_image))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.head._forward_pre_hooks.clear()  # copies of graphs lose this hook, copies of other modules keep it
        self.guard(self.proof)

    def network(self) -> nn.Module:
        """Return the uncut network, with tensors shared with the halves."""
        return self.proof.network()

    def expected(self, height: int, width: int) -> tuple[tuple[int, ...], tuple[FeatureShape, ...]]:
        """Return what crosses the cut of a detector for an image of this size: image sizes, and shapes of feature maps.

        The sizes are those of `DetectorHead.forward`.

        Raises:
            ValueError: if the cut is not exact for images of this size.
        """
        return cast("DetectorHead", self.head).expected(height, width)

    @cached_property
    def varying(self) -> list[tuple[bool, ...]]:
        """For each dimension of each crossing tensor: whether it depends on the image size; all False if fixed."""
        found = varying_sizes(self.head, self.input_shape, self.shapes)
        return found if self._takes_other_sizes() else [(False,) * len(shape) for shape in self.shapes]

    def _takes_other_sizes(self) -> bool:
        """Whether the halves are exact for smaller or larger images; True for inputs that are not images."""
        if len(self.input_shape) != 3:
            return True
        channels, height, width = self.input_shape
        dtype = like(self).dtype
        for size in ((-(-height // 2), -(-width // 2)), (height + 32, width + 64)):
            try:
                self.proof.check(torch.empty(1, channels, *size, dtype=dtype), training=False)
            except ValueError:
                continue
            return True
        return False


def split(model: nn.Module, at: str, example: Tensor | tuple[int, ...] | list[int]) -> Split:
    """Cut `model` after the module named `at` into a head and a tail.

    Works with any module, for instance of torchvision, timm or ultralytics. Every tensor of the head that the tail
    needs crosses the cut, the image itself included. The halves are compared with the model, bit for bit, on three
    batch sizes, and the image is erased before the tail runs. The model is put in eval mode and shares its parameters
    with the halves.

    Args:
        model: network from a batch of images to any structure of tensors.
        at: dotted name of a module, as in `model.named_modules()`.
        example: images `(B, C, H, W)`, or the shape `(C, H, W)` of one image for noise in [0, 1].

    Returns:
        The two halves. The head refuses image shapes that the model refuses, and all but the example's if the tail
        contains its size as a constant.

    Raises:
        CutError: if the module does not exist, or no method gives exact halves; the message names similar cuts.
    """
    check_name(model, at)
    if torch.get_default_device().type == "meta" or any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        raise CutError(
            "tensors on the device 'meta' hold no values, on which a cut is proven: build and split the network on the "
            "CPU, then move the halves, .to('meta')"
        )
    model.eval()
    with torch.no_grad():
        batches = make_batches(model, example)
        references = [run_reference(model, at, batch) for batch in [*batches, batches[0][:1]]]
        if not references[0].ran:
            near = alternatives(model, at, references[0].called)
            raise CutError(f"module {at!r} of {type(model).__name__} never runs: cut at one that does, such as {near}")
        failures = []
        methods = DETECTOR_METHODS if is_detector(model) else METHODS
        for name, method in methods.items():
            try:
                return _attempt(model, at, batches, references, name, method)
            except Exception as error:  # tracing of third-party code may raise anything
                failures.append(f"{name}: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
    near = alternatives(model, at, references[0].called)
    raise CutError(
        f"{type(model).__name__} cannot be cut exactly at {at!r} ({'; '.join(failures)}); near it: {near or 'nothing'}"
    )


METHODS: dict[str, Method] = {
    "torch.fx": cut_traced,
    "torch.fx, all modules open": partial(cut_traced, open_all=True),
    "torch.export": cut_exported,
}
DETECTOR_METHODS: dict[str, Method] = {
    "detector": cut_detector,
    "detector, all modules open": partial(cut_detector, open_all=True),
}


def make_batches(model: nn.Module, example: Tensor | tuple[int, ...] | list[int]) -> list[Tensor]:
    """Return a batch of two images and a batch of three others, on the model's device."""
    if not isinstance(example, Tensor):
        shape = (2, *example)
        noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        example = noise.to(like(model))
    if example.ndim < 2 or not example.numel():
        raise ValueError(
            f"example must be images (B, C, H, W) or the shape of one (C, H, W), not {tuple(example.shape)}"
        )
    mirrored = example.flip(-1)
    images = torch.cat([example, mirrored, mirrored])
    return [images[:2], torch.cat([mirrored, mirrored[:1].flip(1), example])[:3]]


def _attempt(
    model: nn.Module, at: str, batches: Sequence[Tensor], references: Sequence[Reference], kind: str, method: Method
) -> Split:
    """Cut by one method and prove the result exact."""
    halves = make_safe(method(model, at, batches), batches[0])
    for batch, reference in zip([*batches, batches[0][:1]], references, strict=True):
        tensors = verify(halves, batch, reference)
    shapes = tuple(tuple(tensor.shape[1:]) for tensor in tensors)
    dtypes = tuple(tensor.dtype for tensor in tensors)
    name = type(model).__name__
    sizes = tuple(batches[0].shape[1:])
    proof = Proof(model, at, halves.head, halves.tail, batches[0])
    return Split(name, at, halves.head, halves.tail, shapes, dtypes, sizes, kind, is_detector(model), proof)


def crossing_shapes(model: nn.Module, at: str, image: Tensor) -> list[tuple[int, ...]] | None:
    """Return the shapes of `crossing_tensors` for one image."""
    tensors = crossing_tensors(model, at, image)
    return None if tensors is None else [tuple(tensor.shape[1:]) for tensor in tensors]


def crossing_tensors(model: nn.Module, at: str, image: Tensor) -> tuple[Tensor, ...] | None:
    """Return the crossing tensors of a cut at `at`, for a batch of two images; None if tracing fails.

    Unlike in `split` nothing is proven, so the model may be on the meta device, without arithmetic.

    Args:
        model: the network, in eval mode.
        at: dotted module name.
        image: `(1, C, H, W)`, on the model's device.
    """
    batches = [image.expand(count, *image.shape[1:]).clone() for count in (2, 3)]
    methods = DETECTOR_METHODS if is_detector(model) else METHODS
    for method in list(methods.values())[:2]:  # torch.export takes seconds per cut
        try:
            with torch.no_grad():
                tensors: tuple[Tensor, ...] = method(model, at, batches).head(batches[0])
                return tensors
        except Exception:  # tracing of third-party code may raise anything
            continue
    return None
