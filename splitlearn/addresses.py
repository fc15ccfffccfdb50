"""Addresses of databases, told without their passwords."""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"
_PASSWORD = re.compile(  # as far as the last @, in case that it holds some itself; no port, and no end of an address
    r"(://[^\s:]*:)(?!\d*(?:\s|$))(.*)(?=@)"
)
_IN_QUERY = re.compile(r"([?&]\w*(?:password|passwd|pwd|secret|token)\w*=)([^\s&]+)", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """Return a text with what stands in the place of a password in any address hidden."""
    return _IN_QUERY.sub(rf"\1{HIDDEN}", _PASSWORD.sub(rf"\1{HIDDEN}", text))


def without_those_of(address: str, text: str) -> str:
    """Return what a driver says of an address, with the address's passwords hidden wherever they stand, and pieces."""
    found = [match[2] for pattern in (_PASSWORD, _IN_QUERY) for match in pattern.finditer(address)]
    for secret in sorted({form for each in found for form in (each, unquote(each)) if form}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return without_passwords(text)


def check_address(address: str) -> None:
    """Refuse an address that is not divided where its writer meant it to be.

    Raises:
        ValueError: if there is one of @ / ? # before the last @; the sentence names the remedy, and no password.
    """
    owner, at, _ = address.partition("://")[2].rpartition("@")
    if at and any(character in owner for character in "@/?# "):
        raise ValueError("in a storage's address, write @ / ? # and spaces of user and password as %40 %2F %3F %23 %20")
