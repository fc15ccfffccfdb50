"""Errors between a device and its edge server: codes of the protocol, and exceptions of the client."""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class Code(IntEnum):
    """Error codes of an ERROR frame; their numbers never change."""

    BAD_FRAME = 1
    OTHER_VERSION = 2
    FOREIGN_FINGERPRINT = 3
    WRONG_TOKEN = 4
    TOO_LARGE = 5
    TOO_MANY_IN_FLIGHT = 6
    BUSY = 7
    DEADLINE_PASSED = 8
    DAMAGED_PAYLOAD = 9
    DUPLICATE_ID = 10
    SHUTTING_DOWN = 11
    INTERNAL = 12
    KIND_NOT_SERVED = 13
    TOO_SLOW = 14
    MISSING_REFERENCE = 15
    LATE_FRAME = 16


class BuildError(RuntimeError):
    """The edge of a server could not be built, so that it serves nothing; the message is one sentence."""


class NotServedError(RuntimeError):
    """An edge does not answer requests of this kind; the message is one sentence for the client."""


class FrameError(ValueError):
    """A frame that breaks the protocol.

    Attributes:
        code: error code that is sent to the peer.
    """

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class LinkError(Exception):
    """A request or a connection failed; the message is one sentence.

    Attributes:
        code: error code of the protocol; 0 if no server has sent one.
        is_final: whether the client stops too, because another attempt would fail as well.
    """

    is_final = False

    def __init__(self, sentence: str, code: int = 0) -> None:
        super().__init__(sentence)
        self.code = code

    def again(self) -> Self:
        """Return a copy of the error, to be raised elsewhere."""
        return type(self)(str(self), self.code)


class RefusedError(LinkError):
    """The server refuses the client: protocol version, package, token or certificate differ. Never retried."""

    is_final = True


class ProtocolError(LinkError):
    """The peer breaks the protocol, or is no edge server. Never retried."""

    is_final = True


class UnreachableError(LinkError):
    """No connection was made within the client's time limit, or the client was closed."""


class DeadlineError(LinkError):
    """The deadline of a request has passed before its answer came."""


class BusyError(LinkError):
    """The server's queue is full."""


class DamagedPayloadError(LinkError):
    """The server could not decode the payload."""


class LostReferenceError(LinkError):
    """The server has not the frame that a frame of a stream refers to, and key frames did not help."""


class EdgeError(LinkError):
    """The server failed to answer, or does not support requests of this kind."""


_CLASSES: dict[int, type[LinkError]] = {
    Code.OTHER_VERSION: RefusedError,
    Code.FOREIGN_FINGERPRINT: RefusedError,
    Code.WRONG_TOKEN: RefusedError,
    Code.BAD_FRAME: ProtocolError,
    Code.TOO_LARGE: ProtocolError,
    Code.DUPLICATE_ID: ProtocolError,
    Code.TOO_MANY_IN_FLIGHT: BusyError,
    Code.BUSY: BusyError,
    Code.DEADLINE_PASSED: DeadlineError,
    Code.DAMAGED_PAYLOAD: DamagedPayloadError,
    Code.MISSING_REFERENCE: LostReferenceError,
    Code.SHUTTING_DOWN: UnreachableError,
    Code.TOO_SLOW: UnreachableError,
}


def error_of(code: int, sentence: str) -> LinkError:
    """Return the exception for an ERROR frame; unknown codes, of later versions, give `EdgeError`."""
    return _CLASSES.get(code, EdgeError)(sentence, code)
