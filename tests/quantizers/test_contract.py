"""Every quantizer of the package keeps the contract; a new file is found by itself."""

import importlib
import inspect
import pkgutil

from splitlearn import quantizers
from splitlearn.quantizers import MinMax, Quantizer, Step
from splitlearn.testing import QuantizerContract


def discover() -> list[type[Quantizer]]:
    for module in pkgutil.walk_packages(quantizers.__path__, "splitlearn.quantizers."):
        importlib.import_module(module.name)
    found: list[type[Quantizer]] = Quantizer.__subclasses__()
    return [cls for cls in found if not inspect.isabstract(cls) and cls.__module__.startswith("splitlearn.")]


for _cls in discover():
    globals()[f"Test{_cls.__name__}"] = type(
        f"Test{_cls.__name__}", (QuantizerContract,), {"make": lambda self, cls=_cls: cls()}
    )


class TestCoarseStep(QuantizerContract):
    def make(self) -> Quantizer:
        return Step(step=0.3, levels=5)


class TestTwoBits(QuantizerContract):
    def make(self) -> Quantizer:
        return MinMax(bits=2)


def test_finds_the_quantizers() -> None:
    assert {MinMax, Step} <= set(discover())
