"""Error of data that cannot be used."""

__all__ = ["DataError"]


class DataError(RuntimeError):
    """A data set is missing, empty, damaged or inconsistent; the message names the remedy."""
