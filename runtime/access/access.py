"""From a request's `Authorization` header to who makes it."""

from __future__ import annotations

import secrets
from dataclasses import field
from hmac import compare_digest

from dsfn.functions.errors import Unauthenticated
from dsfn.functions.values import dataclass
from dsfn.runtime.access.identity import Identity, Scope
from dsfn.runtime.access.keys import Keys, digest_of, not_valid

_BEARER = b"bearer "
_LOCAL = b"dsfn_local_"
_SECRET_BYTES = 32


def new_local_key() -> str:
    """A key that nobody has had."""
    return f"{_LOCAL.decode()}{secrets.token_hex(_SECRET_BYTES)}"


def is_local_key(key: str) -> bool:
    """Whether a key can be the local one."""
    return key.startswith(_LOCAL.decode())


@dataclass(eq=False, slots=True)
class Access:
    """Finds out who makes a request (RFC 6750: `Authorization: Bearer KEY`).

    `local_key` is for whoever may read the node's data directory, and for pods of a cluster: it
    stands for the configured `tenant` and may do everything, and so does a request without a key
    where none is `required`. A key that is given is always checked.
    """

    keys: Keys
    tenant: str
    required: bool
    local_key: str = field(default_factory=new_local_key)
    _local_digest: bytes = b""
    _owner: Identity = field(init=False)

    def __post_init__(self) -> None:
        self._local_digest = digest_of(self.local_key.encode())
        self._owner = Identity(self.tenant, "", frozenset(Scope))

    def identify(self, authorization: bytes | None) -> Identity:
        """Who makes a request with this header. Raises `Unauthenticated`."""
        if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
            if self.required:
                raise Unauthenticated("This needs an API key: `Authorization: Bearer KEY`.")
            return self._owner
        token = authorization[len(_BEARER) :].strip()
        if token.startswith(_LOCAL):
            if compare_digest(digest_of(token), self._local_digest):
                return self._owner
            raise not_valid()
        return self.keys.identify(token)
