"""One row of the books: a stretch of a device's time that is no call's."""

from __future__ import annotations

from operator import attrgetter
from typing import Literal, get_args

from dsfn.billing.checking import (
    MAX_DEVICES,
    MAX_DURATION_US,
    MAX_INSTANT_US,
    check_choice,
    check_integer,
    check_texts,
)
from dsfn.functions.values import dataclass

IntervalKind = Literal["held", "restore", "idle"]
Reason = Literal["", "start", "restore", "keep-warm", "idle", "fault"]
_KINDS: tuple[str, ...] = get_args(IntervalKind)
_REASONS: tuple[str, ...] = get_args(Reason)


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of the time for which a replica held its devices.

    A lease is one holding of devices by one replica: from the moment its load or
    unpark begins until it is parked or has ended. "held" is time of the lease as a
    whole; "restore" and "idle" are the parts of it that were no call's. Of a lease
    that is closed, to the microsecond:

        sum of "held" = held_us of its calls + sum of "restore" + sum of "idle"

    `id`: unique, "<lease>/<n>". `device`: "cpu", "gpu:0", "gpu:0+gpu:1"; `devices`:
    how many these are. `tenant`: who pays, "" for the platform. `duration_us`: wall
    time; what is booked is this x devices. `reason`: "keep-warm" where replicas are
    held because somebody asked for it. `closes`: this is the last "held" of its lease.

    Raises `ValueError` for a value outside these limits: no such row may be built.
    """

    kind: IntervalKind
    id: str
    lease: str
    device: str
    devices: int
    device_class: str
    function: str
    revision: str
    tenant: str
    started_at_us: int
    duration_us: int
    reason: Reason = ""
    closes: bool = False

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, _KINDS)
        check_texts(_texts(self), _REQUIRED_TEXTS, _OPTIONAL_TEXTS)
        check_integer("devices", self.devices, MAX_DEVICES, least=1)
        check_integer("started_at_us", self.started_at_us, MAX_INSTANT_US)
        check_integer("duration_us", self.duration_us, MAX_DURATION_US)
        check_choice("reason", self.reason, _REASONS)
        if type(self.closes) is not bool or (self.closes and self.kind != "held"):
            raise ValueError(f"closes must be a bool, and False for {self.kind!r}")


_REQUIRED_TEXTS = ("id", "lease", "device", "device_class", "function")
_OPTIONAL_TEXTS = ("revision", "tenant")
_texts = attrgetter(*_REQUIRED_TEXTS, *_OPTIONAL_TEXTS)
