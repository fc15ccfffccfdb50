"""Limits of a server for its clients."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """Limits of a server, which together bound its memory for any behaviour of its clients.

    Attributes:
        frame_bytes: largest frame of a client, in bytes.
        in_flight: largest number of unanswered requests of one connection.
        connections: largest number of connections, including those in the TLS handshake.
        queue: largest number of waiting requests of all connections.
        held_bytes: largest number of bytes of waiting payloads and unfinished frames of all connections.
        idle_s: seconds without a complete frame after which a connection ends. It is also the time limit for one frame,
            and for a client to read its answers.
        handshake_s: largest number of seconds from the connection to a valid HELLO.
        streams: largest number of connections that send frames of streams; the server keeps the symbols of one frame
            and its answer for each.
        write_bytes: bytes of unread answers of one client above which its further requests wait; answers to requests
            that are already being processed may exceed it.

    Raises:
        ValueError: if a limit is not positive or 2³² or more, `idle_s` is not in 0.001…4,000,000, or `frame_bytes`
            is more than `held_bytes`.
    """

    frame_bytes: int = 8 << 20
    in_flight: int = 64
    connections: int = 256
    queue: int = 1024
    held_bytes: int = 256 << 20
    idle_s: float = 60.0
    handshake_s: float = 5.0
    write_bytes: int = 1 << 20
    streams: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < 2**32 or (field.name == "idle_s" and not 1e-3 <= value <= 4e6):
                raise ValueError(f"{field.name} must be positive and below 2³², got {value}")
        if self.frame_bytes > self.held_bytes:
            raise ValueError(f"frame_bytes, {self.frame_bytes}, is more than held_bytes, {self.held_bytes}: lower it")
