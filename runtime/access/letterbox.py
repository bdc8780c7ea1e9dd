"""Where others hand over events that they could not deliver to a function.

Brokers send no API key: the path itself has a secret, which follows from the node's own key. Who
has it can add dead letters of that function, and do nothing else.
"""

from __future__ import annotations

import hmac
from hashlib import sha256


def letterbox_of(local_key: str, function: str) -> str:
    """The secret of a function's letterbox."""
    said = f"dead letters of {function}"
    return hmac.new(local_key.encode(), said.encode(), sha256).hexdigest()


def letterbox_path(local_key: str, function: str) -> str:
    """The path that takes a function's dead letters."""
    return f"/functions/{function}/deadletters/{letterbox_of(local_key, function)}"
