"""The agent's socket and its port: what pods ask, and what it answers."""

from __future__ import annotations

import asyncio
import errno
import hmac
import logging
import socket
from dataclasses import field
from pathlib import Path

from dsfn.billing.posting_document import Measured, read_posting
from dsfn.billing.usage import Usage
from dsfn.functions.errors import DsfnError, MalformedBody, Unauthenticated
from dsfn.functions.values import dataclass
from dsfn.knative.agent.committing import Committer
from dsfn.knative.agent.forwarding import Forwarder
from dsfn.knative.agent.outbox import Outbox
from dsfn.knative.agent.packets import Packets, packets_of
from dsfn.knative.agent.presence import Presence
from dsfn.knative.agent.snapshots import NodeSnapshots, OpenFile, close_files
from dsfn.knative.agent.wire import BadPacket, Message, decode, encode
from dsfn.knative.pod.control import Control
from dsfn.knative.pod.listening import cannot_listen

BACKLOG = 512
MAX_CONNECTIONS = 4096
# A connection that does not say whose it is takes the place of another.
HELLO_TIMEOUT_S = 10.0
# What a process, or its machine, has no more of, and has again once connections end.
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SHORT_PAUSE_S = 0.1
# A shortage comes and goes with each connection, and is told of so seldom.
SILENT_S = 60.0
_LOG = logging.getLogger("dsfn.agent")


def listen(path: Path) -> socket.socket:
    """A socket at `path`, in the place of what an earlier run has left there. Pods have other
    users than the agent, so everybody may connect: the key says who may ask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.setblocking(False)
    listener.bind(str(fresh))
    fresh.chmod(0o666)
    listener.listen(BACKLOG)
    fresh.replace(path)  # so that who connects finds the old one or a new one that listens
    return listener


def listen_tcp(port: int) -> socket.socket:
    """A socket on a port of every address. Raises `UsageError` where it cannot be had."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        listener = socket.create_server(
            ("", port), family=family, backlog=BACKLOG, dualstack_ipv6=both
        )
    except OSError as error:
        raise cannot_listen("agent", port, error) from error
    listener.setblocking(False)
    return listener


@dataclass(eq=False)
class Server:
    """Serves pods. `api_key`: what they must know, which is what they would tell the control
    service. A connection without a `hello` gets nothing."""

    committer: Committer
    forwarder: Forwarder
    presence: Presence
    snapshots: NodeSnapshots
    control: Control
    api_key: str
    _connections: set[asyncio.Task[None]] = field(default_factory=set)
    _silent_until_s: float = 0.0

    async def run(self, listener: socket.socket) -> None:
        """Goes on until it is cancelled."""
        while True:
            connection = await self._accept(listener)
            if len(self._connections) >= MAX_CONNECTIONS:
                connection.close()
                continue
            task = asyncio.create_task(self._serve(connection))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def close(self) -> None:
        """Ends all connections."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> socket.socket:
        """The next connection. While there are no descriptors or no memory for one, it waits for
        those that end. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return (await loop.sock_accept(listener))[0]
            except ConnectionAbortedError:
                continue  # it has gone before it was taken
            except OSError as error:
                if error.errno not in _SHORT:
                    raise
                if loop.time() >= self._silent_until_s:
                    self._silent_until_s = loop.time() + SILENT_S
                    _LOG.warning("The agent takes no connections for now: %s.", error.strerror)
                await asyncio.sleep(SHORT_PAUSE_S)

    async def _serve(self, connection: socket.socket) -> None:
        pod = ""
        try:
            packets = packets_of(connection)
            while packet := await _next(packets, None if pod else HELLO_TIMEOUT_S):
                files: list[OpenFile] = []
                try:
                    message = decode(packet)
                    if not pod:
                        pod = await self._welcome(message)
                        reply: Message = {}
                    else:
                        if message["do"] == "snapshot" and not packets.give_files:
                            raise ValueError("no file comes this way")
                        reply = await self._answer(pod, message, files)
                except (BadPacket, ValueError, TypeError, KeyError) as error:
                    reply = MalformedBody(f"That is no message to an agent: {error}.").to_document()
                except DsfnError as error:
                    reply = error.to_document()
                await _send(packets, reply, files)
                if not pod:
                    break  # who does not say first of all whose it is holds no connection
        except OSError:
            pass  # it has gone
        finally:
            connection.close()
            if pod:
                await self.presence.went(pod)

    async def _welcome(self, message: Message) -> str:
        key = str(message.get("key", ""))
        if message["do"] != "hello" or not hmac.compare_digest(key.encode(), self.api_key.encode()):
            raise Unauthenticated("The agent wants the key of the control service.")
        pod = str(message["pod"])
        if not pod:
            raise ValueError("a pod has an id")
        await self.presence.came(pod)
        return pod

    async def _answer(self, pod: str, message: Message, files: list[OpenFile]) -> Message:
        match message["do"]:
            case "hello":
                return {}
            case "reserve":
                await self._reserve(pod, read_posting(message["row"]))
                return {}
            case "release":
                call = str(message["call"])
                await self.committer.do(lambda outbox: outbox.release(call))
                return {}
            case "post":
                return {"refused": await self._post([read_posting(r) for r in message["rows"]])}
            case "has":
                return {"is_there": await self._has(str(message["call"]))}
            case "snapshot":
                digest, again = str(message["digest"]), bool(message["again"])
                files += await self.snapshots.open(digest, again)
                return {"files": [each.name for each in files]}
        raise ValueError(f"{message['do']!r} is not known")

    async def _reserve(self, pod: str, row: Measured) -> None:
        if not isinstance(row, Usage):
            raise ValueError("calls are reserved for")

        def reserve(outbox: Outbox) -> None:
            outbox.reserve(pod, row)

        await self.committer.do(reserve)

    async def _post(self, rows: list[Measured]) -> list[int]:
        refused = await self.committer.do(lambda outbox: outbox.post(rows))
        self.forwarder.hurry()
        return refused

    async def _has(self, call: str) -> bool:
        """A row is here until it is in the ledger, so it is asked in this order."""
        return await self.committer.do(lambda outbox: outbox.has(call)) or (
            await self.control.has(call)
        )


async def _next(packets: Packets, timeout_s: float | None) -> bytes:
    """Raises `OSError`, `TimeoutError` among them."""
    async with asyncio.timeout(timeout_s):
        return await packets.receive()


async def _send(packets: Packets, reply: Message, files: list[OpenFile]) -> None:
    """Raises `OSError`."""
    try:
        await packets.send(encode(reply), [each.descriptor for each in files])
    finally:
        close_files(files)
