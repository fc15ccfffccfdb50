"""Base class of the part of an edge server that computes the answers to payloads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from splitlearn.codecs import CodecError, StreamCoder
from splitlearn.runtime.errors import NotServedError
from splitlearn.runtime.protocol import Answer
from splitlearn.runtime.streams import FrameTensors
from splitlearn.runtime.workers import InThread, Worker

__all__ = ["Answer", "Edge"]


class Edge(ABC):
    """Base class: answers payloads on the edge server with decoder, tail, and a form of answers.

    Attributes:
        fingerprint: identity of the package, 64 hex digits; device and edge must have the same.
    """

    fingerprint: str

    @abstractmethod
    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return the answers to a batch of payloads, in their order.

        It may block; a server never calls it twice at the same time. Rates and sizes may differ within a batch.

        Args:
            payloads: one for each image, from peers that are not trusted.

        Returns:
            For each payload its answer, or a `CodecError` if the payload is damaged.
        """

    def answer_pictures(self, files: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return the whole network's answers to a batch of image files, in their order; like `answer` otherwise.

        Raises:
            NotServedError: if this edge takes no image files, as by default.
        """
        raise NotServedError("this server takes no image files: serve a --package written with --picture.format")

    def stream_coder(self, rate: int) -> StreamCoder:
        """Return how frames of streams are read at a rate of the package; its number is from a peer.

        Raises:
            CodecError: if there is no such rate.
            NotServedError: if this edge takes no frames of streams, as by default.
        """
        raise NotServedError("this server takes no frames of streams: send each image by itself")

    def answer_frames(self, frames: Sequence[FrameTensors]) -> list[Answer | CodecError]:
        """Return the answers to frames that are read already, in their order; like `answer` otherwise.

        Raises:
            NotServedError: as `stream_coder`.
        """
        raise NotServedError("this server takes no frames of streams: send each image by itself")

    def warm_up(self) -> None:
        """Prepare for the first payload, so that it is as fast as others; by default there is nothing to do."""
        return

    def worker(self) -> Worker:
        """Return a worker that calls `answer` for a server, by default in a thread so as not to block the server."""
        return InThread(self)
