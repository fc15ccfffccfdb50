"""Passwords in addresses are never told, whatever characters they have."""

from __future__ import annotations

import pytest

from splitlearn.addresses import check_address, without_passwords, without_those_of


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://me:SECRET@host:5432/name",
        "postgresql://me:SEC@RET@host/name",
        "postgresql://me:SEC/RET@host/name",
        "postgresql://me:SEC:RET@host/name",
        "postgresql://me:SEC RET@host/name",
        "postgresql://me:SEC%40RET@host/name",
        "postgresql://me@domain:SECRET@host/name",
        "mysql://:SECRET@host/name",
        "postgresql://host/name?user=me&password=SECRET",
        "postgresql://host/name?sslpassword=SECRET&x=1",
    ],
)
def test_no_piece_of_a_password_is_told(address: str) -> None:
    for text in (address, f"--storage={address}", f"connection to {address} failed: no route to host"):
        told = without_passwords(text)
        assert "SEC" not in told
        assert "RET" not in told
        assert "://" in told
        assert "host" in told
        assert "***" in told


def test_what_a_driver_says_of_a_password_is_hidden() -> None:
    address = "postgresql://me:se%40cret@host/name"
    said = "password authentication failed for user me with se@cret (se%40cret)"
    assert without_those_of(address, said) == "password authentication failed for user me with *** (***)"


UNREACHED = ("cannot reach https://hub.org: ask me at a@b or c@d", "no answer of https://hub.org:443 : ask me at a@b")


def test_other_texts_stay_as_they_are() -> None:
    plain = ("sqlite:///runs/a.db", "https://host:443/x", "mail me@host", "a: b", "postgresql://me@host/name")
    for text in (*plain, *UNREACHED):
        assert without_passwords(text) == text
        assert without_those_of(text, "what happened") == "what happened"


@pytest.mark.parametrize("password", ["a@b", "a/b", "a?b", "a#b", "a b"])
def test_ambiguous_addresses_are_refused(password: str) -> None:
    with pytest.raises(ValueError, match=r"as %40 %2F %3F %23 %20") as caught:
        check_address(f"postgresql://me:{password}@host/name")
    assert password not in str(caught.value)


def test_addresses_that_say_what_they_mean() -> None:
    for address in ("postgresql://me:a%40b%2Fc:d@host:1/name?x=1", "sqlite:////a/b.db", "runs/a@b/journal.log"):
        check_address(address)
