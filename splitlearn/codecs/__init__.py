"""Codecs: symbols to bytes and back, losslessly. Nothing in this room imports torch."""

from splitlearn.codecs.base import Codec, CodecError
from splitlearn.codecs.container import pack, unpack
from splitlearn.codecs.huffman import Huffman
from splitlearn.codecs.raw import Raw
from splitlearn.codecs.run_length import RunLength

__all__ = ["Codec", "CodecError", "Huffman", "Raw", "RunLength", "pack", "unpack"]
