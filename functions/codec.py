"""Bytes <-> values, as pure functions: the one way in and the one way out of a function."""

from __future__ import annotations

from dsfn.functions.admission import check_accept, check_call
from dsfn.functions.decode import Fetch, decode_arguments
from dsfn.functions.encode import Encoded, encode_item, encode_result
from dsfn.functions.interface import stream_content_type
from dsfn.functions.limits import Limits

__all__ = [
    "Encoded",
    "Fetch",
    "Limits",
    "check_accept",
    "check_call",
    "decode_arguments",
    "encode_item",
    "encode_result",
    "stream_content_type",
]
