"""`splitlearn send`."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from splitlearn.config.messages import UsageError
from splitlearn.config.options import instance, make_folder

if TYPE_CHECKING:
    from splitlearn.runtime.client import EdgeClient
    from splitlearn.runtime.device import Device
    from splitlearn.runtime.device_stream import DeviceStream
    from splitlearn.runtime.package_file import Package
    from splitlearn.runtime.pictures import Picture
    from splitlearn.runtime.rate_control import RatePolicy
    from splitlearn.runtime.sending import Compresses
    from splitlearn.runtime.sent import Sent
    from splitlearn.runtime.torch_device import TorchDevice

Half = Union["Device", "TorchDevice"]
Act = Callable[[Callable[["Sent"], None]], Awaitable[list["Sent"]]]
Chosen = int | str | None  # by --rate
STREAM = {"margin": 0.0, "key_every": 250, "key_bytes": None, "skip": 0.0}  # usual values
TELL_EVERY_S = 1.0
GO_ON = "the same command goes on where it was"


def send(
    words: Sequence[str],
    package: Path,
    to: str,
    images: Path | None = None,
    video: Path | None = None,
    out: Path = Path("runs/send"),
    rate: int | str | None = None,
    budget: int | None = None,
    policy: str | None = None,
    deadline_ms: float | None = None,
    interval_ms: float | None = None,
    margin: float = 0.0,
    key_every: int | None = 250,
    key_bytes: int | None = None,
    skip: float = 0.0,
    token_file: Path | None = None,
    tls: bool = False,
    tls_ca: Path | None = None,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    insecure: bool = False,
    patience_s: float = 30.0,
    config: Path | None = None,
    ckpt_path: Path | None = None,
) -> None:
    """Send pictures from a device to an edge server, and write its answers and the latency of each.

    Runs without torch, unless the package's device half needs it. After a kill, the same command goes on where it was.

    Args:
        words: further settings of the config, as in splitlearn test.
        package: folder that splitlearn package has written.
        to: HOST:PORT of splitlearn serve.
        images: folder of images, sub-folders included.
        video: a video file. Its frames are sent as a stream: key frames, and what has changed since the frame before.
            With --policy, --budget, --rate picture or --key_every 1 each is sent by itself, as images are.
        out: folder for predictions.csv, results.json and, for detectors, boxes.csv.
        rate: number of the rate of a bank, or picture for images as files; by default the best rate.
        budget: largest payload in bytes; the best rate within it is taken for each image.
        policy: class that chooses the rate of each image by link and deadline, splitlearn.runtime.DeadlinePolicy say;
            a --rate is its argument. Without --interval_ms, each image comes after the answer to the one before.
        deadline_ms: time for each answer, from the coming of the image on, the device's half included; by default any.
            What cannot be in time is not sent, and counts as failed.
        interval_ms: time between two images, as a camera gives them; by default each comes when the device is ready.
        margin: share of a quantizer's step, 0 to 0.5, by which a value must leave its level to get another symbol in
            the next frame, 0.15 say; with 0, answers are those of the frames by themselves.
        key_every: most frames from one key frame to the next; null for key frames only where the server needs one.
        key_bytes: most bytes of frames after a key frame, before the next one.
        skip: share of a frame's symbols, 0 to 1, 0.001 say; a frame in which no more have changed is not coded, and
            gets the answer of the one before.
        token_file: file with the server's token; readable only by its owner.
        tls: speak TLS.
        tls_ca: PEM file of the authorities of the server's certificate, or the certificate itself; includes --tls.
        tls_cert: PEM file of this device's certificate, if the server asks for one.
        tls_key: PEM file of its key.
        insecure: allow a token to another machine without TLS.
        patience_s: how long a broken link may take to come back.
        config: config of the model, for a package whose device half needs torch.
        ckpt_path: checkpoint of the model, likewise.
    """
    if (images is None) == (video is None):
        raise UsageError("send takes either --images FOLDER or --video FILE")
    if policy is not None and deadline_ms is None:
        raise UsageError("a policy decides by the time that is left: give --deadline_ms too")
    if policy is not None and budget is not None:
        raise UsageError("take --policy or --budget, not both: a policy chooses the rate")
    if rate is not None and budget is not None:
        raise UsageError("take --rate or --budget, not both")
    for option, value in (("deadline_ms", deadline_ms), ("interval_ms", interval_ms), ("patience_s", patience_s)):
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{option} takes a number above 0, got {value}")
    by_itself = policy is not None or budget is not None or rate == "picture" or key_every == 1
    options = {"margin": margin, "key_every": key_every, "key_bytes": key_bytes, "skip": skip}
    _check_stream(options, images is not None, by_itself)
    host, port = _address(to)
    from splitlearn.runtime.client import EdgeClient
    from splitlearn.runtime.errors import UnreachableError
    from splitlearn.runtime.event_loop import run_until_stopped
    from splitlearn.runtime.package_file import Package
    from splitlearn.runtime.pictures import frames_of, pictures_of
    from splitlearn.runtime.security import check_sending, client_context, read_token
    from splitlearn.runtime.sending import WINDOW, Pace, send_pictures
    from splitlearn.runtime.sent import Journal, SendError, summary, write_results
    from splitlearn.runtime.stream_sending import send_video

    secure = tls or tls_ca is not None or tls_cert is not None
    if not insecure:
        check_sending(host, secure, token_file is not None)
    read = Package(package)
    _check_rates(read, rate, budget, config is not None or ckpt_path is not None)
    device = _device(read, config, ckpt_path, words)
    stream = None if images is not None or by_itself else _stream(device, options, rate)
    chosen = _policy(policy, read, device, rate, budget)
    pace = Pace(deadline_ms, interval_ms, 1 if policy is not None and interval_ms is None else WINDOW)
    client = EdgeClient(
        host,
        port,
        read.fingerprint,
        token=None if token_file is None else read_token(token_file),
        ssl_context=client_context(tls_ca, tls_cert, tls_key) if secure else None,
        patience_s=patience_s,
    )
    pictures: Iterable[Picture] = pictures_of(images) if images is not None else frames_of(video or Path())
    source = str((images or video or Path()).absolute())
    noun = "images" if images is not None else "frames"
    about = {"package": read.fingerprint, "source": source}
    times = {"deadline_ms": deadline_ms, "interval_ms": interval_ms}
    make_folder(out)
    choices = {"rate": rate, "budget": budget, "policy": policy, **times, **({} if stream is None else options)}
    with Journal(out, {**about, **choices}) as journal:
        started = time.monotonic()
        try:
            if stream is None:
                act: Act = partial(send_pictures, device, client, pictures, journal, chosen, pace)
            else:
                act = partial(send_video, device, stream, client, pictures, journal, pace)
            rows = run_until_stopped(_sent(client, act, noun))
        except UnreachableError as error:
            raise SendError(f"{error}; {GO_ON}") from error
        figures: dict[str, Any] = summary(rows, time.monotonic() - started, journal.done)
        write_results(journal, [row.name for row in rows], figures | about, read.class_names)
    _report(figures, out, noun)


def _address(to: str) -> tuple[str, int]:
    host, _, port = to.rpartition(":")
    if not host or not port.isdigit() or int(port) >= 2**16:
        raise UsageError(f"--to takes HOST:PORT, such as 10.0.0.5:7878, got {to!r}")
    return host.strip("[]"), int(port)


def _check_stream(options: Mapping[str, Any], are_images: bool, by_itself: bool) -> None:
    """Raise UsageError if options of a stream are given, and there is none."""
    usual = STREAM if are_images or options["key_every"] != 1 else STREAM | {"key_every": 1}
    given = [f"--{name}" for name, value in options.items() if value != usual[name]]
    if given and are_images:
        raise UsageError(f"{given[0]} goes with --video: images have no frame before")
    if given and by_itself:
        raise UsageError(
            f"{given[0]} is of a stream, and with --policy, --budget, --rate picture or --key_every 1 each frame is "
            "sent by itself: leave it out"
        )


def _stream(device: Half, options: Mapping[str, Any], rate: Chosen) -> DeviceStream:
    """Return the stream of a video."""
    try:
        return device.stream(**options, rate=rate if isinstance(rate, int) else None)
    except ValueError as error:
        is_of_option = str(error).partition(" ")[0] in options  # a number out of its range
        raise UsageError(f"--{error}" if is_of_option else f"--video: {error}") from error


def _check_rates(package: Package, rate: Chosen, budget: int | None, in_torch: bool) -> None:
    """Raise UsageError if no image could be sent so."""
    count = len(package.rates)
    if isinstance(rate, str) and rate != "picture":
        known = ", ".join(map(str, range(count))) + " or picture" * (package.picture is not None)
        raise UsageError(f"--rate takes a rate of this package, {known}, got {rate!r}")
    if rate == "picture" and package.picture is None:
        raise UsageError("--rate picture: this package has no image codec; package the model with --picture.format")
    if isinstance(rate, int) and not 0 <= rate < count:
        raise UsageError(f"--rate: this package has rates 0…{count - 1}, got {rate}")
    if budget is not None and budget < 1:
        raise UsageError(f"--budget takes 1 byte or more, got {budget}")
    if budget is not None and in_torch and count == 1:
        raise UsageError("--budget takes a bank of rates; this model has a single one")


def _device(package: Package, config: Path | None, ckpt_path: Path | None, words: Sequence[str]) -> Half:
    """Return the device's half, in torch if a config or checkpoint is given."""
    if config is None and ckpt_path is None:
        from splitlearn.runtime.device import Device

        found = Device(package)
        found.warm_up()
        return found
    from splitlearn.config.packaged import trained
    from splitlearn.runtime.fingerprint import fingerprint_of
    from splitlearn.runtime.torch_device import TorchDevice

    model = trained(config, ckpt_path, None, words).model
    if fingerprint_of(model) != package.fingerprint:
        raise UsageError(f"the model of {config or ckpt_path} is not that of {package.folder}: package it again")
    return TorchDevice(model, package.preparation, package.picture)


