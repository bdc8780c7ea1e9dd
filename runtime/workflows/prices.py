"""What calls cost, as the engine needs to know it."""

from __future__ import annotations

from collections.abc import Callable

from dsfn.billing.rates import RateCard
from dsfn.billing.usage import Usage
from dsfn.functions.values import dataclass
from dsfn.runtime.config import Limits
from dsfn.runtime.model import Revision

_CPU = "cpu"


@dataclass(frozen=True, slots=True)
class Prices:
    """What a usage row costs, and what one call of a revision can cost `at_most`, in nano-units
    of `currency`."""

    currency: str
    of: Callable[[Usage], int]
    at_most: Callable[[Revision], int]


def prices_of(
    in_force: Callable[[], RateCard], limits: Limits, gpu_class: Callable[[], str]
) -> Prices:
    """The prices of a node. `in_force`: the rates as of now; `gpu_class`: the device class of
    its GPUs."""
    restore_us = int(limits.start_timeout_s * 1_000_000)

    def at_most(revision: Revision) -> int:
        options = revision.options
        device_class, devices = gpu_class() if options.gpu else _CPU, max(1, int(options.gpu))
        # Code that is told to stop is given some time for it.
        held_us = int((options.timeout_s + limits.cancel_grace_s) * 1_000_000)
        return in_force().most_nano(device_class, held_us * devices, restore_us * devices)

    return Prices(in_force().currency, lambda usage: in_force().cost_nano(usage), at_most)
