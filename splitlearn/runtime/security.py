"""TLS contexts and tokens, with error messages of one sentence."""

from __future__ import annotations

import ipaddress
import ssl
import stat
from pathlib import Path


class SecurityError(Exception):
    """A certificate, key or token cannot be used, or a server would be open to strangers."""


def server_context(certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return a context for a server: TLS 1.2 or later.

    Args:
        certificate: PEM file of the server's certificate, followed by its chain.
        key: PEM file of its private key, without a password.
        client_ca: PEM file of authorities; clients need a certificate of one of them. None for no client certificates.

    Raises:
        SecurityError: if a file is missing or has other content.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_pair(context, certificate, key)
    if client_ca is not None:
        _load_authorities(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(ca: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """Return a context for a client, which always verifies the server's certificate and name: TLS 1.2 or later.

    Args:
        ca: PEM file of authorities, or of the server's own certificate; by default the authorities of the system.
        certificate: PEM file of the client's certificate, if the server requires one.
        key: PEM file of its private key.

    Raises:
        SecurityError: if a file is missing or has other content, or a certificate has no key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is None:
        context.load_default_certs()
    else:
        _load_authorities(context, ca)
    if (certificate is None) != (key is None):
        raise SecurityError("a client's certificate and its key go together")
    if certificate is not None and key is not None:
        _load_pair(context, certificate, key)
    return context


def read_token(path: Path) -> str:
    """Return the token in a file, without white space around it.

    Raises:
        SecurityError: if the file is missing, empty, not UTF-8, too long, or open to other users.
    """
    _check_is_there(path)
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SecurityError(f"the token in {path} is open to other users: chmod 600 {path}")
    try:
        token = path.read_bytes()[:2048].decode().strip()
    except OSError as error:
        raise SecurityError(f"the token in {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SecurityError(f"the token in {path} is not text") from error
    if not 1 <= len(token.encode()) <= 900:
        raise SecurityError(f"the token in {path} has {len(token.encode())} bytes; it takes 1 to 900")
    return token


def check_exposure(host: str, is_encrypted: bool, knows_clients: bool) -> None:
    """Raise SecurityError if a server at this address would be open to strangers.

    Args:
        host: address to listen at.
        is_encrypted: whether it uses TLS.
        knows_clients: whether clients need a token or a certificate.
    """
    missing = [
        need
        for need, is_there in (
            ("TLS (--tls_cert, --tls_key)", is_encrypted),
            ("a token (--token_file) or client certificates (--tls_client_ca)", knows_clients),
        )
        if not is_there
    ]
    if missing and not is_loopback(host):
        raise SecurityError(f"listening at {host} takes {' and '.join(missing)}, or --insecure true")


def check_health(host: str) -> None:
    """Raise SecurityError if /healthz and /metrics, which need no token, would be open to strangers.

    Args:
        host: address to listen at.
    """
    if not is_loopback(host):
        raise SecurityError(f"offering /healthz and /metrics at {host}, to anybody, takes --insecure true")


def check_sending(host: str, is_encrypted: bool, has_token: bool) -> None:
    """Raise SecurityError if a client's token would be sent to another machine without encryption.

    Args:
        host: address of the server.
        is_encrypted: whether the client uses TLS.
        has_token: whether it has a token.
    """
    if has_token and not is_encrypted and not is_loopback(host):
        raise SecurityError(f"sending a token to {host} takes TLS (--tls true or --tls_ca), or --insecure true")


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    _check_is_there(certificate)
    _check_is_there(key)
    try:
        context.load_cert_chain(certificate, key, password=lambda: _refuse_password(key))
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        what = "do not belong together" if mismatch else "are not a certificate and its key in PEM"
        raise SecurityError(f"{certificate} and {key} {what}") from error
    except OSError as error:
        raise SecurityError(f"{certificate} or {key} cannot be read: {error.strerror or error}") from error


def _load_authorities(context: ssl.SSLContext, path: Path) -> None:
    _check_is_there(path)
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise SecurityError(f"{path} holds no certificates in PEM") from error


def _refuse_password(key: Path) -> str:
    raise SecurityError(f"the key in {key} needs a password: remove it, openssl pkey -in {key} -out FILE")


def _check_is_there(path: Path) -> None:
    if not path.is_file():
        raise SecurityError(f"no file {path}")
