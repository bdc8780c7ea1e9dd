"""Who may do what on a node: API keys, and on whose account a request is."""

from __future__ import annotations

from dsfn.runtime.access.access import Access
from dsfn.runtime.access.identity import Identity, Scope
from dsfn.runtime.access.keys import ApiKey, Keys, NewKey

__all__ = ["Access", "ApiKey", "Identity", "Keys", "NewKey", "Scope"]
