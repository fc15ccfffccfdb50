"""Contract tests for new codecs and quantizers: define `make` in a subclass, and pytest runs all tests.

    class TestMine(CodecContract):
        def make(self) -> Codec:
            return Mine()

Needs the extra `testing` (pytest and hypothesis).
"""

from typing import TYPE_CHECKING, Any

from splitlearn.testing.codec import PROPERTY, CodecContract, edge_cases, mutations, random_symbols, symbol_arrays

if TYPE_CHECKING:
    from splitlearn.testing.quantizer import QuantizerContract

__all__ = [
    "PROPERTY",
    "CodecContract",
    "QuantizerContract",
    "edge_cases",
    "mutations",
    "random_symbols",
    "symbol_arrays",
]


def __getattr__(name: str) -> Any:
    """Import the contract of quantizers on demand, because it needs torch, unlike that of codecs."""
    if name != "QuantizerContract":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from splitlearn.testing.quantizer import QuantizerContract

    return QuantizerContract
