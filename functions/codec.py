"""Bytes <-> values, as pure functions: the one way in and the one way out of a function."""

from __future__ import annotations

from dsfn.functions.decode import Fetch, decode_arguments
from dsfn.functions.encode import (
    EVENT_STREAM,
    Encoded,
    check_accept,
    encode_item,
    encode_result,
    stream_content_type,
)
from dsfn.functions.limits import Limits

__all__ = [
    "EVENT_STREAM",
    "Encoded",
    "Fetch",
    "Limits",
    "check_accept",
    "decode_arguments",
    "encode_item",
    "encode_result",
    "stream_content_type",
]
