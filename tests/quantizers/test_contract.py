"""Every quantizer of the package keeps the contract; a new file is found by itself."""

from splitlearn import quantizers
from splitlearn.discovery import concrete_classes
from splitlearn.quantizers import MinMax, Quantizer, Step
from splitlearn.testing import QuantizerContract

for _cls in concrete_classes(quantizers, Quantizer):
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
    assert {MinMax, Step} <= set(concrete_classes(quantizers, Quantizer))
