"""Slabs that the owner codes in the background, on stand-ins for GPUs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from owner_scenes import FAST, MIB, TENANT, connected, judged, running_owner

from dsfn.functions.errors import NotFound, UsageError
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.memory import Memory
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.messages import Start
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.verify import verify

SLOW = f"host:{64 * MIB}:{8 * MIB}"  # its bus is slower than any decoding


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario())


def weights(values: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(values, generator=generator) * 0.02).to(dtype)


def taken(directory: Path, state: dict[str, torch.Tensor]) -> tuple[Path, str]:
    """A snapshot for a GPU, and the digest of its slab."""
    directory.mkdir()
    capture(state, Classes(), directory, place=lambda _: "gpu:0")
    _, manifest = read_manifest(directory)
    (slab,) = manifest.slabs
    return directory, slab.digest


def half_weights(directory: Path, size_bytes: int = 3 * MIB) -> tuple[Path, str]:
    return taken(directory, {"weight": weights(size_bytes // 2, torch.bfloat16)})


async def comes_back(control: OwnerControl, directory: Path, device: int = 0) -> None:
    """Restores the snapshot, and compares every byte with its file."""
    memories: dict[str, Memory] = {"gpu:0": await connected(control, device=device)}
    await asyncio.to_thread(verify, directory, Classes(), memories)


def test_weights_are_coded_when_that_is_faster_and_come_back_right(tmp_path: Path) -> None:
    directory, digest = half_weights(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(SLOW, compress=True) as control:
            assert control.facts["codec"].startswith("zlib")
            await control.load(TENANT, directory)
            slab = await judged(control, digest)
            assert (slab.coded, slab.reason) == (True, "")
            assert slab.coded_bytes <= slab.arena_bytes < 0.9 * slab.data_bytes
            assert 0 < slab.coded_us < 0.95 * slab.plain_us
            account = await control.account()
            assert (account.coded_slabs, account.arena_used_bytes) == (1, slab.arena_bytes)
            for _ in range(3):
                await comes_back(control, directory)
            carried = (await control.account()).links[0].own_bytes
            await comes_back(control, directory)
            assert (await control.account()).links[0].own_bytes - carried < slab.arena_bytes
            await control.evict(TENANT, digest)
            assert (await control.account()).arena_used_bytes == 0

    run(scenario)


@pytest.mark.parametrize(
    ("device", "state", "reason"),
    [
        (FAST, {"w": weights(2 * MIB, torch.bfloat16)}, "it does not come back faster"),
        (SLOW, {"w": torch.randint(-128, 127, (2 * MIB,), dtype=torch.int8)}, "smaller"),
        (SLOW, {"w": weights(1000, torch.float16)}, "it is too small"),
    ],
)
def test_a_slab_that_gains_nothing_stays_as_it_is(
    tmp_path: Path, device: str, state: dict[str, torch.Tensor], reason: str
) -> None:
    directory, digest = taken(tmp_path / "a", state)

    async def scenario() -> None:
        async with running_owner(device, compress=True) as control:
            await control.load(TENANT, directory)
            before = await control.coding(TENANT, digest)
            slab = await judged(control, digest)
            assert not slab.coded
            assert reason in slab.reason
            account = await control.account()
            assert (account.coded_slabs, account.arena_used_bytes) == (0, before.arena_bytes)
            assert account.devices[0].resident_bytes == 0
            await comes_back(control, directory)

    run(scenario)


def test_a_mixture_of_dtypes_comes_back_right(tmp_path: Path) -> None:
    bits = torch.arange(-(1 << 15), 1 << 15).to(torch.int16)
    state = {
        "all halves": bits.view(torch.float16),  # every NaN, both zeros, all denormals
        "all brains": bits.view(torch.bfloat16),
        "half": weights(700_001, torch.float16),
        "brain": weights(1_500_000, torch.bfloat16),
        "noise": torch.randint(-128, 127, (333_333,), dtype=torch.int8),
        "single": weights(200_000, torch.float32),
        "equal": torch.full((123_457,), 0.5, dtype=torch.bfloat16),
        "nothing": torch.empty(0, dtype=torch.bfloat16),
        "last": torch.zeros(3, dtype=torch.int8),
    }
    directory, digest = taken(tmp_path / "a", state)

    async def scenario() -> None:
        async with running_owner(SLOW, compress=True) as control:
            await control.load(TENANT, directory)
            assert (await judged(control, digest)).coded
            await comes_back(control, directory)

    run(scenario)


def test_restores_while_a_slab_is_coded_are_right(tmp_path: Path) -> None:
    directory, digest = half_weights(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(SLOW, compress=True) as control:
            await control.load(TENANT, directory)
            restores = 0
            while not (await control.coding(TENANT, digest)).coded:
                assert (restores := restores + 1) < 30
                await comes_back(control, directory)
                await asyncio.sleep(0.2)
            await comes_back(control, directory)
            slab = await control.coding(TENANT, digest)
            assert (await control.account()).arena_used_bytes == slab.arena_bytes

    run(scenario)


def test_a_slab_is_evicted_in_the_middle_of_its_coding(tmp_path: Path) -> None:
    directory, digest = half_weights(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(SLOW, compress=True) as control:
            for delay_s in (0, 0.1, 0.5, 1.0):
                await control.load(TENANT, directory)
                await asyncio.sleep(delay_s)
                async with asyncio.timeout(2):
                    await asyncio.gather(
                        control.evict(TENANT, digest),
                        control.evict(TENANT, digest),
                        return_exceptions=True,
                    )
                with pytest.raises(NotFound):
                    await control.coding(TENANT, digest)
                account = await control.account()
                assert (account.arena_used_bytes, account.slabs) == (0, 0)

    run(scenario)


def test_coding_gives_its_room_to_a_slab_that_is_loaded(tmp_path: Path) -> None:
    first, first_digest = half_weights(tmp_path / "a")
    second, second_digest = taken(
        tmp_path / "b", {"weight": weights(3 * MIB // 2, torch.bfloat16, seed=1)}
    )

    async def scenario() -> None:
        async with running_owner(SLOW, arena_bytes=8 * MIB, compress=True) as control:
            await control.load(TENANT, first)
            await control.load(TENANT, second)  # both fit, but with no room to code either
            for directory, digest in ((first, first_digest), (second, second_digest)):
                await comes_back(control, directory)
                assert not (await control.coding(TENANT, digest)).coded
            await control.evict(TENANT, first_digest)
            assert (await judged(control, second_digest)).coded
            await control.load(TENANT, first)  # and now there is more room than before
            assert (await judged(control, first_digest)).coded

    run(scenario)


def test_a_coded_slab_comes_over_two_links_to_each_device(tmp_path: Path) -> None:
    directory, digest = half_weights(tmp_path / "a", 8 * MIB)

    async def scenario() -> None:
        async with running_owner(SLOW, SLOW, compress=True) as control:
            await control.load(TENANT, directory)
            assert (await judged(control, digest)).coded
            for device in (0, 1):
                await comes_back(control, directory, device)
            links = (await control.account()).links
            assert all(link.relayed_bytes > 0 for link in links)

    run(scenario)


def test_pieces_that_no_codec_can_have_are_refused() -> None:
    async def scenario() -> None:
        plain = Start(0, [FAST], piece_bytes=100_000)
        with HostFile.for_arena(MIB) as arena:
            with pytest.raises(UsageError, match="coded"):
                await OwnerControl.start(replace(plain, compress=True), arena)
            control = await OwnerControl.start(plain, arena)
        assert control.facts["codec"] == "none, because nobody asked for it"
        await control.stop()

    run(scenario)
