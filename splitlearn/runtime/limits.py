"""What one server takes from its peers."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """Bounds of a server; together they bound its memory, whatever peers do.

    Attributes:
        frame_bytes: largest frame of a client.
        in_flight: most requests of one connection without an answer.
        connections: most connections at once, those in the TLS handshake included.
        queue: most requests that wait, of all connections.
        held_bytes: most bytes of waiting payloads and unfinished frames, of all connections.
        idle_s: seconds without a whole frame after which a connection ends; also those in which a frame must be
            complete, and those for which a client may leave its answers unread.
        handshake_s: seconds from the connection to a valid HELLO.
        write_bytes: most bytes of answers that one client has not read; one answer more is let through.

    Raises:
        ValueError: if one of them is not positive, or a number cannot be told to clients.
    """

    frame_bytes: int = 8 << 20
    in_flight: int = 64
    connections: int = 256
    queue: int = 1024
    held_bytes: int = 256 << 20
    idle_s: float = 60.0
    handshake_s: float = 5.0
    write_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < 2**32 or (field.name == "idle_s" and not 1e-3 <= value <= 4e6):
                raise ValueError(f"{field.name} must be positive and below 2³², got {value}")
