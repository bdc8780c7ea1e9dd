"""What Knative's queue-proxy is to a pod: a process beside it, by which callers come and go.

`python proxy_beside.py POD_PORT OWN_PORT`: passes connections on to the first port, and answers
requests at the second for as long as it lives, as queue-proxy does where the kubelet asks it to
drain. Prints the port for callers.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

STOP_TIMEOUT_S = 10.0
_CHUNK_BYTES = 1 << 16
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class ProxyBeside:
    """One that runs."""

    process: subprocess.Popen[str]
    own_port: int
    url: str

    def kill(self) -> None:
        """SIGKILL: all of its connections break."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def proxy_beside(pod_port: int, own_port: int) -> Iterator[ProxyBeside]:
    """Runs one before a pod; `own_port` is that at which it answers itself."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(pod_port), str(own_port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield ProxyBeside(process, own_port, f"http://127.0.0.1:{port}")
        finally:
            process.kill()


async def _run(pod_port: int, own_port: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_NOT_FOUND)
        writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(_CHUNK_BYTES):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_pod, to_pod = await asyncio.open_connection("127.0.0.1", pod_port)
        await asyncio.gather(carry(reader, to_pod), carry(from_pod, writer))

    own = await asyncio.start_server(answer, "127.0.0.1", own_port)
    callers = await asyncio.start_server(connect, "127.0.0.1", 0)
    sys.stdout.write(f"{callers.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with own, callers:
        await callers.serve_forever()


if __name__ == "__main__":
    asyncio.run(_run(int(sys.argv[1]), int(sys.argv[2])))
