"""One row of the books: what one invocation used."""

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

Status = Literal["succeeded", "failed", "cancelled", "rejected", "platform"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one invocation used, fixed once it is over.

    `device_class`: "cpu" or the GPU's name. `started_at_us`: UTC microseconds
    since the epoch; it decides the day and month of the bill. `busy_us`: the
    device computed; `held_us`: it was held for the call, `busy_us` included;
    `restore_us`: what the call is charged for bringing the replica back, not
    part of `held_us`. All are wall time of one device; `devices` is how many
    the replica held, and what is booked is time x devices.
    `status`: "rejected" never ran; "platform" was lost to the platform's own
    fault. `error`: the error's class name or "". `idempotency_key`: "" when
    the caller gave none.

    `device`: which one ("cpu", "gpu:0", "gpu:0+gpu:1"); `lease`: the holding of
    devices by a replica that the call was part of, "" when that is not known;
    `key_id`: the API key; `workflow`, `run`, `step`: of a run, "" otherwise.

    Raises `ValueError` for a value outside these limits: no such row may be built.
    """

    invocation_id: str
    tenant: str
    caller: str
    function: str
    revision: str
    device_class: str
    started_at_us: int
    busy_us: int
    held_us: int
    restore_us: int
    status: Status
    error: str = ""
    idempotency_key: str = ""
    device: str = ""
    lease: str = ""
    devices: int = 1
    key_id: str = ""
    workflow: str = ""
    run: str = ""
    step: str = ""

    def __post_init__(self) -> None:
        check_texts(_texts(self), _REQUIRED_TEXTS, _OPTIONAL_TEXTS)
        check_integer("busy_us", self.busy_us, MAX_DURATION_US)
        check_integer("held_us", self.held_us, MAX_DURATION_US)
        check_integer("restore_us", self.restore_us, MAX_DURATION_US)
        check_integer("started_at_us", self.started_at_us, MAX_INSTANT_US)
        check_integer("devices", self.devices, MAX_DEVICES, least=1)
        check_choice("status", self.status, STATUSES)


_REQUIRED_TEXTS = ("invocation_id", "tenant", "function", "device_class")
_OPTIONAL_TEXTS = (
    "caller",
    "revision",
    "error",
    "idempotency_key",
    "device",
    "lease",
    "key_id",
    "workflow",
    "run",
    "step",
)
_texts = attrgetter(*_REQUIRED_TEXTS, *_OPTIONAL_TEXTS)
