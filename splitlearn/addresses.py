"""Addresses of databases with hidden passwords."""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"
_PASSWORD = re.compile(r"(://[^\s:]*:)(?!\d*(?:\s|$))(.*)(?=@)")  # up to the last @, in case the password has some
_IN_QUERY = re.compile(r"([?&]\w*(?:password|passwd|pwd|secret|token)\w*=)([^\s&]+)", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """Return a text with the passwords of all addresses in it hidden."""
    return _IN_QUERY.sub(rf"\1{HIDDEN}", _PASSWORD.sub(rf"\1{HIDDEN}", text))


def without_those_of(address: str, text: str) -> str:
    """Return a driver's message with all passwords of `address` hidden, wherever they occur."""
    found = [match[2] for pattern in (_PASSWORD, _IN_QUERY) for match in pattern.finditer(address)]
    for secret in sorted({form for each in found for form in (each, unquote(each)) if form}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return without_passwords(text)


def check_address(address: str) -> None:
    """Raise ValueError for an ambiguous address, with one of @ / ? # or a space before the last @."""
    owner, at, _ = address.partition("://")[2].rpartition("@")
    if at and any(character in owner for character in "@/?# "):
        raise ValueError("in a storage's address, write @ / ? # and spaces of user and password as %40 %2F %3F %23 %20")
