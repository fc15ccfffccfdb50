from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server that is started for one test."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("PostgreSQL is not installed: initdb and pg_ctl are not to be found")
    as_user: tuple[str, ...] = ("runuser", "-u", "nobody", "--") if os.geteuid() == 0 else ()  # it refuses root
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # sockets need a short path
    if as_user:
        shutil.chown(folder, "nobody")
    try:
        subprocess.run(
            [*as_user, "initdb", "-D", folder / "db", "-U", "me", "-A", "trust"], check=True, capture_output=True
        )
        start = ("pg_ctl", "-D", folder / "db", "-o", f"-k {folder} -h ''", "-l", folder / "log", "-w", "start")
        subprocess.run([*as_user, *start], check=True, stdout=subprocess.DEVNULL)
        yield f"postgresql+psycopg://me@/postgres?host={folder}"
        subprocess.run(
            [*as_user, "pg_ctl", "-D", folder / "db", "-m", "immediate", "stop"], check=True, capture_output=True
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
