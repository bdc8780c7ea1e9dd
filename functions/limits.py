"""What a request body may be at most."""

from __future__ import annotations

from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_body_bytes` holds for the body and, together, for what its `$ref`s bring."""

    max_body_bytes: int = 64 << 20
    max_json_depth: int = 64
