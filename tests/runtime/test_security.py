"""TLS on the link, certificates that are refused, tokens in files. Certificates are made by openssl."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.errors import LinkError, RefusedError
from splitlearn.runtime.limits import Limits
from splitlearn.runtime.security import (
    SecurityError,
    check_exposure,
    check_health,
    check_sending,
    client_context,
    read_token,
    server_context,
)
from tests.runtime.edges import FINGERPRINT, RawPeer, Reverse, check, run, server_of

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an authority, and what it has signed: server, client, expired, elsewhere (another name)."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    def signed(name: str, subject: str, alternative: str, *dates: str) -> None:
        openssl("req", *EC, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject}")
        (folder / "extensions").write_text(f"subjectAltName={alternative}\n")
        authority = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *authority, *dates)

    authority_of_its_own = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    for name in ("ca", "other"):
        openssl(
            "req",
            "-x509",
            *EC,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
            "-subj",
            f"/CN={name}",
            "-days",
            "2",
            *authority_of_its_own,
        )
    signed("server", "edge", "IP:127.0.0.1,DNS:edge.test", "-days", "2")
    signed("client", "device", "DNS:device.test", "-days", "2")
    signed("elsewhere", "edge", "DNS:elsewhere.test", "-days", "2")
    signed("expired", "edge", "IP:127.0.0.1", "-days", "-1")
    openssl("pkey", "-in", "server.key", "-aes128", "-passout", "pass:secret", "-out", "locked.key")
    (folder / "rubbish.pem").write_text("no certificate\n")
    return folder


def context_of(folder: Path, name: str, client_ca: str | None = None) -> ssl.SSLContext:
    """Return a server's context."""
    return server_context(
        folder / f"{name}.pem", folder / f"{name}.key", None if client_ca is None else folder / f"{client_ca}.pem"
    )


def test_requests_over_tls(certificates: Path) -> None:
    async def test() -> None:
        edge = Reverse()
        async with server_of(edge, ssl_context=context_of(certificates, "server"), token="secret") as server:
            context = client_context(certificates / "ca.pem")
            async with EdgeClient("127.0.0.1", server.port, FINGERPRINT, ssl_context=context, token="secret") as client:
                payloads = [bytes([n]) * 5000 * n for n in range(40)]
                for reply, payload in zip(await asyncio.gather(*map(client.ask, payloads)), payloads, strict=True):
                    check(reply, payload)
            async with EdgeClient(
                "127.0.0.1", server.port, FINGERPRINT, ssl_context=context, token="secret", server_hostname="edge.test"
            ) as client:
                edge.gate.clear()
                asked = asyncio.ensure_future(client.ask(b"held"))
                await edge.is_entered()
                stop = asyncio.ensure_future(server.stop())
                await asyncio.sleep(0.05)
                edge.gate.set()
                check(await asked, b"held")
                await stop

    run(test)


@pytest.mark.parametrize(
    ("name", "ca", "sentence"),
    [
        ("expired", "ca", "the server's certificate is not accepted: certificate has expired"),
        ("elsewhere", "ca", "the server's certificate is not accepted: IP address mismatch"),
        ("server", "other", "the server's certificate is not accepted: "),
    ],
)
def test_certificates_that_are_refused(certificates: Path, name: str, ca: str, sentence: str) -> None:
    async def test() -> None:
        async with server_of(Reverse(), ssl_context=context_of(certificates, name)) as server:
            context = client_context(certificates / f"{ca}.pem")
            with pytest.raises(RefusedError, match=sentence):
                await EdgeClient("127.0.0.1", server.port, FINGERPRINT, ssl_context=context).connect()

    run(test)


def test_clients_need_a_certificate_of_the_right_authority(certificates: Path) -> None:
    async def test() -> None:
        async with server_of(Reverse(), ssl_context=context_of(certificates, "server", "ca")) as server:
            own = certificates / "client.pem", certificates / "client.key"
            right = client_context(certificates / "ca.pem", *own)
            async with EdgeClient("127.0.0.1", server.port, FINGERPRINT, ssl_context=right) as client:
                check(await client.ask(b"x"), b"x")
            foreign = client_context(certificates / "ca.pem", certificates / "other.pem", certificates / "other.key")
            for context in (client_context(certificates / "ca.pem"), foreign):
                client = EdgeClient("127.0.0.1", server.port, FINGERPRINT, ssl_context=context)
                with pytest.raises(RefusedError, match=r"refuses this client's certificate, or wants one|TLS failed"):
                    await client.connect()
            assert server.statistics.ended == {"handshake": 2}  # one attempt each

    run(test)


