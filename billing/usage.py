"""One row of the books: what one invocation used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Status = Literal["succeeded", "failed", "cancelled", "rejected", "platform"]
STATUSES: tuple[str, ...] = get_args(Status)

MAX_TEXT_LENGTH = 1024
# The last microsecond of the year 9999.
MAX_INSTANT_US = 253_402_300_799_999_999
# About nine years: the sums of a month then stay far inside 64 bits.
MAX_DURATION_US = 2**48


@dataclass(frozen=True, slots=True)
class Usage:
    """What one invocation used, fixed once it is over.

    `device_class`: "cpu" or the GPU's name. `started_at_us`: UTC microseconds
    since the epoch; it decides the day and month of the bill. `busy_us`: the
    device computed; `held_us`: it was held for the call, `busy_us` included;
    `restore_us`: it was held to bring the replica back, not part of `held_us`.
    `status`: "rejected" never ran; "platform" was lost to the platform's own
    fault. `error`: the error's class name or "". `idempotency_key`: "" when
    the caller gave none.

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

    def __post_init__(self) -> None:
        for name in _REQUIRED_TEXTS:
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty")
        for name in _TEXTS:
            _check_text(name, getattr(self, name))
        for name in _DURATIONS:
            _check_integer(name, getattr(self, name), MAX_DURATION_US)
        _check_integer("started_at_us", self.started_at_us, MAX_INSTANT_US)
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is not one of {', '.join(STATUSES)}")


_REQUIRED_TEXTS = ("invocation_id", "tenant", "function", "device_class")
_TEXTS = (*_REQUIRED_TEXTS, "caller", "revision", "error", "idempotency_key")
_DURATIONS = ("busy_us", "held_us", "restore_us")


def _check_text(name: str, value: str) -> None:
    if type(value) is not str or len(value) > MAX_TEXT_LENGTH or "\0" in value:
        raise ValueError(f"{name} must be text of at most {MAX_TEXT_LENGTH} characters")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} must be valid Unicode") from error


def _check_integer(name: str, value: int, limit: int) -> None:
    # bool is an int to Python and never a time to us.
    if type(value) is not int or not 0 <= value <= limit:
        raise ValueError(f"{name} must be a whole number from 0 to {limit}, not {value!r}")
