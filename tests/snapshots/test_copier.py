"""Copies over several links at once, on stand-ins for GPUs whose links have a rate."""

from __future__ import annotations

import time

import pytest
from copier_scenes import MIB, PIECE_BYTES, TENANT, Alone, Broken, Machine, Running
from hypothesis import given
from hypothesis import strategies as st

from dsfn.snapshots.owner.copier import Route
from dsfn.snapshots.owner.device import Granule
from dsfn.snapshots.owner.host import HostDevice
from dsfn.snapshots.owner.pieces import cut
from dsfn.snapshots.owner.progress import State

ROOM = 64 * MIB
RATE = 24 * MIB  # a second: a slab takes half of it over one link
# What a link is late while the processors do other work is not the copier's doing.
TRIES = 10


def arrives(machine: Machine, running: Running) -> None:
    """Waits for a copy; what its page shows on the way is true and never goes back."""
    shown = 0
    while running.reader.state is State.RUNNING:
        arrived = running.arrived()
        assert len(arrived) >= shown
        assert arrived == machine.data[: len(arrived)]
        shown = len(arrived)
        time.sleep(0.05)
    running.wait()
    assert running.fault is None
    assert running.reader.state is State.DONE
    assert running.reader.arrived_bytes == len(machine.data)
    assert running.content(len(machine.data)) == machine.data


@pytest.mark.parametrize("count", [2, 3])
def test_links_that_are_idle_share_a_copy(count: int) -> None:
    assert any(shared_well(count) for _ in range(TRIES))


def shared_well(count: int) -> bool:
    """Whether a copy over so many links is as quick as it should be, and each carries its part."""
    machine = Machine([HostDevice(ROOM, RATE) for _ in range(count)])
    running = machine.copy()
    arrives(machine, running)
    own, relayed = machine.carried_bytes(Route.OWN), machine.carried_bytes(Route.RELAY)
    assert sum(own) + sum(relayed) == len(machine.data)
    assert own[1:] == [0] * (count - 1)
    alone_s = len(machine.data) / RATE
    least_bytes = len(machine.data) / count - 6 * PIECE_BYTES
    is_even = all(carried >= least_bytes for carried in (own[0], *relayed[1:]))
    return is_even and running.copy_us / 1e6 < 0.85 * alone_s


def test_a_link_has_its_own_copies_before_those_of_others() -> None:
    machine = Machine([HostDevice(ROOM, RATE) for _ in range(2)])
    copies = [machine.copy(0), machine.copy(1)]
    for running in copies:
        arrives(machine, running)
    relayed = machine.carried_bytes(Route.RELAY)
    assert sum(relayed) <= 16 * PIECE_BYTES  # before the second one came, and after the first


def test_a_faster_link_carries_more() -> None:
    machine = Machine([HostDevice(ROOM, RATE), HostDevice(ROOM, 4 * RATE)])
    for _ in range(TRIES):
        arrives(machine, machine.copy())
        own, relayed = machine.carried_bytes(Route.OWN)[0], machine.carried_bytes(Route.RELAY)[1]
        if relayed > 2 * own:
            return
    pytest.fail(f"{own} bytes over its own link, {relayed} over the faster one")


def test_devices_that_do_not_reach_each_other_copy_alone_and_need_no_staging() -> None:
    machine = Machine([Alone(ROOM, RATE), Alone(ROOM, RATE)])
    assert machine.stagings == (None, None)
    arrives(machine, machine.copy())
    assert machine.carried_bytes(Route.OWN) == [len(machine.data), 0]


def kept(machine: Machine, device: int) -> list[Granule]:
    """Memory of a device with the slab in it."""
    running = machine.copy(device)
    running.wait()
    return running.granules


@pytest.mark.parametrize("holder", [0, 1])
def test_what_a_device_holds_already_crosses_no_link_to_the_host(holder: int) -> None:
    machine = Machine([HostDevice(ROOM, 0), HostDevice(ROOM, 0)])
    source = kept(machine, holder)
    before = machine.carried_bytes(Route.OWN)
    arrives(machine, machine.copy(0, kept=source))
    assert machine.carried_bytes(Route.OWN) == before
    assert machine.carried_bytes(Route.KEPT)[0] == len(machine.data)


@pytest.mark.parametrize("pieces", [0, 1, 5])
def test_a_peer_that_breaks_leaves_its_pieces_to_the_devices_own_link(pieces: int) -> None:
    machine = Machine([HostDevice(ROOM, RATE), Broken(ROOM, RATE, uploads=pieces)])
    arrives(machine, machine.copy())
    assert machine.carried_bytes(Route.RELAY)[1] <= pieces * PIECE_BYTES
    assert [link.account().peers for link in machine.links] == [1, 0]
    arrives(machine, machine.copy())


def test_kept_memory_that_cannot_be_read_is_replaced_by_the_host() -> None:
    machine = Machine([Broken(ROOM, 0, transfers=5), HostDevice(ROOM, 0)])
    source = kept(machine, 1)
    arrives(machine, machine.copy(0, kept=source))
    assert machine.carried_bytes(Route.KEPT)[0] == 5 * PIECE_BYTES


def test_a_copy_whose_own_link_breaks_fails_and_says_so() -> None:
    machine = Machine([Broken(ROOM, RATE, uploads=5), HostDevice(ROOM, RATE)])
    running = machine.copy()
    running.wait()
    assert running.fault is not None
    assert running.reader.state is State.FAILED
    arrived = running.arrived()
    assert arrived == machine.data[: len(arrived)]


def test_a_copy_that_is_called_off_ends_soon_and_the_next_one_is_right() -> None:
    machine = Machine([HostDevice(ROOM, RATE), HostDevice(ROOM, RATE)])
    first, waiting = machine.copy(), machine.copy()
    time.sleep(0.1)
    for running in (waiting, first):
        machine.copier.cancel(running.copy)
        machine.copier.cancel(running.copy)
        running.wait()
        assert running.reader.state is State.FAILED
        machine.pools[0].give(TENANT, running.granules)
    arrives(machine, machine.copy())


def test_a_copy_in_the_background_waits_for_all_others() -> None:
    machine = Machine([HostDevice(ROOM, RATE), HostDevice(ROOM, RATE)])
    background, running = machine.copy(1, background=True), machine.copy(0)
    running.wait()
    assert background.reader.arrived_bytes < len(machine.data) // 2
    arrives(machine, running)
    arrives(machine, background)


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 9))
def test_pieces_cover_a_slab_in_order_and_cross_no_granule(
    size_bytes: int, granule_bytes: int, most_bytes: int
) -> None:
    sizes = [granule_bytes] * -(-size_bytes // granule_bytes)
    granules = [Granule(size, 0, 1000 * index) for index, size in enumerate(sizes)]
    at = 0
    for piece in cut(size_bytes, sizes, most_bytes):
        assert piece.offset == at
        assert 0 < piece.size_bytes <= most_bytes
        index, start = divmod(at, granule_bytes)
        assert piece.address(granules) == 1000 * index + start
        assert start + piece.size_bytes <= granule_bytes
        at += piece.size_bytes
    assert at == size_bytes
