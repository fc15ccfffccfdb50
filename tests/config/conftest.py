from __future__ import annotations

from tests.commands.conftest import fit, run

__all__ = ["fit", "run"]