def _policy(path: str | None, package: Package, device: Compresses, rate: Chosen, budget: int | None) -> RatePolicy:
    """Return what decides about each picture: the class at an import path, or else the same for all."""
    from splitlearn.runtime import rate_control
    from splitlearn.runtime.decisions import AsPicture, AtRate, WithinBudget

    if path is None:
        if isinstance(rate, str):
            return rate_control.Always(AsPicture())
        return rate_control.Always(AtRate(rate) if budget is None else WithinBudget(budget))
    arguments: dict[str, Any] = {} if rate is None else {"rate": rate}
    known: dict[str, Any] = {"rates": package.rates, "has_exits": device.has_exits}
    if package.picture is not None and package.picture.measured is not None:
        known |= {"rates": package.picture.rates, "picture": package.picture.measured}
    return instance("policy", path, rate_control, rate_control.RatePolicy, **known, **arguments)


async def _sent(client: EdgeClient, act: Act, noun: str) -> list[Sent]:
    from splitlearn.runtime.sent import FAILED

    counts = {"all": 0, "failed": 0}
    last = time.monotonic()

    def tell(row: Sent) -> None:
        nonlocal last
        counts["all"] += 1
        counts["failed"] += row.outcome == FAILED
        if row.outcome == FAILED and counts["failed"] <= 3:
            print(f"{row.name} failed: {row.error}", file=sys.stderr)
        if time.monotonic() - last > TELL_EVERY_S:
            last = time.monotonic()
            print(f"{counts['all']:,} {noun}, {counts['failed']:,} failed", file=sys.stderr)

    async with client:
        return await act(tell)


