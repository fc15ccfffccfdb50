"""/healthz and /metrics."""

from __future__ import annotations

import asyncio
import socket
import sys
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from splitlearn.runtime.client import EdgeClient
from splitlearn.runtime.errors import LinkError
from splitlearn.runtime.health import MOST_THREADS, HealthServer
from splitlearn.runtime.protocol import Kind
from splitlearn.runtime.statistics import Histogram
from tests.runtime.edges import FINGERPRINT, Reverse, check, run, server_of


def get(port: int, path: str) -> tuple[int, str]:
    """Return status and text of a page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as page:
            return page.status, page.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_what_has_happened_is_told() -> None:
    async def test() -> None:
        async with (
            server_of(Reverse(), token="t") as server,
            EdgeClient("127.0.0.1", server.port, FINGERPRINT, token="t") as client,
        ):
            for payload in (b"one", b"two"):
                check(await client.ask(payload, rate=3), payload)
            with pytest.raises(LinkError):
                await client.ask(b"damaged")
            with pytest.raises(LinkError):
                await client.ask(b"a file", kind=Kind.PICTURE)
            with pytest.raises(LinkError):
                await EdgeClient("127.0.0.1", server.port, FINGERPRINT, token="x").connect()
            with HealthServer(server, "127.0.0.1", 0) as health:
                assert await asyncio.to_thread(get, health.port, "/healthz") == (200, "ok\n")
                assert (await asyncio.to_thread(get, health.port, "/"))[0] == 404
                status, text = await asyncio.to_thread(get, health.port, "/metrics")
                assert status == 200
                server.is_stopping = True
                assert await asyncio.to_thread(get, health.port, "/healthz") == (503, "stopping\n")
                server.is_stopping = False
        told = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert told["splitlearn_requests_total", "payload", "answered", "3"] == 2
        assert told["splitlearn_requests_total", "payload", "damaged_payload", ""] == 1
        assert told["splitlearn_requests_total", "picture", "kind_not_served", ""] == 1
        assert told["splitlearn_connections_ended_total", "wrong_token"] == 1
        assert told["splitlearn_connections",] == 1
        assert told["splitlearn_received_bytes_total",] > 3 * 20
        assert told["splitlearn_sent_bytes_total",] > 3 * 20
        assert told["splitlearn_batch_size_count",] == told["splitlearn_batch_size_sum",] == 4
        assert told["splitlearn_batch_size_bucket", "1.0"] == told["splitlearn_batch_size_bucket", "+Inf"] == 4
        assert told["splitlearn_queue_seconds_count",] == told["splitlearn_edge_seconds_count",] == 4

    run(test)


def test_bounds_of_a_histogram_are_included() -> None:
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 2, 3):
        histogram.add(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 8


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with HealthServer(server_of(Reverse()), "127.0.0.1", 0) as health:
        assert get(health.port, "/metrics") == (
            501,
            "metrics take prometheus-client: pip install 'splitlearn[serve]'\n",
        )
        assert get(health.port, "/healthz")[0] == 200


def test_silent_peers_take_no_more_than_their_places() -> None:
    with HealthServer(server_of(Reverse()), "127.0.0.1", 0) as health:
        silent = [socket.create_connection(("127.0.0.1", health.port)) for _ in range(MOST_THREADS)]
        with pytest.raises(OSError, match=r"(?i)closed|reset|without response"):
            get(health.port, "/healthz")
        for one in silent:
            one.close()
        while True:
            try:
                assert get(health.port, "/healthz") == (200, "ok\n")
                break
            except OSError:
                continue


def test_an_address_in_use_is_one_sentence() -> None:
    with HealthServer(server_of(Reverse()), "127.0.0.1", 0) as health:
        for port in (health.port, 70_000):
            with pytest.raises(OSError, match=f"cannot listen for HTTP at 127.0.0.1, port {port}: "):
                HealthServer(server_of(Reverse()), "127.0.0.1", port)
