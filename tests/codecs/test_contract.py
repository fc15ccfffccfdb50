"""Every codec of the package keeps the contract; a new file is found by itself."""

import subprocess
import sys

import pytest

from splitlearn import codecs
from splitlearn.codecs import RANS, Codec, CodecError, pack, unpack
from splitlearn.discovery import concrete_classes
from splitlearn.testing import CodecContract, random_symbols

CODECS = concrete_classes(codecs, Codec)

for _cls in CODECS:
    globals()[f"Test{_cls.__name__}"] = type(
        f"Test{_cls.__name__}", (CodecContract,), {"make": lambda self, cls=_cls: cls()}
    )


class TestRANSPerChannel(CodecContract):
    def make(self) -> Codec:
        return RANS(per_channel=True)

    def both(self, levels: int) -> list[Codec]:
        return [self.make()]  # static tables are for one number of channels: tests/codecs/test_rans.py


def test_finds_the_codecs() -> None:
    assert {"Huffman", "RunLength"} <= {cls.__name__ for cls in CODECS}


@pytest.mark.parametrize("writer", CODECS)
@pytest.mark.parametrize("reader", CODECS)
def test_foreign_payloads(writer: type[Codec], reader: type[Codec]) -> None:
    symbols = random_symbols((3, 9, 10), 8, 0.4, 5)
    fitted = reader.fit([symbols], 8)
    readers = [reader(), fitted] if fitted.tables() else [reader()]
    for codec in readers:
        if writer is reader and not codec.tables():
            continue
        with pytest.raises(CodecError, match="foreign codec"):
            unpack(pack(symbols, 8, writer()), codec)
        CodecContract().check_decodes_safely(codec, writer().encode(symbols, 8), symbols.shape, 8)


def test_other_static_tables_are_foreign() -> None:
    symbols = random_symbols((3, 9, 10), 8, 0.4, 5)
    for cls in CODECS:
        one, other = cls.fit([symbols], 8), cls.fit([7 - symbols], 8)
        if one.tables():
            with pytest.raises(CodecError, match="foreign codec"):
                unpack(pack(symbols, 8, one), other)


def test_does_not_load_torch() -> None:
    code = "import sys, splitlearn.codecs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
