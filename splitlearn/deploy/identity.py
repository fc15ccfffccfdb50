"""Identity of network and bottleneck in an export: checksums of weights, and sample outputs for one image."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from splitlearn.models import CoderModel, Split
from splitlearn.models.images import like
from splitlearn.models.modes import evaluating
from splitlearn.models.tensor_file import bytes_of

SAMPLES = 64  # values of each tensor: enough to distinguish layers, strides and activations
GOLDEN = (math.sqrt(5) - 1) / 2


def weights_id(net: Split) -> str:
    """Return a fingerprint of a network's weights: SHA-256 over its tensors in order, independent of names."""
    found = hashlib.sha256()
    for tensor in _tensors(net.network()):
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(bytes_of(tensor))
    return found.hexdigest()


def unordered_weights_id(net: Split) -> str:
    """Return a network's fingerprint as in export format 2, which does not depend on the order of its tensors."""
    hashes = {hashlib.sha256(bytes_of(tensor)).digest() for tensor in _tensors(net)}
    return hashlib.sha256(b"".join(sorted(hashes))).hexdigest()


@torch.no_grad()
def sample_outputs(model: CoderModel) -> dict[str, Tensor]:
    """Return sample outputs of a network and its bottlenecks for one fixed image.

    They distinguish networks of equal weights with different strides, dilations, activations, constants of norms or
    input processing. For detectors only crossing tensors are used, because boxes depend on adjustable thresholds.
    Quantizers are left out, because rounding errors may change symbols.

    Returns:
        Up to 64 evenly spaced values of each float tensor: `network.N` of crossing tensors and output, `bottlenecks.N`
        of latents and reconstructions.
    """
    net, coder = model.net, model.coder
    weight = like(net)
    values = torch.arange(math.prod(net.input_shape), dtype=torch.float64) * GOLDEN % 1
    image = values.reshape(1, *net.input_shape).to(weight.device, weight.dtype)
    full_precision = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with evaluating(model), torch.autocast(weight.device.type, enabled=False), full_precision:
        crossing = net.head(image)
        output = () if net.by_image else net.tail(*net.wanted(crossing))
        units = [_cast(unit, weight.dtype) for unit in coder.bottlenecks]
        latents = [unit.encoder(tensor) for unit, tensor in zip(units, crossing, strict=True)]
        restored = [unit.decoder(latent) for unit, latent in zip(units, latents, strict=True)]
        found = {"network": [crossing, output], "bottlenecks": [latents, restored]}
    return {f"{part}.{n}": _sampled(t) for part, tree in found.items() for n, t in enumerate(_floats(tree))}


def _cast(unit: nn.Module, dtype: torch.dtype) -> Any:
    """Return a bottleneck in the type of the network, in which it is loaded; training may have cast it."""
    return unit if like(unit).dtype == dtype else copy.deepcopy(unit).to(dtype)


def agree(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], dtype: torch.dtype) -> bool:
    """Return whether sample outputs agree, up to rounding differences between machines."""
    if found.keys() != expected.keys():
        return False
    tolerance = math.sqrt(torch.finfo(dtype).eps)
    return all(_close(tensor, expected[name], tolerance) for name, tensor in found.items())


def _close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    scale = float(found.nan_to_num(0.0, 0.0, 0.0).abs().max()) if found.numel() else 0.0
    return torch.allclose(expected, found, rtol=0.0, atol=tolerance * scale, equal_nan=True)


def _sampled(tensor: Tensor) -> Tensor:
    values = tensor.flatten()
    return values[:: -(-len(values) // SAMPLES) or 1].float().cpu().contiguous()


def _floats(tree: Any) -> list[Tensor]:
    return [t for t in pytree.tree_leaves(tree) if isinstance(t, Tensor) and t.is_floating_point()]


def _tensors(network: nn.Module) -> list[Tensor]:
    return list(network.state_dict().values())
