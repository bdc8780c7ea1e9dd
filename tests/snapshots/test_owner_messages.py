"""What goes over the owner's sockets, and what is refused there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from owner_scenes import (
    FAST,
    MIB,
    TENANT,
    connected,
    run,
    running_owner,
    snapshot,
)

from dsfn.functions.errors import (
    BadMessage,
    UsageError,
)
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.owner.control import OwnerControl
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.messages import Map, Message, Start, decode, encode
from dsfn.snapshots.restore import restore


@pytest.mark.parametrize(
    "packet", [b"{", b"[]", b'{"op":"Map"}', b'{"op":"Map","id":"1","digest":"x"}', b'{"op":"x"}']
)
def test_a_packet_that_is_no_message_is_refused(packet: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(packet)


@given(st.integers(0, 1 << 61), st.text(max_size=50))
def test_a_message_is_read_back_as_it_was_written(number: int, digest: str) -> None:
    message: Message = Map(number, digest, 0)
    assert decode(encode(message)) == message


def test_a_worker_that_talks_nonsense_is_dropped_and_others_are_served(tmp_path: Path) -> None:
    directory = snapshot(tmp_path / "a")

    async def scenario() -> None:
        async with running_owner(FAST) as control:
            await control.load(TENANT, directory)
            foreign = encode(Map(1, "", device=1))
            for packet in (
                b"nonsense",
                b'{"op":"Query","id":1}',
                b'{"op":"Release","id":1}',
                foreign,
            ):
                with await control.connect(TENANT) as liar:
                    liar.settimeout(10)
                    liar.send(packet)
                    assert liar.recv(1) == b""
            assert (await control.account()).workers == 0
            restore(directory, Classes(), {"gpu:0": await connected(control)})

    run(scenario)


def test_the_owner_imports_no_torch() -> None:
    code = "import dsfn.snapshots.owner.server, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_device_that_there_is_not_is_refused() -> None:
    async def scenario() -> None:
        with HostFile.for_arena(MIB) as arena:
            for name in ("host:1", "cuda:x", "tpu:0"):
                with pytest.raises(UsageError, match="There is no device"):
                    await OwnerControl.start(Start(0, [name]), arena)

    run(scenario)