def test_one_side_alone_speaks_tls(certificates: Path) -> None:
    async def test() -> None:
        async with server_of(Reverse(), ssl_context=context_of(certificates, "server")) as server:
            with pytest.raises(LinkError, match=r"speaks TLS \(--tls true"):
                await EdgeClient("127.0.0.1", server.port, FINGERPRINT, patience_s=1).connect()
        async with server_of(Reverse()) as server:
            context = client_context(certificates / "ca.pem")
            with pytest.raises(RefusedError, match="TLS failed: "):
                await EdgeClient("127.0.0.1", server.port, FINGERPRINT, ssl_context=context).connect()

    run(test)


def test_handshakes_count_as_connections_and_end(certificates: Path) -> None:
    """Peers that open a connection and never speak TLS hold a place for the handshake's time, and no longer."""
    limits = Limits(connections=3, handshake_s=0.3)

    async def test() -> None:
        async with server_of(Reverse(), ssl_context=context_of(certificates, "server"), limits=limits) as server:
            peers = [RawPeer(server.port) for _ in range(3)]
            for peer in peers:
                await peer.__aenter__()
            while server.statistics.connections < 3:
                await asyncio.sleep(0.01)
            context = client_context(certificates / "ca.pem")
            async with EdgeClient("127.0.0.1", server.port, FINGERPRINT, ssl_context=context) as client:
                check(await client.ask(b"x"), b"x")
            for peer in peers:
                await peer.__aexit__()
            assert server.statistics.ended["handshake"] == 3

    run(test)


def test_tokens_in_files(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(SecurityError, match=r"no file .*token"):
        read_token(path)
    cases = {b"": "has 0 bytes", b" \n": "has 0 bytes", b"x" * 901: "has 901 bytes", b"\xff\xfe": "is not text"}
    for content, sentence in cases.items():
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(SecurityError, match=sentence):
            read_token(path)
    path.write_text("secret – ß\n")
    assert read_token(path) == "secret – ß"
    for mode in (0o644, 0o640, 0o620, 0o602):
        path.chmod(mode)
        with pytest.raises(SecurityError, match=r"is open to other users: chmod 600 .*token"):
            read_token(path)


def test_files_that_are_no_certificates(certificates: Path) -> None:
    server, key, rubbish = (certificates / name for name in ("server.pem", "server.key", "rubbish.pem"))
    cases = [
        ((certificates / "absent.pem", key), "no file .*absent.pem"),
        ((server, certificates / "absent.key"), "no file .*absent.key"),
        ((rubbish, key), "are not a certificate and its key in PEM"),
        ((server, rubbish), "are not a certificate and its key in PEM"),
        ((server, certificates / "client.key"), "do not belong together"),
        ((server, certificates / "locked.key"), "needs a password"),
        ((server, key, rubbish), "rubbish.pem holds no certificates"),
    ]
    for files, sentence in cases:
        with pytest.raises(SecurityError, match=sentence):
            server_context(*files)
    with pytest.raises(SecurityError, match="go together"):
        client_context(certificates / "ca.pem", certificate=server)


def test_exposure() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        check_exposure(host, is_encrypted=False, knows_clients=False)
    for host in ("0.0.0.0", "::", "10.0.0.5", "edge.example.org"):
        check_exposure(host, is_encrypted=True, knows_clients=True)
        with pytest.raises(SecurityError, match=r"takes TLS \(--tls_cert, --tls_key\), or --insecure true"):
            check_exposure(host, is_encrypted=False, knows_clients=True)
        with pytest.raises(SecurityError, match=r"takes a token .*, or --insecure true"):
            check_exposure(host, is_encrypted=True, knows_clients=False)


def test_health_is_not_told_to_strangers() -> None:
    check_health("127.0.0.1")
    with pytest.raises(SecurityError, match=r"/metrics at 0\.0\.0\.0, to anybody, takes --insecure true"):
        check_health("0.0.0.0")


def test_tokens_are_not_sent_in_clear() -> None:
    for host in ("10.0.0.5", "edge.example.org"):
        check_sending(host, is_encrypted=True, has_token=True)
        check_sending(host, is_encrypted=False, has_token=False)
        with pytest.raises(SecurityError, match=rf"sending a token to {host} takes TLS .*, or --insecure true"):
            check_sending(host, is_encrypted=False, has_token=True)
    check_sending("127.0.0.1", is_encrypted=False, has_token=True)


def test_random_bytes_over_tls(certificates: Path) -> None:
    """Bytes that are no TLS, beside a client without it elsewhere: nothing is left of them."""

    async def test() -> None:
        async with server_of(Reverse(), ssl_context=context_of(certificates, "server")) as server:
            for data in (b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 5000):
                async with RawPeer(server.port) as peer:
                    peer.writer.write(data)
            while server.statistics.connections:
                await asyncio.sleep(0.01)
            assert server.statistics.ended["handshake"] == 4

    run(test)
