"""`splitlearn plan`: predicted latency of every way to divide a network."""

from __future__ import annotations

from pathlib import Path

from splitlearn.config.messages import UsageError
from splitlearn.config.units import bandwidth as bits_per_second
from splitlearn.config.units import duration


def plan(
    device: Path,
    edge: Path,
    bandwidth: str,
    rtt: str,
    deadline: str | None = None,
    package: Path | None = None,
    config: Path | None = None,
    ckpt_path: Path | None = None,
    out: Path = Path("runs/plan"),
) -> None:
    """Predict the latency of every cut and rate for a device, an edge server and a link, and name the best.

    The latency of a cut is the sum of the times for head and encoder, encoding, link, decoding, and decoder and tail.
    For comparison, two other ways are listed: the device runs the whole network, or it sends the picture and the edge
    server runs the whole network. Queues and other traffic are not included.

    Args:
        device: latencies.json that splitlearn profile --time wrote on the device.
        edge: latencies.json that splitlearn profile --time wrote on the edge server.
        bandwidth: bandwidth of the link to the edge server, such as 2Mbps or 500kbps.
        rtt: round-trip time of the link, such as 20ms.
        deadline: longest time for an answer, such as 100ms; by default none.
        package: folder written by splitlearn package, to compare only its rates; both files must contain its times.
        config: config of a trained model, to compare only its rates; both files must contain its times.
        ckpt_path: checkpoint of the config's model.
        out: folder for plan.csv and plan.png.
    """
    bits, round_trip_ms = bits_per_second("--bandwidth", bandwidth), duration("--rtt", rtt)
    deadline_ms = None if deadline is None else duration("--deadline", deadline, 0)
    if package is not None and (config or ckpt_path) is not None:
        raise UsageError("plan takes --package FOLDER or --config FILE (with --ckpt_path FILE), not both")
    from splitlearn.latencies import LatencyProfile
    from splitlearn.reporting.plan import plan_table, write_plan
    from splitlearn.reporting.terminal import print_whole
    from splitlearn.runtime.planner import LinkPlan, make_plan

    mine, others = LatencyProfile.read(device), LatencyProfile.read(edge)
    models = _models(package, config, ckpt_path)
    found = make_plan(mine, others, LinkPlan(bits, round_trip_ms), deadline_ms, models)
    title = f"{mine.network}, {bandwidth}, round trip {rtt}"
    write_plan(found.choices, title, deadline_ms, out)
    print_whole(plan_table(found.choices, found.best, title, deadline_ms))
    print(f"device: {mine.conditions}\nedge:   {others.conditions}")
    if mine.whole_has_bottleneck:
        print("The whole network is that of a package, which contains its bottleneck.")
    print(found.verdict())
    print(f"{out / 'plan.csv'} and {out / 'plan.png'} written")


def _models(package: Path | None, config: Path | None, ckpt_path: Path | None) -> list[str] | None:
    """Return the fingerprint of the model that is asked for; None for all."""
    if package is not None:
        from splitlearn.runtime.package_file import Package

        return [Package(package).fingerprint]
    if config is None and ckpt_path is None:
        return None
    from splitlearn.config.packaged import trained
    from splitlearn.runtime.fingerprint import fingerprint_of

    return [fingerprint_of(trained(config, ckpt_path).model)]
