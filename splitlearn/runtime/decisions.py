"""What can be done with an image: send it at a rate or as a file, let an exit answer, or leave it out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from splitlearn.runtime.exit_prediction import ExitPrediction
from splitlearn.runtime.protocol import Kind

Made = bytes | ExitPrediction


class DeviceHalf(Protocol):
    """What carries decisions out: a `Device` or `TorchDevice`."""

    def compress(self, image: NDArray[Any], rate: int | None = None, budget: int | None = None) -> Made:
        """Return the payload, or an exit's own prediction."""

    def exited(self, image: NDArray[Any]) -> ExitPrediction | None:
        """Return the prediction of a confident exit; None if there is none."""

    def picture(self, image: NDArray[Any]) -> bytes:
        """Return the image as a file."""

    def local_answer(self, image: NDArray[Any]) -> ExitPrediction:
        """Return an exit's prediction, whatever its confidence."""


class Decision(ABC):
    """What is done with one image.

    Attributes:
        rate: number of the rate; None if there is none, or the image itself decides.
        kind: of what is sent.
        note: why the image is not sent, for the report; "" if it is sent.
    """

    rate: int | None = None
    kind: Kind = Kind.PAYLOAD
    note: str = ""

    @abstractmethod
    def carry_out(self, device: DeviceHalf, image: NDArray[Any]) -> Made:
        """Return the payload to send, or the device's own answer.

        Args:
            device: the device's half.
            image: uint8 `(H, W, 3)`, prepared.

        Raises:
            ValueError: if the image is left out; the message says why.
        """


@dataclass(frozen=True)
class AtRate(Decision):
    """Send at a rate; confident exits still answer by themselves.

    Args:
        rate: its number; None for the best one.
    """

    rate: int | None = None

    def carry_out(self, device: DeviceHalf, image: NDArray[Any]) -> Made:
        """Return the payload, or the prediction of a confident exit."""
        return device.compress(image, self.rate)


@dataclass(frozen=True)
class WithinBudget(Decision):
    """Send at the best rate whose payload fits.

    Args:
        budget: largest payload in bytes.
    """

    budget: int

    def carry_out(self, device: DeviceHalf, image: NDArray[Any]) -> Made:
        """Return the payload, or the prediction of a confident exit; raises BudgetError if no rate fits."""
        return device.compress(image, None, self.budget)


@dataclass(frozen=True)
class AsPicture(Decision):
    """Send the image itself as a file, for the whole network on the server; confident exits still answer themselves.

    A device without exits runs nothing of the network; one with exits runs the head as far as its last exit.
    """

    kind = Kind.PICTURE

    def carry_out(self, device: DeviceHalf, image: NDArray[Any]) -> Made:
        """Return the file, or the prediction of a confident exit."""
        return device.exited(image) or device.picture(image)


@dataclass(frozen=True)
class OnDevice(Decision):
    """Let an exit answer, whatever its confidence.

    Args:
        note: why.
    """

    note: str

    def carry_out(self, device: DeviceHalf, image: NDArray[Any]) -> Made:
        """Return the exit's prediction."""
        return device.local_answer(image)


@dataclass(frozen=True)
class LeaveOut(Decision):
    """Do not send the image, since its answer would come too late and delay those behind it.

    Args:
        note: why.
    """

    note: str

    def carry_out(self, device: DeviceHalf, image: NDArray[Any]) -> Made:
        """Raise ValueError with the reason."""
        raise ValueError(self.note)
