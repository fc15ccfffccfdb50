"""Choice of the cut and the compression rate: latency of every way to divide the work, from measured profiles.

    device + encode + link + decode + edge        link = round trip + 8 · bytes / bandwidth

Bytes are those of the payload and of the answer, of their frames, and of the headers of TCP and IP. The bandwidth is
the same in both directions.

Queues, other users of link and server, and the time of operating systems between two pieces of work are left out.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from splitlearn.latencies import CoderLatency, LatencyError, LatencyProfile
from splitlearn.runtime.link import in_packets, wire_bytes
from splitlearn.runtime.protocol import CHECKSUM_BYTES

ON_DEVICE, PICTURE, SPLIT = "device", "picture", "split"


@dataclass(frozen=True)
class LinkPlan:
    """The link that a plan is made for.

    Attributes:
        bits_per_second: bandwidth, to the edge server and back.
        round_trip_ms: round-trip time of an empty packet.

    Raises:
        ValueError: if the bandwidth is not positive, or the round trip negative.
    """

    bits_per_second: float
    round_trip_ms: float

    def __post_init__(self) -> None:
        if not (0 < self.bits_per_second < math.inf and 0 <= self.round_trip_ms < math.inf):
            raise ValueError(
                f"a link has a positive bandwidth and a round trip, got {self.bits_per_second} bit/s and "
                f"{self.round_trip_ms} ms"
            )

    def latency_ms(self, payload_bytes: float, answer_bytes: float) -> float:
        """Return the time on the link of a request with this payload, and of an answer of this size with its frame."""
        return self.round_trip_ms + 8e3 * (wire_bytes(payload_bytes) + in_packets(answer_bytes)) / self.bits_per_second


@dataclass(frozen=True)
class Choice:
    """One way to divide the work; milliseconds are medians.

    Attributes:
        kind: `ON_DEVICE`, `PICTURE` or `SPLIT`.
        at: name of the module before the cut, or of the image format; empty if all is on the device.
        rate: index of the compression rate; None if there is no trained bottleneck, or no cut.
        device_ms: time of head and encoder, or of the whole network.
        encode_ms: time of encoding, from latents or pixels to the payload.
        link_ms: time on the link; None if the payload size is not known.
        decode_ms: time of decoding, from the payload to latents or pixels.
        edge_ms: time of decoder and tail, or of the whole network.
        bytes_per_image: payload size; None if not known, 0 if nothing is sent.
        score: measured quality, higher is better; None if not known.
    """

    kind: str
    at: str
    rate: int | None
    device_ms: float
    encode_ms: float
    link_ms: float | None
    decode_ms: float
    edge_ms: float
    bytes_per_image: float | None
    score: float | None = None

    @property
    def total_ms(self) -> float | None:
        """Return the time from image to answer; None if the payload size is not known."""
        if self.link_ms is None:
            return None
        return self.device_ms + self.encode_ms + self.link_ms + self.decode_ms + self.edge_ms

    @property
    def name(self) -> str:
        """Return the name of the choice, as shown to users."""
        if self.kind == ON_DEVICE:
            return "all on the device"
        if self.kind == PICTURE:
            return f"send {self.at}, all on the server"
        return f"cut at {self.at}" + ("" if self.rate is None else f", rate {self.rate}")


@dataclass(frozen=True)
class Plan:
    """All choices for one link.

    Attributes:
        link: the link.
        choices: the whole network on the device, then pictures, then cuts in the order of the network.
        deadline_ms: longest time for an answer; None if there is none.
    """

    link: LinkPlan
    choices: tuple[Choice, ...]
    deadline_ms: float | None = None

    @property
    def ranked(self) -> list[Choice]:
        """Return the choices whose latency is known, fastest first."""
        known = [choice for choice in self.choices if choice.total_ms is not None]
        return sorted(known, key=lambda choice: choice.total_ms or 0.0)

    @property
    def best(self) -> Choice:
        """Return the fastest choice."""
        return self.ranked[0]

    @property
    def fastest_split(self) -> Choice | None:
        """Return the fastest cut; None if no cut has a trained bottleneck."""
        return next((choice for choice in self.ranked if choice.kind == SPLIT), None)

    @property
    def best_score(self) -> Choice | None:
        """Return the cut with the highest score that meets the deadline; None if none does, or no score is known."""
        scored = [c for c in self.ranked if c.kind == SPLIT and c.score is not None and self.meets(c)]
        return max(scored, key=lambda choice: choice.score or 0.0, default=None)

    def meets(self, choice: Choice) -> bool:
        """Return whether a choice is known to meet the deadline; True for any known latency if there is none."""
        return choice.total_ms is not None and (self.deadline_ms is None or choice.total_ms <= self.deadline_ms)

    def verdict(self) -> str:
        """Return a recommendation, in sentences."""
        best, split = self.best, self.fastest_split
        told = [f"Fastest: {best.name}, {best.total_ms:.1f} ms."]
        if split is None:
            told.append(
                "Whether splitting pays is not known: no cut here has a trained bottleneck, so the bytes to send are "
                "unknown; train one, then profile its config or package."
            )
        elif best.kind != SPLIT:
            told.append(
                f"Splitting does not pay on this link: {split.name} takes {split.total_ms:.1f} ms, "
                f"{(split.total_ms or 0) / (best.total_ms or 1):.2f} times as long."
            )
        if self.deadline_ms is not None:
            count = sum(map(self.meets, self.choices))
            if not count:
                told.append(f"Nothing is known to meet the deadline of {self.deadline_ms:g} ms.")
            else:
                told.append(
                    f"{count} of {len(self.choices)} {'meets' if count == 1 else 'meet'} the deadline of "
                    f"{self.deadline_ms:g} ms."
                )
        if (scored := self.best_score) is not None and scored is not split:
            within = "" if self.deadline_ms is None else " within the deadline"
            told.append(
                f"Highest score of a cut{within}: {scored.name}, {scored.score:.4g} in {scored.total_ms:.1f} ms."
            )
        return " ".join(told)


def make_plan(
    device: LatencyProfile,
    edge: LatencyProfile,
    link: LinkPlan,
    deadline_ms: float | None = None,
    models: Collection[str] | None = None,
) -> Plan:
    """Return the latency of every way to divide a network between two machines.

    Cuts without a trained bottleneck are listed, but what they send is unknown.

    Args:
        device: profile of the network on the device.
        edge: profile of the same network on the edge server.
        link: the link between them.
        deadline_ms: longest time for an answer; None if there is none.
        models: fingerprints of the trained models to compare; None for all that both profiles contain.

    Raises:
        LatencyError: if the profiles are of different networks, or lack one of the models.
    """
    device.check_same(edge)
    mine, others = _by_rate(device), _by_rate(edge)
    for model in models or ():
        for profile, owner in ((mine, "device"), (others, "edge")):
            if not any(key[0] == model for key in profile):
                raise LatencyError(
                    f"the {owner}'s profile does not know this model: profile its package or config on both machines"
                )
    coded = [key for key in mine if key in others and (models is None or key[0] in models)]
    choices = [
        _on_device(device),
        *_pictures(device, edge, link),
        *_bare(device, edge, {mine[key].at for key in coded}),
    ]
    choices += [_split(mine[key], others[key], link, edge.answer_bytes) for key in coded]
    order = {each.name: place for place, each in enumerate(device.modules)}
    kinds = (ON_DEVICE, PICTURE, SPLIT)
    choices.sort(key=lambda c: (kinds.index(c.kind), order.get(c.at, len(order)) if c.kind == SPLIT else 0))
    return Plan(link, tuple(choices), deadline_ms)


def _by_rate(profile: LatencyProfile) -> dict[tuple[str, int], CoderLatency]:
    return {(each.model, each.rate): each for each in profile.coders}


def _on_device(device: LatencyProfile) -> Choice:
    return Choice(ON_DEVICE, "", None, device.whole.p50_ms, 0.0, 0.0, 0.0, 0.0, 0.0)


def _pictures(device: LatencyProfile, edge: LatencyProfile, link: LinkPlan) -> list[Choice]:
    decoders = {each.name: each.decode.p50_ms for each in edge.pictures}
    return [
        Choice(
            PICTURE,
            each.name,
            None,
            0.0,
            each.encode.p50_ms,
            link.latency_ms(each.bytes_per_image + CHECKSUM_BYTES, edge.answer_bytes),
            decoders[each.name],
            edge.whole.p50_ms,
            each.bytes_per_image,
        )
        for each in device.pictures
        if each.name in decoders
    ]


def _bare(device: LatencyProfile, edge: LatencyProfile, coded: Collection[str]) -> list[Choice]:
    """Return the cuts without a trained bottleneck."""
    tails = {each.name: each.after.p50_ms for each in edge.modules}
    return [
        Choice(SPLIT, each.name, None, each.until.p50_ms, 0.0, None, 0.0, tails[each.name], None)
        for each in device.modules
        if each.name in tails and each.name not in coded
    ]


def _split(device: CoderLatency, edge: CoderLatency, link: LinkPlan, answer_bytes: float) -> Choice:
    return Choice(
        SPLIT,
        device.at,
        device.rate,
        device.device.p50_ms,
        device.encode.p50_ms,
        link.latency_ms(device.bytes_per_image, answer_bytes),
        edge.decode.p50_ms,
        edge.edge.p50_ms,
        device.bytes_per_image,
        device.score if device.score is not None else edge.score,
    )
