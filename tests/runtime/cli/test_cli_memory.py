"""Where memory is, in the words of `dsfn status`."""

from __future__ import annotations

import pytest

from dsfn.runtime.cli.documents import DeviceDocument, MemoryDocument
from dsfn.runtime.cli.memory import memory_rows

EMPTY: DeviceDocument = {
    "device_class": "cpu",
    "total_bytes": 1000,
    "free_bytes": 1000,
    "reserve_bytes": 0,
    "resident_bytes": 0,
    "pooled_bytes": 0,
    "neighbour_bytes": 0,
    "staging_bytes": 0,
}
TAKEN: DeviceDocument = {
    **EMPTY,
    "free_bytes": 400,
    "reserve_bytes": 150,
    "resident_bytes": 200,
    "pooled_bytes": 10,
    "neighbour_bytes": 30,
    "staging_bytes": 100,
}


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (EMPTY, "0 B of 1.0 kB in replicas, 1.0 kB free"),
        (
            TAKEN,
            "200 B of 1.0 kB in replicas, 10 B kept for them, 30 B lent to other GPUs,"
            " 100 B for pieces on their way, 260 B in contexts and other processes,"
            " 50 B left to others, 350 B free",
        ),
        # A reserve larger than what is free leaves nothing.
        (
            {**EMPTY, "reserve_bytes": 5000},
            "0 B of 1.0 kB in replicas, 1.0 kB left to others, 0 B free",
        ),
    ],
)
def test_the_parts_of_a_gpus_memory_are_all_of_it(device: DeviceDocument, words: str) -> None:
    memory: MemoryDocument = {
        "arena_bytes": 100,
        "arena_used_bytes": 1,
        "arena_free_bytes": 99,
        "arena_largest_free_bytes": 99,
        "slabs": 1,
        "coded_slabs": 0,
        "workers": 0,
        "mappings": 0,
        "devices": [device],
        "links": [],
        "pid": 1,
        "heir_pid": 2,
        "restarts": 0,
        "warm": [0],
    }
    assert memory_rows(memory, None) == [("arena", "1 B of 100 B used"), ("gpu 0", words)]


def test_a_node_without_a_memory_owner_says_why() -> None:
    assert memory_rows(None, "No driver.") == [("gpus", "no memory owner: No driver.")]
    assert memory_rows(None, None) == []
