"""A revision's id: the same source on the same platform is the same revision."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from dsfn.functions.interface import Interface
from dsfn.functions.options import Options
from dsfn.functions.values import dataclass
from dsfn.snapshots.format import FORMAT_VERSION
from dsfn.snapshots.libraries import installed_libraries

_SHORT = 10
# What it does is told by the snapshot format and the types, not by its version.
_OURS = "dsfn"


@dataclass(frozen=True, slots=True)
class Platform:
    """What a snapshot depends on beside the source. `device_class`: the GPU's name, or "cpu";
    `libraries`: versions by name of all that is installed where the function runs."""

    device_class: str
    libraries: Mapping[str, str]
    python: str = platform.python_version()
    snapshot_format: int = FORMAT_VERSION


def platform_of(path: Sequence[str], device_class: str) -> Platform:
    """The platform of an interpreter with this `sys.path`; what is installed there is read from
    its metadata, not by importing it, in some tens of milliseconds."""
    libraries = installed_libraries(path)
    libraries.pop(_OURS, None)
    return Platform(device_class, libraries)


def revision_id(
    bundle_digest: str, entry: str, options: Options, interface: Interface, on: Platform
) -> str:
    """The function's name and the first ten hex digits of what makes the revision."""
    content = json.dumps(
        [bundle_digest, entry, options.to_document(), interface.to_document(), asdict(on)],
        sort_keys=True,
        separators=(",", ":"),
    )
    return f"{options.name}-{hashlib.sha256(content.encode()).hexdigest()[:_SHORT]}"
