"""Whose a blob is: whoever put its bytes, or got them as a result."""

from __future__ import annotations

from pathlib import Path

import pytest
from event_node import EventNode, ManualClock

from dsfn.functions.errors import InvalidInput
from dsfn.runtime.blobs.owners import KEEP_OWNERS_S, BlobOwners
from dsfn.runtime.model import Answer, Call

DIGEST, OTHER = "a" * 64, "b" * 64
DAY_S = 24 * 3600


async def nobody(call: Call) -> Answer:
    raise NotImplementedError


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def owners(tmp_path: Path, clock: ManualClock) -> BlobOwners:
    node = EventNode(tmp_path, clock, nobody)
    # The engine makes the tables of runs, which this node has none of.
    node.connection.execute("CREATE TABLE runs (seq, tenant, body_ref)")
    node.connection.execute("CREATE TABLE steps (run, body_ref)")
    return BlobOwners(node.connection, clock)


def test_a_blob_is_a_tenants_once_it_has_put_it(owners: BlobOwners) -> None:
    owners.add("acme", DIGEST)
    assert owners.owns("acme", DIGEST)
    assert not owners.owns("zoo", DIGEST) and not owners.owns("acme", OTHER)
    owners.require("acme", [DIGEST])
    with pytest.raises(InvalidInput) as refused:
        owners.require("acme", [DIGEST, OTHER])
    assert OTHER in refused.value.message


def test_whose_a_blob_is_is_known_for_two_months_after_its_last_use(
    owners: BlobOwners, clock: ManualClock
) -> None:
    owners.add("acme", DIGEST)
    owners.add("acme", OTHER)
    clock.advance(KEEP_OWNERS_S - DAY_S)
    assert owners.owns("acme", DIGEST)
    clock.advance(2 * DAY_S)
    assert owners.prune() == 1
    assert owners.owns("acme", DIGEST) and not owners.owns("acme", OTHER)
