"""The API keys of a node.

A key is `dsfn_<id>_<secret>`: the id is public, the secret is 256 random bits. It is told once,
when it is made; kept is the SHA-256 of the whole, which needs no salt, since nobody can guess what
it is of.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from hmac import compare_digest
from typing import Any

import apsw

from dsfn.billing.periods import DAY_US
from dsfn.billing.sqlite import load_queries, transaction
from dsfn.functions.errors import Conflict, NotFound, StorageFull, Unauthenticated
from dsfn.functions.invalid import invalid
from dsfn.functions.options import NAME_PATTERN
from dsfn.functions.values import dataclass
from dsfn.runtime.access.identity import Identity, Scope
from dsfn.runtime.clock import Clock

MAX_KEYS = 10_000
MAX_FUNCTIONS = 100
MAX_NAME_CHARS = 100
MAX_TENANT_CHARS = 63
_PREFIX = "dsfn"
_ID_BYTES = 8
_SECRET_BYTES = 32
# Where the id is in a key. All else of it is checked by its digest.
_ID = slice(len(_PREFIX) + 1, len(_PREFIX) + 1 + 2 * _ID_BYTES)
# What a key that is not there is compared with, so that it takes as long as one that is.
_NO_DIGEST = bytes(32)
_QUERIES = load_queries("dsfn.runtime.access", "sql/keys.sql")
_LOG = logging.getLogger("dsfn.access")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is to be made. `functions`: what it may call, everything when there are none.

    Raises `InvalidInput` for what makes no sense.
    """

    tenant: str
    name: str
    scopes: tuple[Scope, ...]
    functions: tuple[str, ...] = ()
    expires_at_us: int | None = None

    def __post_init__(self) -> None:
        check_tenant(self.tenant)
        if not 0 < len(self.name) <= MAX_NAME_CHARS or not self.name.isprintable():
            raise invalid("name", f"is from 1 to {MAX_NAME_CHARS} characters")
        if not self.scopes:
            raise invalid("scopes", f"needs at least one of {', '.join(Scope)}")
        if len(self.functions) > MAX_FUNCTIONS:
            raise invalid("functions", f"names more than {MAX_FUNCTIONS}")
        for name in self.functions:
            if NAME_PATTERN.fullmatch(name) is None:
                raise invalid("functions", f"has {name!r}, which is no name of a function")
        if self.functions and set(self.scopes) - {Scope.INVOKE, Scope.READ}:
            raise invalid("functions", "goes with the scopes invoke and read alone")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key. `last_used_day`: days since 1970-01-01, None while it is unused."""

    id: str
    tenant: str
    name: str
    scopes: tuple[Scope, ...]
    functions: tuple[str, ...]
    created_at_us: int
    expires_at_us: int | None
    revoked_at_us: int | None
    last_used_day: int | None

    def is_valid(self, now_us: int) -> bool:
        """Whether it is neither revoked nor expired."""
        expired = self.expires_at_us is not None and self.expires_at_us <= now_us
        return self.revoked_at_us is None and not expired


@dataclass(eq=False, slots=True)
class _Kept:
    """A key in memory, with what it is checked against and what it stands for."""

    key: ApiKey
    digest: bytes
    identity: Identity


class Keys:
    """The keys in the node's database, all of them in memory, too. Belongs to one thread."""

    def __init__(self, connection: apsw.Connection, clock: Clock, max_keys: int = MAX_KEYS) -> None:
        self._connection = connection
        self._clock = clock
        self._max_keys = max_keys
        with transaction(connection):
            connection.execute(_QUERIES["schema"])
        rows: Iterable[Any] = connection.execute(_QUERIES["select"])
        self._kept = {row[0]: _kept(_key_of(row), bytes(row[9])) for row in rows}

    def all(self) -> list[ApiKey]:
        """Every key, the oldest first, those that were revoked among them."""
        return [kept.key for kept in self._kept.values()]

    def get(self, id_: str) -> ApiKey:
        """Raises `NotFound`."""
        return self._find(id_).key

    def create(self, new: NewKey) -> tuple[ApiKey, str]:
        """Makes a key; gives it with its secret, which is not to be had again.

        Raises `Conflict` when there are too many, `StorageFull`.
        """
        dropped = self._dropped()
        id_ = secrets.token_hex(_ID_BYTES)
        token = f"{_PREFIX}_{id_}_{secrets.token_hex(_SECRET_BYTES)}"
        key = ApiKey(
            id=id_,
            tenant=new.tenant,
            name=new.name,
            scopes=tuple(scope for scope in Scope if scope in new.scopes),
            functions=tuple(dict.fromkeys(new.functions)),
            created_at_us=self._clock.now_us(),
            expires_at_us=new.expires_at_us,
            revoked_at_us=None,
            last_used_day=None,
        )
        digest = digest_of(token.encode())
        with transaction(self._connection) as connection:
            if dropped is not None:
                connection.execute(_QUERIES["delete"], (dropped,))
            connection.execute(_QUERIES["insert"], _row(key, digest))
        if dropped is not None:
            del self._kept[dropped]
        self._kept[id_] = _kept(key, digest)
        return key, token

    def revoke(self, id_: str) -> ApiKey:
        """Takes a key back: no request that comes after this can use it. Raises `NotFound`,
        `StorageFull`."""
        kept = self._find(id_)
        if kept.key.revoked_at_us is None:
            now_us = self._clock.now_us()
            with transaction(self._connection) as connection:
                connection.execute(_QUERIES["revoke"], (id_, now_us))
            kept.key = replace(kept.key, revoked_at_us=now_us)
        return kept.key

    def identify(self, token: bytes) -> Identity:
        """Who has this key. Raises `Unauthenticated` for one that is unknown, revoked or expired,
        after as much work as for a valid one."""
        digest = digest_of(token)
        kept = self._kept.get(token[_ID].decode("latin-1"))
        is_right = compare_digest(digest, _NO_DIGEST if kept is None else kept.digest)
        now_us = self._clock.now_us()
        if not is_right or kept is None or not kept.key.is_valid(now_us):
            raise not_valid()
        if kept.key.last_used_day != now_us // DAY_US:
            self._note_use(kept, now_us // DAY_US)
        return kept.identity

    def _find(self, id_: str) -> _Kept:
        kept = self._kept.get(id_)
        if kept is None:
            raise NotFound(f"There is no API key {id_!r}.", kind="API key", name=id_)
        return kept

    def _dropped(self) -> str | None:
        """The key that makes room for one more, if need be: that which was revoked first."""
        if len(self._kept) < self._max_keys:
            return None
        revoked = [k.key for k in self._kept.values() if k.key.revoked_at_us is not None]
        if not revoked:
            raise Conflict(f"There are {self._max_keys} API keys already.", limit=self._max_keys)
        return min(revoked, key=lambda key: key.revoked_at_us or 0).id

    def _note_use(self, kept: _Kept, day: int) -> None:
        kept.key = replace(kept.key, last_used_day=day)
        try:
            with transaction(self._connection) as connection:
                connection.execute(_QUERIES["use"], (kept.key.id, day))
        except StorageFull as error:
            # Whether the request can be served is not for this to decide.
            _LOG.warning("That key %s was used is not kept: %s", kept.key.id, error.message)


def check_tenant(tenant: str) -> None:
    """Raises `InvalidInput` for a text that can be no tenant's name."""
    if not 0 < len(tenant) <= MAX_TENANT_CHARS:
        raise invalid("tenant", f"is from 1 to {MAX_TENANT_CHARS} characters")
    if not tenant.isprintable() or tenant != tenant.strip():
        raise invalid("tenant", "is a name without blanks around it")


def digest_of(token: bytes) -> bytes:
    """What is kept of a key."""
    return sha256(token).digest()


def not_valid() -> Unauthenticated:
    """The one answer to every key that cannot be used."""
    return Unauthenticated("The API key is not valid.")


def scopes_of(words: Sequence[str]) -> tuple[Scope, ...]:
    """Scopes by their words. Raises `InvalidInput`."""
    try:
        return tuple(Scope(word) for word in words)
    except ValueError:
        raise invalid("scopes", f"are some of {', '.join(Scope)}") from None


def _kept(key: ApiKey, digest: bytes) -> _Kept:
    identity = Identity(key.tenant, key.id, frozenset(key.scopes), frozenset(key.functions))
    return _Kept(key, digest, identity)


def _key_of(row: Sequence[Any]) -> ApiKey:
    id_, tenant, name, scopes, functions, *times = row[:9]
    words = tuple(Scope(word) for word in scopes.split())
    return ApiKey(id_, tenant, name, words, tuple(functions.split()), *times)


def _row(key: ApiKey, digest: bytes) -> tuple[Any, ...]:
    return (
        key.id,
        key.tenant,
        key.name,
        " ".join(key.scopes),
        " ".join(key.functions),
        key.created_at_us,
        key.expires_at_us,
        key.revoked_at_us,
        key.last_used_day,
        digest,
    )
