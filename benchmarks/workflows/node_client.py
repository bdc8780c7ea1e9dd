"""Workflows of a dsfn node, over HTTP; ADDRESS is the node's port.

python -m benchmarks.workflows.node_client DIRECTORY PORT SECONDS chain:10
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.workflows.measure import Client, Resumable, Site, main

STARTERS = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; the headers' names are in lower case."""

    status: int
    headers: Mapping[str, str]
    document: Any


class Http:
    """Requests over connections that are kept, each for one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def request(
        self, method: str, path: str, body: object = None, prefer: str = "wait"
    ) -> Answer:
        """Sends JSON and reads JSON. Raises `OSError` when the node goes away."""
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nPrefer: {prefer}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        streams = self._idle.pop() if self._idle else await self._connect()
        reader, writer = streams
        writer.write(head.encode() + content)
        answer = await _read(reader)
        self._idle.append(streams)
        return answer

    def close(self) -> None:
        """Closes what is idle."""
        for _, writer in self._idle:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    fields = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(first.split()[1]), headers, json.loads(content) if content else None)


class Workflows(Resumable):
    """Posts to workflows; a run that was interrupted is known by the address of its document."""

    def __init__(self, http: Http, site: Site) -> None:
        self._http = http
        self._gate = str(site.gate)
        self._list = site.directory / "runs.json"

    async def chain(self, steps: int) -> int:
        return int(await self._result(f"chain-{steps}", {"x": 0}))

    async def fan_out(self, items: int) -> int:
        return sum(await self._result("fan", {"items": list(range(items))}))

    async def begin(self, runs: int) -> None:
        free = asyncio.Semaphore(STARTERS)
        paths = await asyncio.gather(*(self._start(free) for _ in range(runs)))
        await asyncio.to_thread(self._list.write_text, json.dumps(paths))

    async def ended_at_s(self, runs: int) -> float | None:
        paths = json.loads(await asyncio.to_thread(self._list.read_bytes))
        assert len(paths) == runs, len(paths)
        ended = 0.0
        for path in reversed(paths):  # the last is looked at often, the others when it has ended
            document = (await self._http.request("GET", path)).document
            if document["state"] == "running":
                return None
            assert (document["state"], document["output"]) == ("succeeded", 3), document
            ended = max(ended, datetime.fromisoformat(document["finished_at"]).timestamp())
        return ended

    async def _start(self, free: asyncio.Semaphore) -> str:
        async with free:
            body = {"gate": self._gate}
            path = "/workflows/interrupted"
            answer = await self._http.request("POST", path, body, prefer="respond-async")
        assert answer.status == 202, answer
        return answer.headers["location"]

    async def _result(self, workflow: str, body: object) -> Any:
        answer = await self._http.request("POST", f"/workflows/{workflow}", body)
        assert answer.status == 200, answer
        return answer.document


@asynccontextmanager
async def connect(site: Site) -> AsyncIterator[Client]:
    """Connections are made when they are needed."""
    http = Http(int(site.address))
    try:
        yield Workflows(http, site)
    finally:
        http.close()


if __name__ == "__main__":
    main(connect)