def _report(figures: dict[str, Any], out: Path, noun: str) -> None:
    from splitlearn.runtime.sent import KINDS, PARTS, PERCENTILES, SendError

    count, failed = figures["send/images"], figures["send/failed"]
    print(
        f"{count:,} {noun}: {figures['send/answered']:,} answered, {figures['send/exited']:,} exited, {failed:,} failed"
    )
    if "send/bytes_per_image" in figures:
        speed, size = figures["send/images_per_second"], figures["send/bytes_per_image"]
        print(f"{size:,.1f} bytes per {noun.removesuffix('s')}, {speed:,.1f} {noun} per second")
    if "send/bytes_per_second" in figures:
        print(f"{figures['send/bytes_per_second']:,.0f} bytes per second of video")
    for kind in KINDS:
        if f"send/bytes_per_{kind}_frame" in figures:
            number, size = figures[f"send/{kind}_frames"], figures[f"send/bytes_per_{kind}_frame"]
            print(f"  {number:,} {kind} frames of {size:,.1f} bytes")
    if "send/total_ms_p50" in figures:
        print("latency, ms    p50      p95      p99")
    for part in PARTS:
        if f"send/{part}_p50" in figures:
            values = "".join(f"{figures[f'send/{part}_p{p}']:9.2f}" for p in PERCENTILES)
            print(f"  {part.removesuffix('_ms'):8}{values}")
    print(f"{out / 'predictions.csv'}, {out / 'results.json'}")
    if failed:
        raise SendError(f"{failed} of {count} {noun} failed: see the column error in {out / 'predictions.csv'}")
