"""Fingerprint of a model, which must be equal on the device and the edge server."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType

import numpy as np
import torch
from torch import Tensor, nn

from splitlearn.codecs import Codec
from splitlearn.deploy.bottleneck_file import tensors_id
from splitlearn.deploy.identity import weights_id
from splitlearn.models import CutModel, FeatureCoder
from splitlearn.models.tensor_file import bytes_of
from splitlearn.parts import part_settings


def fingerprint_of(model: CutModel) -> str:
    """Return a fingerprint, 64 hex digits, of network weights, cut, bottlenecks, quantizers, codecs and tables.

    Raises:
        ValueError: if an argument of a bottleneck, quantizer or codec has no lasting description.
    """
    facts = [weights_id(model.net), model.net.at, [_coder(coder) for coder in model.rates]]
    return hashlib.sha256(json.dumps(facts, default=_described).encode()).hexdigest()


def _coder(coder: FeatureCoder) -> list[object]:
    parts = [*coder.bottlenecks, *coder.quantizers, *coder.codecs]
    tables = [[(name, table.tobytes().hex()) for name, table in codec.tables().items()] for codec in coder.codecs]
    state = {name: t for name, t in coder.state_dict().items() if hasattr(t, "dtype")}
    return [[part_settings(part) for part in parts], tensors_id(state), tables, coder.context]


def _described(value: object) -> object:
    """Return a description of an argument that json cannot write, equal in all processes that have the same value."""
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, Tensor):
        return [str(value.dtype), tuple(value.shape), hashlib.sha256(bytes_of(value)).hexdigest()]
    if isinstance(value, (np.ndarray, np.generic)):
        return [str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, (torch.dtype, PurePath)):
        return str(value)
    if isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, (nn.Module, Codec)):
        return part_settings(value)
    raise ValueError(
        f"an argument of class {type(value).__name__} has no lasting description, which the fingerprint of a package "
        "needs: give numbers, texts, arrays, classes or functions"
    )
