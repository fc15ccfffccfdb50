"""Post-training quantization of a trained model to INT8; the symbols are the network's own integers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_leaves

from splitlearn.models.bottlenecks.bottleneck import Bottleneck
from splitlearn.models.bottlenecks.transposed import DepthwiseTransposed
from splitlearn.models.pipelines.split_model import SplitModel
from splitlearn.quantizers import Affine, Quantizer
from splitlearn.resource_errors import brief, of_machine

BACKENDS = ("x86", "fbgemm")  # best first; qnnpack (ARM) is left out because it costs accuracy
Model = TypeVar("Model", bound=SplitModel)


class Int8Error(RuntimeError):
    """The model cannot be quantized to INT8, or this machine has no INT8 backend."""


@dataclass(frozen=True)
class Int8(Generic[Model]):
    """A model in INT8.

    Attributes:
        model: quantized copy of the model. Its quantizers are `Affine` with the scales of its activations, so that
            symbols are the integers that its head computes and its tail reads.
        layers: number of convolutions and linear layers in INT8, device and edge server together.
        float_layers: number of convolutions and linear layers left in floating point.
    """

    model: Model
    layers: int
    float_layers: int


def to_int8(model: Model, batches: Iterable[Tensor]) -> Int8[Model]:
    """Quantize weights and activations of a trained model to INT8, on the CPU.

    Weights are quantized per channel and activations per tensor, by PyTorch's defaults for x86 (fbgemm). These limit
    activations to 7 bits, 0…127, to avoid overflow of sums. Batch norm is folded into convolutions. Static tables of
    codecs must be fitted again, because the symbols change.

    Args:
        model: the trained model; unchanged.
        batches: images in [0, 1] for calibration, each `(B, C, H, W)`; the paper takes a quarter of the validation set.

    Raises:
        Int8Error: if this machine has no INT8 backend, there are no images, the network computes NaN or infinity,
            or the device or the edge server has no layer that could be quantized.

    Reference:
        Beysens et al. 2023, Secs. III-C and V-D.
    """
    _check_can_be_quantized(model)
    twin = copy.deepcopy(model).cpu().float().eval()
    twin.take_images_of(model)
    for module in twin.modules():
        if isinstance(module, DepthwiseTransposed):
            module.__class__ = nn.ConvTranspose2d  # type: ignore[assignment]  # in eval mode it is; FX looks at the class
    with _engine() as backend, torch.no_grad():
        watching = [_Watching(backend) for _ in twin.coder.quantizers]
        prepared = False
        for images in batches:
            if not isinstance(images, Tensor):
                raise Int8Error(
                    f"a batch is images (B, C, H, W), and this is a {type(images).__name__}: leave labels out"
                )
            if not prepared:
                _prepare(twin, images.cpu(), backend)
                twin.coder.quantizers, prepared = tuple(watching), True
            twin.run(images.cpu())
        if not prepared:
            raise Int8Error("there are no images to calibrate INT8 with: give some of the validation set")
        _convert(twin)
    twin.take_images_of(model)
    twin.coder.quantizers = tuple(each.affine() for each in watching)
    from torch.ao.nn.quantized.modules.utils import WeightedQuantizedModule

    halves = _halves(twin)
    layers = [_count(half, WeightedQuantizedModule) for half in halves]
    for name, found in zip(("head", "tail"), layers, strict=True):
        if not found:
            raise Int8Error(f"nothing in the {name} of {model.net.name} could be quantized: cut it at another module")
    return Int8(twin, sum(layers), sum(_count(half, _ConvNd, nn.Linear) for half in halves))


class _Watching(Quantizer):
    """Observer of latents: passes them unchanged and finds their INT8 scale."""

    levels, floats_per_image = 256, 0

    def __init__(self, backend: str) -> None:
        super().__init__()
        from torch.ao.quantization import get_default_qconfig

        self.observer = cast("Any", get_default_qconfig)(backend).activation()

    def quantize(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("it only watches")

    def dequantize(self, symbols: Tensor, floats: Tensor) -> Tensor:
        raise NotImplementedError("it only watches")

    def forward(self, latent: Tensor) -> Tensor:
        watched: Tensor = self.observer(latent)
        return watched

    def affine(self) -> Affine:
        """Return the quantizer for the observed latents."""
        scale, zero_point = self.observer.calculate_qparams()
        return Affine(float(scale), int(zero_point))


@contextmanager
def _engine() -> Iterator[str]:
    """Select the INT8 backend, without torch's warnings; raise Int8Error if there is none."""
    known, before = torch.backends.quantized.supported_engines, torch.backends.quantized.engine
    backend = next((name for name in BACKENDS if name in known), None)
    if backend is None:
        others = ", ".join(name for name in known if name != "none") or "none at all"
        raise Int8Error(
            f"PyTorch on this machine has no INT8 backend {' or '.join(BACKENDS)} (but {others}): "
            "quantize on an x86 machine"
        )
    torch.backends.quantized.engine = backend
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the torch.ao functions announce that they will move
            yield backend
    finally:
        torch.backends.quantized.engine = before


def _prepare(model: SplitModel, images: Tensor, backend: str) -> None:
    """Insert observers into all layers, in place."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_fx

    inputs: dict[int, tuple[Tensor, ...]] = {}
    modules = [getattr(owner, name) for owner, name in model.layers()]
    handles = [m.register_forward_pre_hook(lambda m, given: inputs.update({id(m): given})) for m in modules]
    output = model.run(images)
    for handle in handles:
        handle.remove()
    made = [t for t in tree_leaves((output.prediction, output.latents)) if isinstance(t, Tensor)]
    if not all(bool(t.isfinite().all()) for t in made):
        raise Int8Error(f"{model.net.name} computes NaN or infinity: its training diverged, or its weights are damaged")
    mapping = get_default_qconfig_mapping(backend)
    for (owner, name), module in zip(model.layers(), modules, strict=True):
        try:
            setattr(owner, name, prepare_fx(module, mapping, inputs[id(module)]))
        except Exception as error:  # tracing of third-party code may raise anything
            if of_machine(error):
                raise
            raise Int8Error(
                f"the {name} of {model.net.name} cannot be quantized, FX cannot trace it ({brief(error)}): cut it "
                "behind what cannot be traced, or leave the model in floating point"
            ) from error


def _check_can_be_quantized(model: Any) -> None:
    if not getattr(model, "layers", None):
        raise Int8Error(
            f"INT8 is for a SplitModel or an EarlyExitModel, and this is a {type(model).__name__}: cut it first"
        )
    if model.net.by_image:
        raise Int8Error(
            f"{model.net.name} takes images of any size, and INT8 is for networks that take batches: cut another"
        )
    if not next((True for _ in model.net.parameters()), False):
        raise Int8Error(
            f"{model.net.name} has no weights in floating point, it is in INT8 already: give the original model"
        )


def _convert(model: SplitModel) -> None:
    """Convert all layers to INT8, in place."""
    from torch.ao.quantization.quantize_fx import convert_fx

    for owner, name in model.layers():
        setattr(owner, name, convert_fx(getattr(owner, name)))


def _halves(model: SplitModel) -> tuple[nn.Module, nn.Module]:
    """Return the modules of the device and those of the edge server."""
    units = cast("list[Bottleneck]", list(model.coder.bottlenecks))
    device = [model.net.head, *(unit.encoder for unit in units), *getattr(model, "exits", ())]
    server = [model.net.tail, *(unit.decoder for unit in units)]
    return nn.ModuleList(device), nn.ModuleList(server)


def _count(half: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(module, kinds) for module in half.modules())
