"""Contract tests for new codecs and quantizers: subclass one, say how to make the object, and pytest runs them all.

    class TestMine(CodecContract):
        def make(self) -> Codec:
            return Mine()

Needs the `dev` extra (pytest and hypothesis).
"""

from splitlearn.testing.codec import PROPERTY, CodecContract, edge_cases, mutations, random_symbols, symbol_arrays
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
