"""What the owner tells about its slabs, for whoever has to evict some."""

from __future__ import annotations

from pathlib import Path

from owner_scenes import FAST, MIB, TENANT, connected, run, running_owner, snapshot

from dsfn.snapshots.classes import Classes
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.restore import Restored, restore


async def restored(control: OwnerControl, directory: Path) -> Restored:
    return restore(directory, Classes(), {"gpu:0": await connected(control)})


def digest(directory: Path) -> str:
    (slab,) = read_manifest(directory)[1].slabs
    return slab.digest


def test_a_node_sees_what_an_eviction_would_cost(tmp_path: Path) -> None:
    first, second = snapshot(tmp_path / "a"), snapshot(tmp_path / "b", seed=1)

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, first)
            await control.load(TENANT, second)
            found = await restored(control, first)
            await restored(control, second)
            found.slabs["gpu:0"].park()
            found.slabs["gpu:0"].unpark()
            unused, used = await control.slabs()
            assert (unused.digest, unused.uses) == (digest(second), 1)
            assert (used.tenant, used.digest) == (TENANT, digest(first))
            assert (used.uses, used.mappings, used.readers) == (2, 1, 0)
            assert 0 < unused.last_used_us < used.last_used_us

    run(scenario)


def test_slabs_that_do_not_fit_an_answer_are_those_used_last(tmp_path: Path) -> None:
    names = [str(number) * 10_000 for number in range(9)]  # tenants, six of which fill a packet
    directory = snapshot(tmp_path / "a", MIB)

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            for name in (*names, TENANT):
                await control.load(name, directory)
            await restored(control, directory)
            told = [slab.tenant for slab in await control.slabs()]
            assert 3 < len(told) < len(names)
            assert TENANT not in told
            assert (await control.account()).slabs == len(names) + 1

    run(scenario)
