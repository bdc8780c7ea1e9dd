"""The answer to a call, as its HTTP headers tell it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dsfn.functions.values import dataclass
from dsfn.runtime.cli.documents import ChargeDocument

_METRIC = re.compile(r"\s*([A-Za-z.-]+)\s*;\s*dur=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose body is still arriving: read `chunks` once.

    `phases_us` keeps the order of `Server-Timing`; `charge` is None where the
    node sent none (the stored answer of an asynchronous call).
    """

    id: str
    revision: str
    content_type: str
    replayed: bool
    phases_us: Mapping[str, int]
    charge: ChargeDocument | None
    headers: Mapping[str, str]
    chunks: Iterator[bytes]

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.content_type.partition(";")[0].strip().lower()


def reply_from(headers: Mapping[str, str], chunks: Iterator[bytes]) -> Reply:
    """The answer with these headers (names in lower case)."""
    return Reply(
        id=headers.get("dsfn-invocation-id", ""),
        revision=headers.get("dsfn-revision", ""),
        content_type=headers.get("content-type", "application/octet-stream"),
        replayed=headers.get("dsfn-replayed") == "true",
        phases_us=parse_server_timing(headers.get("server-timing", "")),
        charge=_charge(headers),
        headers=headers,
        chunks=chunks,
    )


def parse_server_timing(header: str) -> dict[str, int]:
    """`queue;dur=0.1, execute;dur=8` -> microseconds by name, in the header's order."""
    metrics = (_METRIC.match(part) for part in header.split(","))
    return {m[1]: round(float(m[2]) * 1000) for m in metrics if m is not None}


def _charge(headers: Mapping[str, str]) -> ChargeDocument | None:
    if "dsfn-cost-nano" not in headers:
        return None
    return {
        "device_class": headers.get("dsfn-device-class", ""),
        "busy_us": int(headers.get("dsfn-busy-us", "0")),
        "held_us": int(headers.get("dsfn-held-us", "0")),
        "gpu_us": int(headers.get("dsfn-gpu-us", "0")),
        "cost_nano": int(headers["dsfn-cost-nano"]),
        "currency": headers.get("dsfn-currency", ""),
    }


def charge_of(document: Mapping[str, Any]) -> ChargeDocument:
    """The charge that the last event of a stream tells."""
    return {
        "device_class": document["device_class"],
        "busy_us": document["busy_us"],
        "held_us": document["held_us"],
        "gpu_us": document["gpu_us"],
        "cost_nano": document["cost_nano"],
        "currency": document["currency"],
    }
