"""A live page of a sweep: optuna-dashboard on the sweep's own storage, which it can read and not change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from splitlearn.sweep.storage import open_storage

HOST = "127.0.0.1"  # no other machine
PORT, PORTS = 8080, 20  # the first port, and how many to try from there
READING = ("GET", "HEAD")

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Silent(WSGIRequestHandler):
    """Handler that does not print each request."""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""


def dashboard_server(storage: str, port: int | None = None) -> WSGIServer:
    """Return a server of the live page on this machine; `serve_forever` shows it, `server_port` is its port.

    The page shows what the storage holds at any moment, while a sweep runs and afterwards.

    Args:
        storage: a journal file or the address of a database, as for `Study`.
        port: port of the page; None for the first free one from 8080 on.

    Raises:
        ImportError: if optuna-dashboard is not installed.
        OSError: if the port is not free.
    """
    page = _only_reading(_pages()(open_storage(storage)))
    wanted = [port] if port is not None else range(PORT, PORT + PORTS)
    for number in wanted:
        try:
            return make_server(HOST, number, page, handler_class=_Silent)
        except OSError:
            if number == wanted[-1]:
                raise
    raise AssertionError("no port was tried")


@contextmanager
def live_page(storage: str) -> Iterator[str]:
    """Show the live page of a storage within a `with` block, and yield its address; raises as `dashboard_server`."""
    with dashboard_server(storage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield address_of(server)
        finally:
            server.shutdown()


def address_of(server: WSGIServer) -> str:
    """Return the address of a live page."""
    return f"http://{HOST}:{server.server_port}/dashboard"


def check_installed() -> None:
    """Raise ImportError, naming the remedy, if optuna-dashboard is not installed."""
    _pages()


def _pages() -> Callable[..., App]:
    try:
        from optuna_dashboard import wsgi
    except ImportError as error:
        raise ImportError("the live page needs optuna-dashboard: pip install 'splitlearn[dashboard]'") from error
    found: Callable[..., App] = wsgi
    return found


def _only_reading(page: App) -> App:
    """Return a page that refuses requests to change something, which could end a sweep."""

    def reading(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        host = environment.get("HTTP_HOST", "").rpartition(":")[0]
        if environment["REQUEST_METHOD"] in READING and host in (
            HOST,
            "localhost",
        ):  # no other name, from no other page
            return page(environment, start)
        start("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"this page shows a sweep and changes nothing"]

    return reading
