"""Fingerprint of a model, which must be equal on the device and the edge server."""

from __future__ import annotations

import hashlib
import json

from splitlearn.deploy.bottleneck_file import tensors_id
from splitlearn.deploy.identity import weights_id
from splitlearn.models import CutModel, FeatureCoder
from splitlearn.parts import part_settings


def fingerprint_of(model: CutModel) -> str:
    """Return a fingerprint, 64 hex digits, of network weights, cut, bottlenecks, quantizers, codecs and tables."""
    facts = [weights_id(model.net), model.net.at, [_coder(coder) for coder in model.rates]]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()


def _coder(coder: FeatureCoder) -> list[object]:
    parts = [*coder.bottlenecks, *coder.quantizers, *coder.codecs]
    tables = [[(name, table.tobytes().hex()) for name, table in codec.tables().items()] for codec in coder.codecs]
    state = {name: t for name, t in coder.state_dict().items() if hasattr(t, "dtype")}
    return [[part_settings(part) for part in parts], tensors_id(state), tables, coder.context]
