"""What a ledger does, whatever keeps it: everything that happened exactly once, never changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from dsfn.billing.checkpoints import Checkpoint
from dsfn.billing.entry import Entry
from dsfn.billing.evidence import NO_EVIDENCE, Evidence
from dsfn.billing.interval import Interval
from dsfn.billing.issued import Documents, Issue
from dsfn.billing.posting import Posting
from dsfn.billing.rates.card import RateCard
from dsfn.billing.rates.table import CardTable
from dsfn.billing.reservation import Reservation
from dsfn.billing.selection import FIRST_MONTH, LAST_MONTH, Selection
from dsfn.billing.signing import SigningKey
from dsfn.billing.usage import Status, Usage
from dsfn.billing.verification import Verification
from dsfn.billing.verify import Books
from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class UsageSum:
    """What the rows of one revision, device class, status and UTC day add up to.

    `day`: days since 1970-01-01. Times are x devices. `padding_us`: what rounding up each
    request's time adds.
    """

    tenant: str
    function: str
    revision: str
    device_class: str
    status: Status
    day: int
    requests: int
    busy_us: int
    held_us: int
    restore_us: int
    padding_us: int = 0
    workflow: str = ""
    run: str = ""
    step: str = ""
    key_id: str = ""


class Crossing(NamedTuple):
    """A call that lies in more than one stretch of time. `sign`: -1 where it was taken back."""

    usage: Usage
    sign: int


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """A device class's time, whoever paid: held = requests + restore + idle."""

    device_class: str
    held_us: int
    requests_us: int
    restore_us: int
    idle_us: int

    def plus(self, other: DeviceTime) -> DeviceTime:
        """This and another time of the same device class."""
        return DeviceTime(
            self.device_class,
            self.held_us + other.held_us,
            self.requests_us + other.requests_us,
            self.restore_us + other.restore_us,
            self.idle_us + other.idle_us,
        )


@dataclass(frozen=True, slots=True)
class RecentCall:
    """What one call took. `status` is "succeeded" or "failed"."""

    revision: str
    device_class: str
    busy_us: int
    held_us: int
    restore_us: int
    status: Status


