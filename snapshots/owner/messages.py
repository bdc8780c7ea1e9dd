"""What goes over the owner's sockets: JSON documents in packets, some with descriptors.

    node -> owner     Start (+ the arena's file), TakeOver, Load, Evict, Connect (+ a worker's
                      socket), Trim, Freeze, Thaw, Query, Slabs, Inspect
    owner -> node     Done, Failed
    worker -> owner   Map, Check, Release
    owner -> worker   Granules (+ their descriptors), Checked, Released, Failed

All sockets are Unix sockets of SOCK_SEQPACKET. `id` is the sender's number for the request,
or for the mapping that the worker asks for, and comes back in every answer to it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, field, fields

from dsfn.functions.errors import BadMessage
from dsfn.functions.values import dataclass

MAX_MESSAGE_BYTES = 1 << 16
MAX_DESCRIPTORS = 200  # a packet; the kernel's own limit is 253


@dataclass(frozen=True, slots=True)
class Message:
    """A document whose keys are the fields' names, and "op", the class's."""

    id: int


@dataclass(frozen=True, slots=True)
class Start(Message):
    """The first message: take the arena, whose `HostFile` comes along, and the `devices`.

    A device is "cuda:INDEX", or a stand-in that needs no GPU: "host:BYTES:BYTES_PER_S", or
    "host:DIRECTORY:BYTES_PER_S", whose memory is that of a file system.
    GPU memory comes in granules of `granule_sizes`: few for a large slab, since each has to be
    mapped, and those of equal size serve another slab next. Copies go in pieces of
    `piece_bytes`; `reserve_bytes` of each device are left to others. With `compress`, slabs that
    come back faster for it are coded in the arena, as far as the devices have a codec. Done:
    {"pages": what kind of pages the arena has, "touch_us", "register_us", "device_classes":
    [str], "codec": its name, or "none, because ..."}.
    """

    devices: list[str]
    granule_sizes: list[int] = field(default_factory=lambda: [1 << 30, 256 << 20, 64 << 20])
    piece_bytes: int = 32 << 20
    reserve_bytes: int = 512 << 20
    compress: bool = False


@dataclass(frozen=True, slots=True)
class TakeOver(Message):
    """Find what the owner before has left in the arena of this tenant's, if that `is_sound`, and
    forget the rest. Done: {"slabs": {digest: bytes}}."""

    tenant: str
    is_sound: bool


@dataclass(frozen=True, slots=True)
class Load(Message):
    """Read a slab file into the arena and check its `digest` (sha256). Done: {}."""

    tenant: str
    digest: str
    path: str
    data_offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Evict(Message):
    """Drop a slab from the arena. Refused with `Conflict` while it is copied. Done: {}."""

    tenant: str
    digest: str


@dataclass(frozen=True, slots=True)
class Connect(Message):
    """Serve the worker at the other end of the socket that comes along, which may have memory
    of these `devices`, by their index in `Start.devices`. Done: {}."""

    tenant: str
    devices: list[int]


@dataclass(frozen=True, slots=True)
class Trim(Message):
    """Give the pooled memory of all devices back to their drivers. Done: {}."""


@dataclass(frozen=True, slots=True)
class Freeze(Message):
    """Take all that the process `pid` has on a GPU away, its context too: it has nothing mapped,
    and does not touch a GPU until it is thawed. Done: {}."""

    pid: int
    device: int


@dataclass(frozen=True, slots=True)
class Thaw(Message):
    """Give a frozen process back what it had on a GPU. Done: {}."""

    pid: int
    device: int


@dataclass(frozen=True, slots=True)
class Query(Message):
    """Where every byte is. Done: `dsfn.snapshots.owner.account.Account` as a document."""


@dataclass(frozen=True, slots=True)
class Inspect(Message):
    """What came of coding this slab. Done: `dsfn.snapshots.owner.account.CodingAccount`."""

    tenant: str
    digest: str


@dataclass(frozen=True, slots=True)
class Slabs(Message):
    """What the arena has to evict. Done: {"slabs": as many of
    `dsfn.snapshots.owner.account.SlabAccount` as a packet has room for, as documents, the least
    recently used first}."""


@dataclass(frozen=True, slots=True)
class Map(Message):
    """Give me memory of a device with the data of the slab `digest` in it, as mapping `id`."""

    digest: str
    device: int


@dataclass(frozen=True, slots=True)
class Release(Message):
    """I have nothing of mapping `id` mapped any more."""


@dataclass(frozen=True, slots=True)
class Check(Message):
    """Compare what is in mapping `id` with what was captured; nobody writes to it meanwhile."""


@dataclass(frozen=True, slots=True)
class Granules(Message):
    """A mapping's granules in order, a descriptor each; `more` says that others follow.

    The first packet's last descriptor is the page of `dsfn.snapshots.owner.progress` instead,
    and `progress` says so.
    """

    sizes: list[int]
    more: bool
    progress: bool


@dataclass(frozen=True, slots=True)
class Checked(Message):
    """Whether each byte of the mapping is as it was captured."""

    is_intact: bool


@dataclass(frozen=True, slots=True)
class Released(Message):
    """The mapping is no more."""


@dataclass(frozen=True, slots=True)
class Done(Message):
    """A node's request is done."""

    result: dict[str, object]


@dataclass(frozen=True, slots=True)
class Failed(Message):
    """It was not done; `error` is a `DsfnError`'s document."""

    error: dict[str, object]


_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in Message.__subclasses__()}
_TYPES = {"int": int, "str": str, "bool": bool, "list[int]": list, "list[str]": list}


def encode(message: Message) -> bytes:
    """A packet's bytes."""
    return json.dumps({"op": type(message).__name__, **asdict(message)}).encode()


def decode(data: bytes) -> Message:
    """Reads a packet. Raises `BadMessage`; the sender may be anybody's code."""
    try:
        document = json.loads(data)
        kind = _KINDS[document.pop("op")]
        message = kind(**document)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BadMessage("A packet is no message of the protocol.") from error
    for each in fields(kind):
        value = getattr(message, each.name)
        if type(value) is not _TYPES.get(str(each.type), dict) or (
            type(value) is int and not 0 <= value < 1 << 62
        ):
            raise BadMessage(f"{each.name} of a {kind.__name__} cannot be {value!r:.100}.")
    return message


def send(connection: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Sends one packet; the descriptors stay open here. Raises `OSError`."""
    socket.send_fds(connection, [encode(message)], descriptors)


def receive(connection: socket.socket) -> tuple[Message | None, list[int]]:
    """One packet and its descriptors, which are then the caller's; None at the end.

    Raises `BadMessage`, `OSError`.
    """
    data, descriptors, flags, _ = socket.recv_fds(
        connection, MAX_MESSAGE_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
    )
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise BadMessage("A packet is too large.")
        return (decode(data) if data else None), descriptors
    except BaseException:  # it goes on; the descriptors must not stay behind
        close_all(descriptors)
        raise


def close_all(descriptors: Sequence[int]) -> None:
    """Closes them."""
    for descriptor in descriptors:
        os.close(descriptor)
