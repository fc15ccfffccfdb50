"""`split`: the network as a head and a tail, proven on an example before it is handed out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from splitlearn.models.cutting.check import Reference, make_safe, run_reference, verify
from splitlearn.models.cutting.detector import DetectorHead, cut_detector, is_detector
from splitlearn.models.cutting.exported import cut_exported
from splitlearn.models.cutting.graph import Halves
from splitlearn.models.cutting.names import CutError, alternatives, check_name
from splitlearn.models.cutting.proof import Proof
from splitlearn.models.cutting.sizes import MAX_GROWTH, MAX_PIXELS, FeatureShape, varying_sizes
from splitlearn.models.cutting.traced import cut_traced
from splitlearn.models.images import like

Method = Callable[[nn.Module, str, Sequence[Tensor]], Halves]


class _Guard:
    """Asks a proof about what a head is about to take.

    An object that knows no `Split`: a head may then be copied or pickled by itself, and its guard with it.
    """

    def __init__(self, proof: Proof, by_image: bool) -> None:
        self.proof, self.by_image = proof, by_image

    def __call__(self, head: nn.Module, given: tuple[Any, ...]) -> None:
        self.proof.check(None if self.by_image or not given else given[0], head.training)


class Split(nn.Module):
    """A network in two halves that share its parameters.

    ```
    images → head → crossing tensors → tail → the model's output
    ```
    Both halves are differentiable. Get one from `split`, which has proven that the halves agree with the model. The
    head refuses what the model refuses, shapes of images for which the halves are not the model, and training mode if
    they would not train as the model does.

    Args:
        name: class of the network.
        at: name of the module that the cut lies behind.
        head: images `(B, C, H, W)` → tuple of crossing tensors; the first is the output of the module `at`.
        tail: crossing tensors → the model's output.
        shapes: shape of each crossing tensor for one image of the example, without the batch.
        dtypes: type of each crossing tensor, in the same order.
        input_shape: `(C, H, W)` of the example.
        method: how the cut was made.
        by_image: whether each image keeps a size of its own, so that images cross one by one: torchvision's detectors.
        proof: that the halves are the model, for images of other shapes and in training.

    Attributes:
        max_growth: how many times as many elements as the example's a tensor that crosses may have, where the network
            takes images of several sizes; may be set. More are neither sent nor decoded.
        max_pixels: of an image that a detector is to look at, likewise.
    """

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
        """Return the model's output for `images`, computed by the tail from the head's tensors alone."""
        return self.tail(*self.head(images))

    def guard(self, proof: Proof) -> None:
        """Let the head ask `proof` about what it is given; it must be told again of another head."""
        self.proof = proof
        self.head.register_forward_pre_hook(_Guard(proof, self.by_image))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.head._forward_pre_hooks.clear()  # a graph's copies have none, other modules' copies have this one
        self.guard(self.proof)

    def network(self) -> nn.Module:
        """Return the uncut network, which shares its tensors with the halves."""
        return self.proof.network()

    def expected(self, height: int, width: int) -> tuple[tuple[int, ...], tuple[FeatureShape, ...]]:
        """Return what crosses of a detector's image of this size: its row of sizes, and the shapes of feature maps.

        Raises:
            ValueError: if the cut does not hold for images of this size.
        """
        return cast("DetectorHead", self.head).expected(height, width)

    @cached_property
    def varying(self) -> list[tuple[bool, ...]]:
        """Whether each dimension of each crossing tensor follows the image's size; all are False if that is fixed."""
        found = varying_sizes(self.head, self.input_shape, self.shapes)
        return found if self._takes_other_sizes() else [(False,) * len(shape) for shape in self.shapes]

    def _takes_other_sizes(self) -> bool:
        """Whether the halves are the model for smaller or larger images too; where there are none, any shape may do."""
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
    """Cut `model` behind the module named `at`.

    Any torchvision, timm, ultralytics or own module will do. All that the tail needs and the head has made, the image
    itself included, crosses the cut. The halves are compared with the model, bit for bit, on three batch sizes, the
    tail running after the image is gone. The model is put in eval mode and shares its parameters with the halves.

    Args:
        model: maps a batch of images to anything made of tensors.
        at: dotted name of a module, as in `model.named_modules()`.
        example: images `(B, C, H, W)`, or the shape `(C, H, W)` of one, from which noise in [0, 1] is made.

    Returns:
        The two halves. The head refuses images of a shape that the model refuses; and others than the example's, if the
        tail needs their sizes.

    Raises:
        CutError: if there is no such module, or no method gives exact halves; the message names cuts that are near.
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
            except Exception as error:  # tracing other people's code may fail in any way
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
    """Return one batch of two images and one of three others, on the model's device."""
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
    """Cut by one method and prove the result, or raise."""
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
    """Return the shapes, for one image, of what `crossing_tensors` returns."""
    tensors = crossing_tensors(model, at, image)
    return None if tensors is None else [tuple(tensor.shape[1:]) for tensor in tensors]


def crossing_tensors(model: nn.Module, at: str, image: Tensor) -> tuple[Tensor, ...] | None:
    """Return the tensors, of two images, that a cut at `at` would carry; None if tracing cannot tell.

    Nothing is proven, unlike in `split`, so the model may lie on the meta device, where it costs no arithmetic.

    Args:
        model: the network, in eval mode.
        at: dotted module name.
        image: `(1, C, H, W)`, on the model's device.
    """
    batches = [image.expand(count, *image.shape[1:]).clone() for count in (2, 3)]
    methods = DETECTOR_METHODS if is_detector(model) else METHODS
    for method in list(methods.values())[:2]:  # torch.export takes seconds a cut
        try:
            with torch.no_grad():
                tensors: tuple[Tensor, ...] = method(model, at, batches).head(batches[0])
                return tensors
        except Exception:  # tracing other people's code may fail in any way
            continue
    return None
