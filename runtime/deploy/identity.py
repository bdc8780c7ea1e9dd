"""A revision's id: the same source on the same platform is the same revision."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from dsfn.functions.interface import Interface
from dsfn.functions.options import Options
from dsfn.snapshots.format import FORMAT_VERSION

_SHORT = 10


@dataclass(frozen=True, slots=True)
class Platform:
    """What a snapshot depends on beside the source."""

    python: str
    torch: str
    snapshot_format: int


def this_platform() -> Platform:
    """The versions of this node; torch's is read from its metadata, not by importing it."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = ""
    return Platform(platform.python_version(), torch, FORMAT_VERSION)


def revision_id(
    bundle_digest: str, entry: str, options: Options, interface: Interface, on: Platform
) -> str:
    """The function's name and the first ten hex digits of what makes the revision."""
    content = json.dumps(
        [
            bundle_digest,
            entry,
            options.to_document(),
            interface.to_document(),
            on.python,
            on.torch,
            on.snapshot_format,
        ],
        sort_keys=True,
        separators=(",", ":"),
    )
    return f"{options.name}-{hashlib.sha256(content.encode()).hexdigest()[:_SHORT]}"
