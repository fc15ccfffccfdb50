"""A slow link by the kernel: a network namespace behind two virtual interfaces whose queues tc shapes; needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from scripts.benchmarks.link_emulation import Trace

NEAR, FAR = "10.213.77.1", "10.213.77.2"


class Following(NamedTuple):
    """A link that follows a trace.

    Attributes:
        host: of the edge server, in the namespace.
        port: likewise.
        started: when the trace has begun, in seconds of `time.monotonic`.
    """

    host: str
    port: int
    started: float


class KernelLink:
    """A namespace for the edge server, as a context, and the link to it.

    Attributes:
        far_host: address in the namespace.
        prefix: words before a command that is to run there.
    """

    def __init__(self) -> None:
        self._name = f"splitlearn{os.getpid()}"
        self._near, self._far = f"sl{os.getpid()}n", f"sl{os.getpid()}f"
        self.far_host = FAR
        self.prefix = ("ip", "netns", "exec", self._name)

    @classmethod
    def refusal(cls) -> str | None:
        """Return in a sentence why this machine permits no such link; None if it does."""
        if absent := [name for name in ("ip", "tc") if shutil.which(name) is None]:
            return f"there is no {absent[0]} command"
        link = cls()
        try:
            with link, link.following(None, 0, 0.01, 0.0):
                return None
        except subprocess.CalledProcessError as error:
            return f"{' '.join(error.cmd)} says {error.stderr.strip()}"

    def __enter__(self) -> Self:
        try:
            _run("ip", "netns", "add", self._name)
            _run("ip", "link", "add", self._near, "type", "veth", "peer", "name", self._far, "netns", self._name)
            _run("ip", "address", "add", f"{NEAR}/30", "dev", self._near)
            _run("ip", "link", "set", self._near, "up")
            _run(*self.prefix, "ip", "address", "add", f"{FAR}/30", "dev", self._far)
            _run(*self.prefix, "ip", "link", "set", self._far, "up")
            _run(*self.prefix, "ip", "link", "set", "lo", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for words in (("ip", "link", "delete", self._near), ("ip", "netns", "delete", self._name)):
            subprocess.run(words, capture_output=True)

    @contextmanager
    def following(self, trace: Path | None, port: int, round_trip_s: float, loss: float) -> Iterator[Following]:
        """Shape the uplink by a trace, and delay both ways; without a trace, 1 Mbit/s."""
        steps = Trace([(0.0, 1e6)]) if trace is None else Trace.read(trace)
        half = ["delay", f"{500 * round_trip_s:g}ms"]
        lost = ["loss", f"{100 * loss:g}%"] if loss else []
        up = ("dev", self._near, "root", "netem", *half, *lost)
        _run(*self.prefix, "tc", "qdisc", "replace", "dev", self._far, "root", "netem", *half, *lost)
        _run("tc", "qdisc", "replace", *up, "rate", f"{steps.steps[0][1]:.0f}bit")
        started, over = time.monotonic(), threading.Event()
        follower = threading.Thread(target=_follow, args=(steps, up, started, over), daemon=True)
        follower.start()
        try:
            yield Following(self.far_host, port, started)
        finally:
            over.set()
            follower.join()


def _follow(trace: Trace, up: Sequence[str], started: float, over: threading.Event) -> None:
    for seconds, bits in trace.steps[1:]:
        if over.wait(max(0.0, started + seconds - time.monotonic())):
            return
        _run("tc", "qdisc", "change", *up, "rate", f"{bits:.0f}bit")


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)
