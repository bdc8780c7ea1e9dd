"""Usage rows on a disk that code of functions writes to, too: only who has a key writes them."""

from __future__ import annotations

import hmac
import json
from dataclasses import asdict, field
from hashlib import sha256

from dsfn.billing.usage import Usage
from dsfn.functions.values import dataclass

# Characters: two for each byte.
_SEAL = 2 * sha256().digest_size


@dataclass(frozen=True, slots=True)
class Plain:
    """Rows where nobody else writes."""

    def text(self, row: Usage) -> str:
        """A row as it is kept."""
        return json.dumps(asdict(row))

    def usage(self, text: str) -> Usage | None:
        """The row that was kept, None for one that somebody else has put there."""
        return Usage(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Sealed:
    """Rows that begin with what follows from them and the `key`."""

    key: str = field(repr=False)

    def text(self, row: Usage) -> str:
        """See `Plain`."""
        plain = Plain().text(row)
        return self._seal(plain) + plain

    def usage(self, text: str) -> Usage | None:
        """See `Plain`."""
        seal, plain = text[:_SEAL], text[_SEAL:]
        if not hmac.compare_digest(seal.encode(), self._seal(plain).encode()):
            return None
        return Plain().usage(plain)

    def _seal(self, plain: str) -> str:
        return hmac.new(self.key.encode(), f"usage {plain}".encode(), sha256).hexdigest()
