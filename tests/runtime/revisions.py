"""Revisions for tests of what the node does with them."""

from __future__ import annotations

from dsfn.functions.interface import FilterInterface, Interface, ParameterInterface, ResultInterface
from dsfn.functions.options import Options
from dsfn.runtime.model import Revision, SnapshotRef

PARAMETER = ParameterInterface("text", "json", True, {"type": "string"})


def event_type(value: str) -> FilterInterface:
    """A filter on the type of events."""
    return FilterInterface(exact={"type": value}, prefix={}, suffix={})


def make_revision(
    number: int, name: str = "echo", triggers: tuple[FilterInterface, ...] = ()
) -> Revision:
    """The `number`-th revision of a function."""
    return Revision(
        id=f"{name}-{number:010x}",
        function=name,
        bundle_digest=f"{number:064x}",
        entry="app.py",
        environment="",
        snapshot=SnapshotRef(f"{number:064x}", number) if number % 2 else None,
        snapshot_reason=None if number % 2 else "it holds a lock.",
        created_at_us=1_000_000 + number,
        options=Options(name=name, env=(("A", "1"),), requirements=("idna",)),
        interface=Interface("Echoes.", (PARAMETER,), ResultInterface("text"), triggers),
        modules=("numpy", "tokenizers"),
    )
