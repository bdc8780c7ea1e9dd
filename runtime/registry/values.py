"""The values that the registry gives out, beside `Revision`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from dsfn.functions.interface import FilterInterface
from dsfn.functions.values import dataclass
from dsfn.runtime.model import Revision

Origin = Literal["decorator", "user"]
TargetKind = Literal["function", "workflow"]


@dataclass(frozen=True, slots=True)
class FunctionRecord:
    """A deployed function. `traffic` is percent by revision id and sums to 100;
    `current` is the revision with the largest share, the newest of equals."""

    name: str
    created_at_us: int
    traffic: Mapping[str, int]
    current: Revision


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A revision and the share of calls that it gets now."""

    revision: Revision
    traffic_percent: int


@dataclass(frozen=True, slots=True)
class Subscription:
    """Events that match `filter` call `function`, or start a run of the workflow of that name.

    Those of origin "decorator" come and go with the serving revision, those of
    origin "user" stay until they are taken back or what they call is deleted.
    """

    id: str
    function: str
    filter: FilterInterface
    origin: Origin
    kind: TargetKind = "function"
