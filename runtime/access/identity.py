"""On whose account a request is, and what it may do."""

from __future__ import annotations

from enum import StrEnum

from dsfn.functions.errors import Forbidden
from dsfn.functions.values import dataclass
from dsfn.runtime.model import Payer


class Scope(StrEnum):
    """What an API key is for.

    `invoke`: to call functions and workflows, and to see what becomes of that. `read`: to look at
    what is deployed, and at what the tenant's calls came to. `deploy`: to change what is deployed,
    and to see what it prints. `billing`: the tenant's bills and budgets, and the rates. `admin`:
    everything, of every tenant.
    """

    INVOKE = "invoke"
    READ = "read"
    DEPLOY = "deploy"
    BILLING = "billing"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who makes a request.

    `key_id`: of the API key, "" for a request without one. `functions`: the functions and
    workflows that may be called, all of them when it is empty.
    """

    tenant: str
    key_id: str
    scopes: frozenset[Scope]
    functions: frozenset[str] = frozenset()

    @property
    def is_admin(self) -> bool:
        """Whether it may do everything, for every tenant."""
        return Scope.ADMIN in self.scopes

    def require(self, scopes: frozenset[Scope]) -> None:
        """Raises `Forbidden` unless it has one of `scopes`, or is an admin."""
        if self.scopes.isdisjoint(scopes) and not self.is_admin:
            raise _forbidden()

    def require_callable(self, name: str) -> None:
        """Raises `Forbidden` for a function or workflow that is not among those it may call."""
        if self.functions and name not in self.functions:
            raise _forbidden()

    def require_unlimited(self) -> None:
        """Raises `Forbidden` when it may call some functions only, where any might be called."""
        if self.functions:
            raise _forbidden()

    def sees(self, tenant: str) -> bool:
        """Whether it may see what belongs to a tenant."""
        return tenant == self.tenant or self.is_admin

    @property
    def payer(self) -> Payer:
        """On whose account what it asks for is done."""
        return Payer(self.tenant, self.key_id)

    @property
    def only_tenant(self) -> str | None:
        """The one tenant whose affairs it may see, None for all."""
        return None if self.is_admin else self.tenant


def _forbidden() -> Forbidden:
    return Forbidden("The API key may not do this.")
