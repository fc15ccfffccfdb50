"""What stands behind an edge server: an `Edge` turns payloads into answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from splitlearn.codecs import CodecError
from splitlearn.runtime.protocol import Answer

__all__ = ["Answer", "Edge"]


class Edge(ABC):
    """Answers payloads on the edge server: decoder, tail, and whatever makes predictions of their output.

    Attributes:
        fingerprint: identity of the package, 64 hex digits; device and edge must have the same.
        is_instant: whether a batch takes less than about 0.1 ms. It is then answered where frames are read: the way to
            another thread and back would take longer. All else would hold up every connection there.
    """

    fingerprint: str
    is_instant: bool = False

    @abstractmethod
    def answer(self, payloads: Sequence[bytes]) -> list[Answer | CodecError]:
        """Return the answers to a batch of payloads, in their order.

        It may block; a server never calls it twice at once. Rates and sizes may differ within a batch.

        Args:
            payloads: one for each image, from peers that may have made them up.

        Returns:
            for each payload its answer, or a `CodecError` if that one is damaged.
        """
