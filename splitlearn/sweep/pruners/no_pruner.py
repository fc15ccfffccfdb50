"""Pruner that stops nothing."""

from __future__ import annotations

from collections.abc import Mapping

from splitlearn.sweep.pruners.base import Pruner, Standing


class NoPruner(Pruner):
    """Trains every trial to its end."""

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return none."""
        return ()

    def stopped(self, standings: Mapping[int, Standing]) -> dict[int, str]:
        """Return none."""
        return {}
