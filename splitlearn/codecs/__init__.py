"""Lossless codecs between symbols and bytes, and codecs of images, without torch."""

from splitlearn.codecs.base import Codec, CodecError
from splitlearn.codecs.budget import BudgetError
from splitlearn.codecs.compressed_sparse_row import CompressedSparseRow
from splitlearn.codecs.container import pack, tagged, unpack, untagged
from splitlearn.codecs.context_rans import ContextRANS
from splitlearn.codecs.deflate import Deflate
from splitlearn.codecs.density_rans import DensityRANS
from splitlearn.codecs.huffman import Huffman
from splitlearn.codecs.image_codec import ImageCodec, ImageFile, Pixels
from splitlearn.codecs.latents import decode_latent, encode_latent, pack_latents, unpack_latents
from splitlearn.codecs.payload_coder import Carrier, PayloadCoder
from splitlearn.codecs.rans import RANS
from splitlearn.codecs.raw import Raw
from splitlearn.codecs.run_length import RunLength
from splitlearn.codecs.stream import (
    LateFrameError,
    MissingReferenceError,
    StreamCoder,
    StreamReceiver,
    StreamSender,
    StreamState,
    frame_kind,
)
from splitlearn.codecs.truncated_unary import TruncatedUnary
from splitlearn.codecs.video_codec import VideoCodec, VideoReceiver, VideoSender
from splitlearn.codecs.zstandard import Zstandard

__all__ = [
    "RANS",
    "BudgetError",
    "Carrier",
    "Codec",
    "CodecError",
    "CompressedSparseRow",
    "ContextRANS",
    "Deflate",
    "DensityRANS",
    "Huffman",
    "ImageCodec",
    "ImageFile",
    "LateFrameError",
    "MissingReferenceError",
    "PayloadCoder",
    "Pixels",
    "Raw",
    "RunLength",
    "StreamCoder",
    "StreamReceiver",
    "StreamSender",
    "StreamState",
    "TruncatedUnary",
    "VideoCodec",
    "VideoReceiver",
    "VideoSender",
    "Zstandard",
    "decode_latent",
    "encode_latent",
    "frame_kind",
    "pack",
    "pack_latents",
    "tagged",
    "unpack",
    "unpack_latents",
    "untagged",
]
