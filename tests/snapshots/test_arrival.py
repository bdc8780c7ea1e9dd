"""A slab between parked and there: seen, waited for, called off, and lost on its way."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from gate_scenes import (
    FAST,
    GPU,
    SLOW,
    arrival_of,
    owned,
    slab_of,
    weights,
    written,
)
from owner_scenes import MIB, descriptors

from dsfn.functions.errors import DeviceFault, OwnerLost, ReplicaLost, SnapshotError
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.gate import gated
from dsfn.snapshots.owner.client import OwnerClient
from dsfn.snapshots.owner.memory import OwnedMemory
from dsfn.snapshots.owner.messages import Failed, Granules, Message, Released, send
from dsfn.snapshots.owner.progress import ProgressPage, State
from dsfn.snapshots.owner.space import HostSpace
from dsfn.snapshots.restore import Restored, restore

pytestmark = pytest.mark.usefixtures("alone")

STATE = weights("a", "b", size=1024)  # 8 MiB


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return written(tmp_path / "a", STATE)


def tensor(restored: Restored, name: str) -> torch.Tensor:
    found = restored.state[name]
    assert isinstance(found, torch.Tensor)
    return found


def test_what_arrives_grows_to_the_whole_and_is_then_the_slab(directory: Path) -> None:
    with owned(SLOW, directory) as scene:
        restored = scene.restore(directory)
        arrival = arrival_of(restored)
        assert arrival.size_bytes == 8 * MIB
        assert 3 * MIB <= arrival.wait(3 * MIB) < 8 * MIB
        assert torch.equal(tensor(restored, "a")[:768], STATE["a"][:768])
        assert arrival.wait(8 * MIB) == 8 * MIB
        slab_of(restored).unpark()
        assert slab_of(restored).arrival is None
        assert torch.equal(tensor(restored, "b"), STATE["b"])


def test_a_restore_that_does_not_stream_is_whole(directory: Path) -> None:
    with owned(SLOW, directory) as scene:
        restored = scene.restore(directory, streams=False)
        assert slab_of(restored).arrival is None
        assert torch.equal(tensor(restored, "b"), STATE["b"])


def test_a_slab_that_arrives_is_parked_at_once_and_comes_back_whole(directory: Path) -> None:
    with owned(SLOW, directory) as scene:
        restored = scene.restore(directory)
        for _ in range(3):
            arrival = arrival_of(restored)
            slab_of(restored).park()
            assert slab_of(restored).arrival is None
            assert scene.mappings() == 0
            with pytest.raises(SnapshotError, match="parked"):
                arrival.wait(8 * MIB)
            slab_of(restored).begin_unpark()
        slab_of(restored).unpark()
        assert torch.equal(tensor(restored, "b"), STATE["b"])


def test_a_park_and_a_return_in_two_threads_leave_it_parked_or_whole(directory: Path) -> None:
    with owned(FAST, directory) as scene:
        restored = scene.restore(directory)
        slab = slab_of(restored)

        def back_and_forth() -> None:
            for _ in range(20):
                slab.begin_unpark()
                slab.park()

        threads = [threading.Thread(target=back_and_forth) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            slab.unpark()
        for thread in threads:
            thread.join(timeout=60)
        slab.unpark()
        assert torch.equal(tensor(restored, "b"), STATE["b"])
        slab.park()
        assert scene.mappings() == 0


def test_tensors_that_outlive_a_slab_on_its_way_get_their_bytes(directory: Path) -> None:
    with owned(SLOW, directory) as scene:
        restored = scene.restore(directory)
        kept = tensor(restored, "b")
        slab_of(restored).close()
        assert torch.equal(kept, STATE["b"])


def test_a_slab_on_its_way_that_nobody_keeps_is_called_off(directory: Path) -> None:
    with owned(SLOW, directory) as scene:
        gc.collect()
        before = descriptors("self")
        restored = scene.restore(directory)
        slab = slab_of(restored)
        del restored
        gc.collect()
        slab.close()
        assert scene.mappings() == 0
        assert descriptors("self") == before


def test_slabs_arrive_over_one_socket_in_any_order(tmp_path: Path, directory: Path) -> None:
    late = weights("c", size=512)  # 0.1 s, so that what is looked at has not arrived already
    short = written(tmp_path / "b", late)
    with owned(SLOW, directory, short) as scene:
        first, second = scene.restore(directory), scene.restore(short)
        slab_of(second).unpark()  # the owner speaks of the first one before
        assert torch.equal(tensor(second, "c"), late["c"])
        third = scene.restore(short)
        arrival_of(third).wait(arrival_of(third).size_bytes)
        slab_of(third).park()
        slab_of(first).unpark()
        assert torch.equal(tensor(first, "b"), STATE["b"])
        assert scene.mappings() == 2


def test_a_copy_that_fails_in_the_middle_fails_who_waits_and_is_taken_back(directory: Path) -> None:
    with false_owner(arrived_bytes=4 * MIB) as memory:
        restored = restore(directory, Classes(), {GPU: memory}, streams=True)
        with pytest.raises(ReplicaLost, match="the bus broke") as lost, gated([slab_of(restored)]):
            tensor(restored, "a").sum()  # that much came
            tensor(restored, "b").sum()
        assert isinstance(lost.value.__cause__, DeviceFault)
        with pytest.raises(DeviceFault, match="the bus broke"):
            slab_of(restored).unpark()
        assert slab_of(restored).arrival is None
        slab_of(restored).close()


def test_a_copy_that_fails_in_the_middle_fails_a_restore_that_waits(directory: Path) -> None:
    before = descriptors("self")
    with false_owner(arrived_bytes=4 * MIB) as memory, pytest.raises(DeviceFault):
        restore(directory, Classes(), {GPU: memory})
    del memory
    gc.collect()
    assert descriptors("self") <= before


@contextmanager
def false_owner(arrived_bytes: int) -> Iterator[OwnedMemory]:
    """An owner whose copy of 8 MiB breaks off: what it will say is in the socket already."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    page, granule = ProgressPage(), os.memfd_create("granule")
    os.ftruncate(granule, 8 * MIB)
    page.advance(arrived_bytes)
    page.end(State.FAILED, 0)
    fault = DeviceFault("Over there the bus broke.", operation="copy", code=1)
    said: Sequence[tuple[Message, Sequence[int]]] = (
        (Granules(1, [8 * MIB], more=False, progress=True), [granule, page.descriptor]),
        (Failed(1, fault.to_document()), ()),
        (Released(1), ()),
    )
    with theirs:
        for message, sent in said:
            send(theirs, message, sent)
        page.close()
        os.close(granule)
        yield OwnedMemory(OwnerClient(ours, patience_s=10), HostSpace())


def test_an_owner_that_speaks_of_what_nobody_asked_for_is_lost(directory: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        send(theirs, Released(7))
        with pytest.raises(OwnerLost, match="mapping 7"):
            restore(
                directory,
                Classes(),
                {GPU: OwnedMemory(OwnerClient(ours, patience_s=10), HostSpace())},
            )
