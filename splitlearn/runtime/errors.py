"""What can go wrong between a device and its edge server: error codes of the protocol, and exceptions of the client."""

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


class FrameError(ValueError):
    """A frame that breaks the protocol.

    Attributes:
        code: what the peer is told.
    """

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class LinkError(Exception):
    """A request, or a whole connection, that failed; the message is one sentence.

    Attributes:
        code: error code of the protocol; 0 if no server has sent one.
        is_final: whether it ends the client too: trying again would change nothing.
    """

    is_final = False

    def __init__(self, sentence: str, code: int = 0) -> None:
        super().__init__(sentence)
        self.code = code

    def again(self) -> Self:
        """Return the same error, to be raised elsewhere."""
        return type(self)(str(self), self.code)


class RefusedError(LinkError):
    """The two sides will never agree: other version, foreign fingerprint, wrong token, certificate. Never retried."""

    is_final = True


class ProtocolError(LinkError):
    """The peer breaks the protocol, or is no edge server. Never retried."""

    is_final = True


class UnreachableError(LinkError):
    """No connection within the client's patience, or the client was closed."""


class DeadlineError(LinkError):
    """The deadline of a request has passed before its answer came."""


class BusyError(LinkError):
    """The server has more to do than it can hold."""


class DamagedPayloadError(LinkError):
    """The server could not decode the payload."""


class EdgeError(LinkError):
    """The server failed to answer, or does not serve requests of this kind."""


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
    Code.SHUTTING_DOWN: UnreachableError,
    Code.TOO_SLOW: UnreachableError,
}


def error_of(code: int, sentence: str) -> LinkError:
    """Return the exception for an ERROR frame; unknown codes, of later versions, give `EdgeError`."""
    return _CLASSES.get(code, EdgeError)(sentence, code)
