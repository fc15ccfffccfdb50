"""HTTP server for the monitoring of an edge server: `/healthz`, and `/metrics` for Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from socket import socket
from typing import Any, Protocol, Self

from splitlearn.runtime.protocol import NO_RATE
from splitlearn.runtime.statistics import Histogram, Statistics

MOST_THREADS = 8
TIMEOUT_S = 5.0
MISSING = "metrics take prometheus-client: pip install 'splitlearn[serve]'\n"
PLAIN = "text/plain; charset=utf-8"


class Subject(Protocol):
    """A monitored edge server."""

    statistics: Statistics
    is_stopping: bool


class HealthServer:
    """Context manager that answers `/healthz` and `/metrics` in a separate thread.

    Args:
        subject: the monitored edge server.
        host: address to listen at.
        port: port to listen at; 0 for any free one.

    Attributes:
        port: port that is used.

    Raises:
        OSError: if the address cannot be used; the message is a sentence.
    """

    def __init__(self, subject: Subject, host: str, port: int) -> None:
        try:
            self._http = _Http((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OSError(f"cannot listen for HTTP at {host}, port {port}: {reason}") from error
        self._http.subject = subject
        self.port = self._http.server_port

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, name="health", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    """HTTP server with a fixed number of threads; further requests are closed."""

    daemon_threads = True
    subject: Subject

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._places = threading.BoundedSemaphore(MOST_THREADS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: socket | tuple[bytes, socket], client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing when a client stalls or disconnects."""


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    server: _Http

    def do_GET(self) -> None:
        subject = self.server.subject
        if self.path == "/healthz":
            self._send(*((503, "stopping\n") if subject.is_stopping else (200, "ok\n")))
        elif self.path == "/metrics":
            try:
                from prometheus_client import CollectorRegistry
                from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
            except ImportError:
                self._send(501, MISSING)
                return
            registry = CollectorRegistry()
            registry.register(_Collector(subject.statistics))
            self._send(200, generate_latest(registry).decode(), CONTENT_TYPE_LATEST)
        else:
            self._send(404, "there are /healthz and /metrics\n")

    def _send(self, status: int, text: str, kind: str = PLAIN) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Write no access log."""


class _Collector:
    """Statistics of a server in the form of Prometheus."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        counts = self._statistics
        labels = ["outcome", "rate", "kind"]
        requests = CounterMetricFamily("splitlearn_requests", "finished requests", labels=labels)
        for (outcome, rate, kind), number in list(counts.requests.items()):
            requests.add_metric([outcome, "" if rate == NO_RATE else str(rate), kind], number)
        ended = CounterMetricFamily("splitlearn_connections_ended", "ended by the server", labels=["reason"])
        for reason, number in list(counts.ended.items()):
            ended.add_metric([reason], number)
        yield from (requests, ended)
        yield GaugeMetricFamily("splitlearn_connections", "open connections", counts.connections)
        yield GaugeMetricFamily("splitlearn_streams", "open connections that send streams", counts.streams)
        yield CounterMetricFamily("splitlearn_received_bytes", "bytes of all connections", counts.received_bytes)
        yield CounterMetricFamily("splitlearn_sent_bytes", "bytes of all connections", counts.sent_bytes)
        yield _family("splitlearn_batch_size", "requests in a batch", counts.batch_sizes)
        yield _family("splitlearn_queue_seconds", "time of a request in the queue", counts.wait_s)
        yield _family("splitlearn_edge_seconds", "time of a batch at the edge", counts.edge_s)


def _family(name: str, meaning: str, histogram: Histogram) -> Any:
    from prometheus_client.core import HistogramMetricFamily
    from prometheus_client.utils import floatToGoString

    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(list(histogram.counts)), strict=True))
    return HistogramMetricFamily(name, meaning, buckets=buckets, sum_value=histogram.total)
