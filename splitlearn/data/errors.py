"""What is raised where data cannot be used."""

__all__ = ["DataError"]


class DataError(RuntimeError):
    """A data set is missing, empty, damaged or inconsistent; the message names the remedy."""
