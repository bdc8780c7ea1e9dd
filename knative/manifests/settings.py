"""What a platform is told when it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class PlatformSettings:
    """`store`: where revisions, snapshots and blobs are, "s3://BUCKET/PREFIX". `image`: that of the
    control service and the agents; `function_image`: that of functions. `secrets`: variables of the
    control service that nobody else is to read, by their names. `agents`: whether nodes have
    one; `prefetch`: the functions whose snapshots these bring before a pod asks."""

    namespace: str
    store: str
    image: str
    function_image: str
    secrets: Mapping[str, str] = field(repr=False)
    agents: bool = True
    prefetch: tuple[str, ...] = ()
