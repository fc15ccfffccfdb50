"""The fuzzer of models finds no fault in the package, and finds each kind of fault where there is one."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scripts.benchmarks import fuzz_payloads
from scripts.benchmarks.payload_models import MODELS
from splitlearn.codecs import CodecError
from splitlearn.models import EarlyExitModel, SplitModel
from splitlearn.testing.forged_payloads import forged_shape

PLAIN, TENSORS, EXITS = "MinMax, Huffman", "two tensors, ContextRANS and Zstandard", "early exit, MinMax, RANS"


def fuzz(name: str, payloads: int) -> Any:
    return fuzz_payloads.fuzz(name, payloads, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [PLAIN, TENSORS, "integers cross, RunLength", "image as PNG", "image as JPEG 2000", "image as pixels"]
)
def test_finds_nothing(name: str) -> None:
    tally = fuzz(name, 150)
    assert tally.violation is None
    assert tally.count() == 150
    assert tally.count("refused") > 20
    assert tally.count("prediction") > 10


def test_equal_seeds_draw_equal_payloads() -> None:
    assert fuzz(PLAIN, 40).outcomes == fuzz(PLAIN, 40).outcomes


def after(change: Callable[[Any], Any]) -> Callable[[SplitModel, Sequence[bytes]], Any]:
    """Return a `decompress` that does something to each prediction."""
    honest = SplitModel.decompress
    return lambda self, payloads: change(honest(self, payloads))


def loads(found: Any) -> Any:
    sys.modules["stranger"] = ModuleType("stranger")
    return found


def holds(found: Any) -> Any:
    torch.ones(1 << 26)
    return found


def refuses(found: Any) -> Any:
    raise CodecError("none")


def fails(found: Any) -> Any:
    raise RuntimeError("some")


@pytest.mark.parametrize(
    ("change", "problem"), [(refuses, "an honest payload is refused"), (fails, r"raised RuntimeError\('some'\)")]
)
def test_finds_faults(change: Callable[[Any], Any], problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[PLAIN]()
    monkeypatch.setattr(SplitModel, "decompress", after(change))
    monkeypatch.setitem(MODELS, PLAIN, lambda: model)
    monkeypatch.setattr(fuzz_payloads, "allowance", lambda subject: 1 << 40)
    found = fuzz(PLAIN, 400).violation
    assert re.search(problem, found["problem"])
    assert found["payload"]


@pytest.mark.parametrize(("change", "problem"), [(loads, "it imports {'stranger'}"), (holds, "MiB, .* are allowed")])
def test_finds_what_a_payload_sets_off(
    change: Callable[[Any], Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change is holds and sys.platform != "linux":
        pytest.skip("memory is read from Linux")
    draw = fuzz_payloads.judge
    monkeypatch.delitem(sys.modules, "stranger", raising=False)

    def judge(*args: Any) -> Any:
        monkeypatch.setattr(SplitModel, "decompress", after(change))
        return draw(*args)

    monkeypatch.setattr(fuzz_payloads, "judge", judge)
    try:
        found = fuzz(PLAIN, 200).violation
    finally:
        sys.modules.pop("stranger", None)
    assert re.search(problem, found["problem"])


def test_finds_parts_that_are_not_tied_together(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("codecs.payload_coder", "testing.forged_payloads"):
        monkeypatch.setattr(f"splitlearn.{module}.next_context", lambda payload, context: context)
    assert fuzz(TENSORS, 400).violation["problem"] == "a part of another image's payload is taken"


def test_finds_what_looks_like_an_empty_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EarlyExitModel, "decompress", SplitModel.decompress)
    assert fuzz(EXITS, 1000).violation["problem"] == "the prediction is that of an empty payload"


def test_finds_shapes_that_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitlearn.codecs.payload_coder.check_shape", lambda *_: None)
    found = fuzz("bottleneck, Step, static Huffman", 1000).violation
    assert found is not None


@given(shape=st.lists(st.integers(0, 2**31 - 1), max_size=4).map(tuple), seed=st.integers(0, 10**6))
def test_other_shapes_fit_a_container(shape: tuple[int, ...], seed: int) -> None:
    """However large a shape is that is forged once more: two lies may fall on one container."""
    assert all(0 <= size < 2**31 for size in forged_shape(shape, random.Random(seed)))
