"""What stands behind an edge server: an `Edge` turns payloads into answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from splitlearn.codecs import CodecError
from splitlearn.runtime.protocol import Answer
from splitlearn.runtime.workers import InThread, Worker

__all__ = ["Answer", "Edge"]


class Edge(ABC):
    """Answers payloads on the edge server: decoder, tail, and whatever makes predictions of their output.

    Attributes:
        fingerprint: identity of the package, 64 hex digits; device and edge must have the same.
    """

    fingerprint: str

    @abstractmethod
    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return the answers to a batch of payloads, in their order.

        It may block; a server never calls it twice at once. Rates and sizes may differ within a batch.

        Args:
            payloads: one for each image, from peers that may have made them up.

        Returns:
            for each payload its answer, or a `CodecError` if that one is damaged.
        """

    def worker(self) -> Worker:
        """Return what calls `answer` for a server: a thread, so that the server reads and writes meanwhile."""
        return InThread(self)
