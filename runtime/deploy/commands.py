"""Programs that a deployment runs beside workers: venv and pip."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping

from dsfn.runtime.deploy.confinement import Room
from dsfn.snapshots.secrets import without_secrets

_TAIL_LINES = 20
_READ_BYTES = 1 << 16
_MAX_LINE_BYTES = 2000
# Run in the program's place: makes the kernel end it with the node, then becomes it.
# PR_SET_PDEATHSIG is 1; the second look closes the gap in which the node may have ended.
_LEASH = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n"
    "os.getppid() == int(sys.argv[1]) or sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


class CommandFailed(Exception):
    """A program ended with an exit code other than 0; `output` is the end of what it printed."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output


async def run_command(
    *command: str,
    on_line: Callable[[str], None] | None = None,
    room: Room | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs a program to its end, line by line; it may be somebody else's, as what pip builds is,
    and gets none of the platform's secrets. `room`: what it is confined to;
    `environment`: its own, in the place of the node's. Raises `CommandFailed`.

    Cancelled, or when the node dies, the program ends with all that it started
    (with the node: itself at once, its own children when they notice).
    """
    variables = without_secrets(os.environ) if environment is None else dict(environment)
    if room is not None:
        command, variables = room.command(*command), variables | room.environment()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-c", _LEASH, str(os.getpid()), *command),
        pass_fds=() if room is None else (room.rules,),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env=variables,
        start_new_session=True,
    )
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    assert process.stdout is not None
    try:
        async for line in _lines(process.stdout):
            tail.append(line)
            if on_line is not None and line:
                on_line(line)
        code = await process.wait()
    except BaseException:
        # Not only its own process: pip builds packages in children.
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        raise
    if code != 0:
        raise CommandFailed("\n".join(tail))


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines of a stream; of one that does not end, its last `_MAX_LINE_BYTES`."""
    rest = b""
    while data := await stream.read(_READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield _text(line)
        rest = rest[-_MAX_LINE_BYTES:]
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line[-_MAX_LINE_BYTES:].decode(errors="replace").rstrip()
