"""Where checkpoints of the ledger are put: `checkpoints` in the configuration's `[billing]`."""

from __future__ import annotations

from collections.abc import Mapping

from dsfn.functions.errors import UsageError
from dsfn.functions.urls import read_http_url
from dsfn.functions.values import dataclass
from dsfn.snapshots.addresses import read_store

MAX_PLACES = 8
_KEY = "billing.checkpoints"


@dataclass(frozen=True, slots=True)
class PlaceSettings:
    """`store`: "file:///DIRECTORY", "s3://BUCKET" or "s3://BUCKET/PREFIX". `endpoint_url` and
    `region`: of a bucket that is not where boto3's own configuration says."""

    store: str
    endpoint_url: str = ""
    region: str = ""

    def __post_init__(self) -> None:
        read_store(self.store, _KEY)
        if self.endpoint_url:
            read_http_url(self.endpoint_url, f"{_KEY}: endpoint_url")


def read_places(value: object) -> tuple[PlaceSettings, ...]:
    """The places of a list of texts and tables. Raises `UsageError`."""
    if not isinstance(value, list) or len(value) > MAX_PLACES:
        raise UsageError(f"{_KEY} must be a list of at most {MAX_PLACES} places.")
    places = tuple(_place(entry) for entry in value)
    if len({place.store for place in places}) < len(places):
        raise UsageError(f"{_KEY} names a place twice.")
    return places


def _place(entry: object) -> PlaceSettings:
    table = {"store": entry} if isinstance(entry, str) else entry
    if not isinstance(table, Mapping) or "store" not in table:
        raise UsageError(f"{_KEY}: a place is a text, or a table with a `store`.")
    for name, value in table.items():
        if name not in ("store", "endpoint_url", "region") or not isinstance(value, str):
            raise UsageError(f"{_KEY}: {name} is not a setting of a place, or no text.")
    return PlaceSettings(**table)
