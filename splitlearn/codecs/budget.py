"""Choice of a compression rate by a budget of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class BudgetError(ValueError):
    """An image is larger than the byte budget at every rate."""


def payload_within(budget: int, rates: Iterable[int], encode: Callable[[int], bytes]) -> tuple[int, bytes]:
    """Return the first compression rate (its index) whose payload fits a budget, and that payload.

    Args:
        budget: largest payload in bytes.
        rates: indices of the compression rates, best first; each is tried only if those before it do not fit.
        encode: function from the index of a rate to the image's payload at this rate.

    Raises:
        BudgetError: if none fits; the message names the smallest payload.
    """
    sizes = []
    for rate in rates:
        payload = encode(rate)
        if len(payload) <= budget:
            return rate, payload
        sizes.append(len(payload))
    raise BudgetError(
        f"the image takes {min(sizes)} bytes even at the rate that is smallest for it, over the budget of {budget}: "
        f"allow {min(sizes)}, or add a lower rate to the bank"
    )
