"""`splitlearn dashboard`: a live page of a sweep."""

from __future__ import annotations

from pathlib import Path

from splitlearn.commands.sweep import JOURNAL, opened_sweep
from splitlearn.config.messages import UsageError


def dashboard(out: Path, storage: str | None = None, name: str | None = None, port: int | None = None) -> None:
    """Show a live page of a sweep, running or ended, in a browser on this machine; it ends with Ctrl-C.

    The page, optuna-dashboard, shows trials, history, importance of parameters and parallel coordinates. It changes
    nothing in the sweep.

    Args:
        out: folder of the sweep, its --out.
        storage: file or database of the sweep; by default OUT/journal.log.
        name: name of the sweep, the last part of its --out; by default the last part of this --out.
        port: port of the page; by default the first free one from 8080 on.
    """
    opened_sweep(out, storage, name)
    from splitlearn.sweep.dashboard import address_of, dashboard_server

    try:
        server = dashboard_server(storage or str(out / JOURNAL), port)
    except (OSError, OverflowError) as error:
        raise UsageError(f"--port {port or ''} cannot be used ({error}): name another") from error
    print(f"{address_of(server)} shows {name or out.name}; Ctrl-C ends it", flush=True)
    with server:
        server.serve_forever()
