"""What an author may say about a function beside its code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from hashlib import sha256
from math import isfinite

from dsfn.functions.errors import DefinitionError
from dsfn.functions.placement import Placement
from dsfn.functions.retrying import Policy, check_retrying
from dsfn.functions.values import dataclass

NAME_PATTERN = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
MAX_CONCURRENCY = 1000
MAX_TAGS = 32
PRECISIONS = ("int8", "fp8")
_LATER = ("retries", "backoff_policy", "backoff_delay_s", "tags", "placement")
_TAG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_UNITS = {
    **{"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12},
    **{"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40},
}


@dataclass(frozen=True, slots=True)
class Options:
    """A function's options; the defaults are what a function without any gets.

    `gpu`: GPUs held while loaded, a count or a fraction of one. `memory_bytes`:
    what a replica may allocate on top of its snapshot. `concurrency`: calls that
    one replica runs at once. `park_after_s`: idle seconds until a replica gives
    its device memory back; `remove_after_s`: until its process ends. `timeout_s`:
    of one call. `retries`: attempts after the first, of an event that comes to the function; the
    n-th waits `backoff_delay_s * 2**(n-1)` (exponential) or `backoff_delay_s * n` (linear), less up
    to half of it at random. `max_queue`: calls that may wait for a replica. `max_batch`: items that
    are run as one, for a function from one list to a list as long. `precision`: that of a
    model's weights in the snapshot, one of `PRECISIONS`; None for what `setup()` loaded.
    `tags`: words that say what it is for. `placement`: what a cluster is asked for.
    """

    name: str
    gpu: float = 0.0
    memory_bytes: int | None = None
    concurrency: int = 1
    min_replicas: int = 0
    max_replicas: int = 8
    park_after_s: float = 60.0
    remove_after_s: float = 600.0
    timeout_s: float = 300.0
    retries: int = 3
    backoff_policy: Policy = "exponential"
    backoff_delay_s: float = 1.0
    max_queue: int = 1000
    max_batch: int = 1
    precision: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    requirements: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    placement: Placement | None = None

    def __post_init__(self) -> None:
        _require(
            NAME_PATTERN.fullmatch(self.name) is not None,
            f"name {self.name!r} must be lower-case letters, digits and '-', start with a letter,"
            " and have at most 63 characters",
        )
        _require(isfinite(self.gpu), "gpu must be a number of GPUs")
        _require(self.gpu >= 0, "gpu must not be negative")
        _require(self.gpu <= 1 or self.gpu == int(self.gpu), "gpu above 1 must be a whole number")
        _require(self.memory_bytes is None or self.memory_bytes > 0, "memory must be positive")
        _require(
            1 <= self.concurrency <= MAX_CONCURRENCY,
            f"concurrency must be from 1 to {MAX_CONCURRENCY}",
        )
        _require(self.min_replicas >= 0, "min_replicas must not be negative")
        _require(
            max(1, self.min_replicas) <= self.max_replicas <= 1000,
            "max_replicas must be from min_replicas (at least 1) to 1000",
        )
        _require(self.park_after_s >= 0, "park_after must not be negative")
        _require(
            self.remove_after_s >= self.park_after_s,
            f"remove_after is {self.remove_after_s:g} s, and must not be before park_after, which"
            f" is {self.park_after_s:g} s",
        )
        _require(0 < self.timeout_s <= 86_400, "timeout must be above 0 and at most a day")
        check_retrying(self.retries, self.backoff_policy, self.backoff_delay_s)
        _require(1 <= self.max_batch <= 10_000, "max_batch must be from 1 to 10000")
        _require(0 <= self.max_queue <= 100_000, "max_queue must be from 0 to 100000")
        _require(
            self.precision is None or self.precision in PRECISIONS,
            f"precision {self.precision!r} must be 'int8' or 'fp8', or left out for the weights"
            " exactly as they are",
        )
        check_tags(self.tags)

    def to_document(self) -> dict[str, object]:
        """These options as a JSON-able document, the keys being the fields' names."""
        document: dict[str, object] = asdict(self)
        document["env"] = dict(self.env)
        document["requirements"] = list(self.requirements)
        document["tags"] = list(self.tags)
        # As it was before there were any: the digests of such options stay what they are.
        for each in fields(self):
            if each.name in _LATER and getattr(self, each.name) == each.default:
                del document[each.name]
        return document

    @property
    def digest(self) -> str:
        """sha256 of the document as JSON with sorted keys, in lower-case hex."""
        text = json.dumps(self.to_document(), sort_keys=True, separators=(",", ":"))
        return sha256(text.encode()).hexdigest()

    @classmethod
    def from_document(cls, document: Mapping[str, object]) -> Options:
        """Reads back what `to_document` wrote. Raises `DefinitionError`."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in document.items() if k in known}
        env = values.get("env", {})
        requirements = values.get("requirements", [])
        if not isinstance(env, Mapping) or not isinstance(requirements, list):
            raise DefinitionError("These options are not a document of dsfn options.")
        values["env"] = tuple(sorted((str(k), str(v)) for k, v in env.items()))
        values["requirements"] = tuple(str(r) for r in requirements)
        tags = values.get("tags", [])
        values["tags"] = tuple(str(t) for t in tags) if isinstance(tags, list) else ()
        placement = values.get("placement")
        if isinstance(placement, Mapping):
            values["placement"] = Placement.from_document(placement)
        return cls(**values)  # type: ignore[arg-type]  # checked in __post_init__


def check_tags(tags: tuple[str, ...]) -> None:
    """Raises `DefinitionError` for tags that are no words, too many, or there twice."""
    for tag in tags:
        if not isinstance(tag, str) or not _TAG.fullmatch(tag):
            raise DefinitionError(
                f"The tag {tag!r} must be lower-case letters, digits and '-', at most 63 of them."
            )
    if len(tags) > MAX_TAGS:
        raise DefinitionError(f"There are {len(tags)} tags; at most {MAX_TAGS} are taken.")
    if len(set(tags)) < len(tags):
        raise DefinitionError("A tag is there twice.")


def parse_bytes(value: int | str) -> int:
    """Bytes from a number or a text such as "512MiB" or "2GB". Raises `DefinitionError`."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*", value)
    if match is None or match[2] not in _UNITS:
        raise DefinitionError(f"memory {value!r} is not a size; write it like '512MiB' or '2GB'.")
    return int(float(match[1]) * _UNITS[match[2]])


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise DefinitionError(f"In the function's options, {sentence}.")