class Ledger(Protocol):
    """The books of a node, or of several.

    `post` and `close` belong to one thread; reads may run in any thread beside it.
    """

    def post(self, rows: Sequence[Posting]) -> None:
        """Writes all of `rows` or none; when it returns they survive `kill -9`.

        A row that is there already, field for field, is left as it is. Raises `Conflict`
        (with the row's `invocation_id` or `id`) for a row that is there with another body, for
        a second success under one idempotency key, and for money given back that was not set
        aside; `StorageFull` when the disk has no room.
        """

    def correct(self, invocation_id: str, replacement: Usage) -> None:
        """Takes the row of a call back and posts another in its place, with an id of its own.

        Raises `Conflict` when there is no such call, when it was corrected before by another,
        and when the time that its lease held would no longer be accounted for.
        """

    @property
    def closed_until_us(self) -> int:
        """The end of the last closed month, 0 while none is. What began before it and comes
        now is billed in the first open month."""

    @property
    def documents(self) -> Documents:
        """What was issued: invoices and credit notes, and the months that are closed."""

    def usage(self, invocation_id: str) -> Usage | None:
        """The row of one invocation."""

    def between(self, start_us: int, end_us: int) -> Iterator[Usage]:
        """The rows of calls that started in [start_us, end_us), by their start."""

    def usage_of_run(self, run: str) -> Iterator[Usage]:
        """The rows of all calls of a run, by their start."""

    def intervals(self, start_us: int, end_us: int) -> Iterator[Interval]:
        """The intervals that started in [start_us, end_us), by their start."""

    def sums(self, selection: Selection) -> list[UsageSum]:
        """The rows of calls that lie in a stretch of time and in one day, UTC, added up; the
        others that have a part in it are `crossing`. What was taken back counts negatively.
        Raises `UsageError` for too many by run or step."""

    def paddings(
        self, selection: Selection, card: RateCard, device_classes: Sequence[str]
    ) -> list[UsageSum]:
        """Of the rows of `sums` on some device classes: what is added when the time of each is
        rounded up to the increment of a card. All else is 0."""

    def build_paddings(self, limit: int) -> int:
        """Adds up for the cards in force what `paddings` otherwise reads in the rows: of the next
        rows that are not counted, at most `limit`. How many those were; 0 when all are. Rows that
        come after that are counted as they are posted."""

    def crossing(self, selection: Selection) -> Iterator[Crossing]:
        """The rows of calls that have a part in a stretch of time and do not lie in it whole,
        or not in one day."""

    def months(self) -> list[str]:
        """The months in which something is billed, in order."""

    def first_service_us(self, month: str) -> int | None:
        """The first day with usage that is billed in a month, as its first instant, or None."""

    def device_times(
        self, start_us: int, end_us: int, first: str = FIRST_MONTH, last: str = LAST_MONTH
    ) -> list[DeviceTime]:
        """For each device class, by name, the time in [start_us, end_us) that its devices were
        held, and what for, by the rows that are billed in the months from `first` to `last`. A
        lease that is open counts as held what its rows come to."""

    def start_closing(self, end_us: int) -> None:
        """Has whatever is posted from now on be billed in the month that begins at `end_us`, or in
        a later one, as if those before were closed already."""

    def issue(self, issue: Issue) -> None:
        """Keeps documents, their rows in the journal and the month that they close, with a
        checkpoint: all or nothing. When it returns they survive `kill -9`.

        Raises `Conflict` for what is there already with another body, `StorageFull`.
        """

    def recent(self, functions: Iterable[str], limit: int) -> dict[str, list[RecentCall]]:
        """The last calls of each function that ran and were not called off, newest first, at most
        `limit` of each."""

    def heads(self) -> dict[int, int]:
        """The number of the last row of each chain of the journal."""

    def calls_in(self, chain: int, after: int, until: int, limit: int) -> list[tuple[int, Entry]]:
        """The rows of a chain whose numbers are in (after, until] and that are calls, or take one
        back: the first `limit` of them in their order, with their numbers."""

    def balance(self, account: str, commodity: str) -> int:
        """What an account has: all that was debited to it less all that was credited."""

    def reservations_open(self, tenant: str) -> list[Reservation]:
        """The reservations of a tenant that are neither posted nor void, the oldest first."""

    def close_leases(self) -> None:
        """Closes the leases of a writer that was killed: no replica outlives it. For when all
        the rows that it owed are posted. Raises as `post`."""

    @property
    def unsigned_rows(self) -> int:
        """How many rows have come since the last checkpoint."""

    def checkpoint(self, key: SigningKey, now_us: int) -> Checkpoint | None:
        """Signs what the ledger has come to, and keeps that; None when nothing has come since the
        last time. Raises `StorageFull`, and `UsageError` when another key signed the last one."""

    def rotate(self, key: SigningKey, next_key: SigningKey, now_us: int) -> None:
        """Has another key sign from now on, which the one before names. Nothing happens when it
        does already. Raises `StorageFull`, and `UsageError` when another key signed the last
        checkpoint."""

    def checkpoints(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Checkpoints whose numbers are larger, with these, in order, as they are kept elsewhere,
        too."""

    def books(self) -> Books:
        """This ledger as a check reads it."""

    def verify(self, evidence: Evidence = NO_EVIDENCE) -> Verification:
        """Looks at every row, sum, account and checkpoint, in little memory; docs/ledger-format.md
        lists what it may find. Raises what reading raises."""

    def cards(self) -> CardTable:
        """Where the rate cards are kept."""

    def close(self) -> None:
        """Writes what there is to write and lets go of the ledger."""
