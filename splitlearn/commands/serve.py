"""`splitlearn serve`: an edge server."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from splitlearn.config.messages import UsageError

if TYPE_CHECKING:
    from splitlearn.runtime.answers import Edge
    from splitlearn.runtime.server import EdgeServer
    from splitlearn.runtime.torch_edge import TorchEdge
    from splitlearn.runtime.workers import Backend

NOTHING = "serve takes --package DIR, or the model in torch: --config FILE, --ckpt_path FILE or both"


def serve(
    words: Sequence[str],
    package: Path | None = None,
    config: Path | None = None,
    ckpt_path: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7878,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    tls_client_ca: Path | None = None,
    token_file: Path | None = None,
    insecure: bool = False,
    max_batch: int = 16,
    threads: int = 1,
    workers: int = 1,
    max_wait_ms: float = 0.0,
    frame_bytes: int = 8 << 20,
    in_flight: int = 64,
    connections: int = 256,
    queue: int = 1024,
    streams: int = 64,
    idle_s: float = 60.0,
    http_port: int | None = None,
    http_host: str = "127.0.0.1",
) -> None:
    """Run an edge server, which answers the payloads of devices with decoder and tail, in batches over all connections.

    SIGTERM and SIGINT end it after all received requests are answered; a second signal ends it immediately.
    The page "Protocol" of the documentation describes what both ends say.

    Args:
        words: settings that override the config's, as in splitlearn test.
        package: folder written by splitlearn package.
        config: config of splitlearn test, to run its model in torch, on a GPU if there is one; with --package, both
            must be the same model, and image files are answered if the package has a codec of them.
        ckpt_path: checkpoint of splitlearn fit, to run its model in torch.
        host: address to listen at; if other machines can reach it, TLS and a token or client certificates are needed.
        port: port to listen at; 0 for any free one.
        tls_cert: PEM file of the server's certificate and its chain.
        tls_key: PEM file of the server's private key.
        tls_client_ca: PEM file of authorities; clients then need a certificate of one of them.
        token_file: file with the token that clients must send; readable only by its owner.
        insecure: allow other machines without TLS, token or client certificates.
        max_batch: largest number of payloads in a batch.
        workers: number of processes that answer, e.g. one for each GPU; with 1, the server's own process answers.
        threads: number of threads of a package's graphs for one batch.
        max_wait_ms: how long the first payload of a batch waits for more, in milliseconds.
        frame_bytes: largest frame of a client, in bytes.
        in_flight: largest number of unanswered requests of a connection.
        connections: largest number of connections.
        queue: largest number of waiting requests; further ones are refused as "busy".
        streams: largest number of connections that send videos as streams; of each, the symbols of one frame are kept.
        idle_s: seconds without a frame after which a connection is closed.
        http_port: port of /healthz and /metrics; by default there is none.
        http_host: address of /healthz and /metrics.
    """
    from splitlearn.runtime.edge_processes import EdgeProcesses
    from splitlearn.runtime.limits import Limits
    from splitlearn.runtime.security import check_exposure, check_health, read_token
    from splitlearn.runtime.server import EdgeServer

    context = _tls(tls_cert, tls_key, tls_client_ca)
    token = None if token_file is None else read_token(token_file)
    if not insecure:
        check_exposure(host, context is not None, token is not None or tls_client_ca is not None)
        if http_port is not None:
            check_health(http_host)
    if workers == 1:
        backend: Backend = edge_of(package, config, ckpt_path, words, threads)
    else:
        make = partial(edge_of, package, config, ckpt_path, words, threads)
        backend = EdgeProcesses(make, workers, _fingerprint(package, config, ckpt_path, words))
    try:
        limits = Limits(frame_bytes, in_flight, connections, queue, idle_s=idle_s, streams=streams)
        server = EdgeServer(
            backend,
            host,
            port,
            limits=limits,
            ssl_context=context,
            token=token,
            max_batch=max_batch,
            max_wait_ms=max_wait_ms,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    asyncio.run(_run(server, http_host, http_port))


def edge_of(
    package: Path | None,
    config: Path | None,
    ckpt_path: Path | None,
    words: Sequence[str] = (),
    threads: int = 1,
    number: int = 0,
) -> Edge:
    """Return an edge that answers payloads with a package's graphs, or with the torch model of a config or checkpoint.

    Args:
        package: folder of a package; with a config or checkpoint, their model must be the packaged one.
        config: config of splitlearn test.
        ckpt_path: checkpoint of splitlearn fit.
        words: settings that override the config's, e.g. --model.model.net.at layer1.
        threads: number of threads of onnxruntime for one batch.
        number: number of the process, from 0; it uses the GPU of this number, modulo the number of GPUs.

    Raises:
        UsageError: if nothing is given, or the model is not that of the package.
    """
    if config is None and ckpt_path is None:
        if package is None:
            raise UsageError(
                "serve takes --package DIR, or the model in torch: --config FILE, --ckpt_path FILE or both"
            )
        from splitlearn.runtime.edge import OnnxEdge

        graphs = OnnxEdge(package, threads)
        graphs.warm_up()
        return graphs
    import torch

    edge = _in_torch(package, config, ckpt_path, words)
    if count := torch.cuda.device_count():
        edge.model.to(f"cuda:{number % count}")
    edge.warm_up()
    return edge


def _in_torch(package: Path | None, config: Path | None, ckpt_path: Path | None, words: Sequence[str]) -> TorchEdge:
    """Return the edge of a config or checkpoint, on the CPU; raises as `edge_of`."""
    from splitlearn.config.packaged import trained
    from splitlearn.runtime.package_file import Package
    from splitlearn.runtime.torch_edge import TorchEdge

    found = trained(config, ckpt_path, None, words)
    read = None if package is None else Package(package)
    edge = TorchEdge(found.model, found.answers, None if read is None else read.picture)
    if read is not None and read.fingerprint != edge.fingerprint:
        raise UsageError(f"the model of {config or ckpt_path} is not that of {package}: package it again")
    return edge


def _fingerprint(package: Path | None, config: Path | None, ckpt_path: Path | None, words: Sequence[str]) -> str:
    """Return the fingerprint of the model that processes will run; raises as `edge_of`."""
    if config is not None or ckpt_path is not None:
        return _in_torch(package, config, ckpt_path, words).fingerprint
    if package is None:
        raise UsageError(NOTHING)
    from splitlearn.runtime.package_file import Package

    return Package(package).fingerprint


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> ssl.SSLContext | None:
    from splitlearn.runtime.security import server_context

    if (cert is None) != (key is None):
        raise UsageError("--tls_cert and --tls_key go together")
    if cert is None or key is None:
        if client_ca is not None:
            raise UsageError("--tls_client_ca takes --tls_cert and --tls_key")
        return None
    return server_context(cert, key, client_ca)


async def _run(server: EdgeServer, http_host: str, http_port: int | None) -> None:
    """Run the server until a signal, then stop after all requests are answered."""
    from splitlearn.runtime.event_loop import on_stop_signals
    from splitlearn.runtime.health import HealthServer

    await server.start()
    loop = asyncio.get_running_loop()
    stops: list[asyncio.Task[None]] = []

    def stop(signum: int) -> None:
        if stops:
            os._exit(128 + signum)
        print("stopping: what is held is answered first; a second signal ends at once", file=sys.stderr, flush=True)
        stops.append(loop.create_task(server.stop()))

    on_stop_signals(loop, stop)
    with ExitStack() as stack:
        where = f"{server.host}:{server.port}"
        if http_port is not None:
            health = stack.enter_context(HealthServer(server, http_host, http_port))
            where += f", http://{http_host}:{health.port}/healthz and /metrics"
        print(f"serving {server.fingerprint.hex()[:12]}… at {where}", flush=True)
        await server.wait()
    answered = sum(number for (outcome, *_), number in server.statistics.requests.items() if outcome == "answered")
    print(f"stopped; {answered:,} requests answered", flush=True)
