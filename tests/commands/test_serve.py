"""`splitlearn serve` as a process: what it refuses in one sentence, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.errors import LinkError
from splitlearn.runtime.server import TAKEN
from tests.commands.conftest import Run
from tests.runtime.edges import FINGERPRINT, Reverse, check
from tests.runtime.edges import run as run_loop

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, time
import splitlearn.commands.serve as module
from splitlearn.commands import main
from tests.runtime.edges import Reverse

class Slow(Reverse):
    def answer(self, payloads):
        if b"for ever" in payloads:
            print("entered", flush=True)
            time.sleep(1000)
        time.sleep(0.02)
        return super().answer(payloads)

module.edge_of = lambda *files: Slow()
sys.exit(main())
"""


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield a serving process and its port."""
    words = [sys.executable, "-c", PROGRAM, "serve", "--package", "none", "--port", "0", *options]
    with subprocess.Popen(words, cwd=ROOT, stdout=-1, stderr=-1, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line.startswith("serving abababababab… at 127.0.0.1:"), line + process.stderr.read()  # type: ignore[union-attr]
            yield process, int(line.split(":")[1].split(",")[0])
        finally:
            process.kill()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_its_answers(signum: signal.Signals) -> None:
    with serving("--max-batch", "1") as (process, port):

        async def test() -> None:
            async with EdgeClient("127.0.0.1", port, FINGERPRINT) as client:
                asked = [asyncio.ensure_future(client.ask(bytes([n]))) for n in range(20)]
                await asked[0]
                process.send_signal(signum)
                for n, reply in enumerate(await asyncio.gather(*asked)):
                    check(reply, bytes([n]))

        run_loop(test)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0
        assert out == "stopped; 20 requests answered\n"
        assert err == "stopping: what is held is answered first; a second signal ends at once\n"


def test_a_second_signal_ends_it_at_once() -> None:
    with serving() as (process, port):

        async def test() -> None:
            async with EdgeClient("127.0.0.1", port, FINGERPRINT, patience_s=0.2) as client:
                asked = asyncio.ensure_future(client.ask(b"for ever"))
                assert process.stdout
                assert process.stderr
                assert await asyncio.to_thread(process.stdout.readline) == "entered\n"
                process.terminate()
                assert "stopping" in await asyncio.to_thread(process.stderr.readline)
                process.terminate()
                assert await asyncio.to_thread(process.wait, 20) == 128 + signal.SIGTERM
                with pytest.raises(LinkError):
                    await asked

        run_loop(test)


@pytest.fixture
def refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function of options that returns the one line which a refusal prints."""
    monkeypatch.setattr("splitlearn.commands.serve.edge_of", lambda *files: Reverse())

    def refuse(*options: str) -> str:
        outcome = run("serve", *options)
        assert outcome.status in (1, 2)
        assert outcome.out == ""
        (line,) = outcome.err.splitlines()
        return line.removeprefix("splitlearn: error: ")

    return refuse


def test_a_port_in_use_and_limits(refused: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("--package", "none", "--port", str(port))
        assert line == f"cannot listen at 127.0.0.1, port {port}: {TAKEN}"
    assert "in_flight must be positive" in refused("--package", "none", "--in-flight", "0")
    assert "max_batch is at least 1" in refused("--package", "none", "--max_batch", "0")
    assert "a port is a number" in refused("--package", "none", "--port", "70000")


def test_what_would_be_open_to_all(refused: Callable[..., str], tmp_path: Path) -> None:
    line = "listening at 0.0.0.0 takes TLS (--tls_cert, --tls_key) and a token"
    assert refused("--package", "none", "--host", "0.0.0.0").startswith(line)
    token = tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    assert "is open to other users: chmod 600" in refused("--package", "none", "--token-file", str(token))
    assert refused("--package", "none", "--token-file", "absent") == "no file absent"
    assert refused("--package", "none", "--tls-cert", "absent", "--tls-key", "absent") == "no file absent"
    assert refused("--package", "none", "--tls-cert", "absent") == "--tls_cert and --tls_key go together"
    assert refused("--package", "none", "--tls-client-ca=a-b").startswith("--tls_client_ca takes --tls_cert")
