"""`splitlearn plan`."""

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

    Device, encode, link, decode and edge are added up from measured profiles, beside the whole network on the device
    and pictures that are sent to it. Queues and other traffic are left out.

    Args:
        device: latencies.json of splitlearn profile --time, measured on the device.
        edge: the same of the edge server.
        bandwidth: of the link to the server, such as 2Mbps or 500kbps.
        rtt: round trip of the link, such as 20ms.
        deadline: time for an answer, such as 100ms; by default none.
        package: plan only this package of splitlearn package; both profiles must know it.
        config: plan only this config's trained model, likewise.
        ckpt_path: checkpoint of that model.
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
