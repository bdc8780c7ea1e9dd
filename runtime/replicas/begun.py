"""A fork server's process. It can be started before there is a loop that talks to it, and this
module imports little: a pod does so first of all."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dsfn.functions.values import dataclass
from dsfn.snapshots.secrets import without_secrets

if TYPE_CHECKING:
    from dsfn.runtime.deploy.confinement import Room

# Where the package is; not asked of the package itself, which has no file where a directory of its
# name in the working directory was found before it.
_HOME = Path(__file__).parents[3]
# Without what Python does at its start for programs that import more; what follows is the image.
FROM_IMAGE = ("-S", "-P", "-c", "from dsfn.runtime.worker.imaged import main; main()")


@dataclass(frozen=True, slots=True)
class Begun:
    """A process that imports what workers need, the `libraries`, and the near end of its socket."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    libraries: tuple[str, ...]


def begin(
    python: Path,
    libraries: Sequence[str],
    *,
    gpus: bool = False,
    in_a_hurry: bool = False,
    room: Room | None = None,
    image: Path | None = None,
) -> Begun:
    """Starts one that imports these libraries. It ends when its socket closes, and with this
    process. `gpus`: its workers may come to use some. `in_a_hurry`: its first worker counts, at the
    price of the later ones. `room`: what it is confined to, and its workers. `image`: one of such a
    process in a hurry, from which it goes on where it fits. Raises `OSError`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with theirs:
        program = [str(python), "-m", "dsfn.runtime.worker"]
        if image is not None:
            program = [str(python), *FROM_IMAGE, str(image)]
        words = [*["gpus"] * gpus, *["first"] * in_a_hurry]
        command = [*program, str(theirs.fileno()), ",".join(libraries), *words]
        process = subprocess.Popen(
            command if room is None else room.command(*command),
            pass_fds=(theirs.fileno(), *([] if room is None else [room.rules])),
            stdin=subprocess.DEVNULL,
            env=environment() | ({} if room is None else room.environment()),
            start_new_session=True,
        )
    return Begun(process, ours, tuple(libraries))


def environment() -> dict[str, str]:
    """The environment of a fork server: none of the platform's secrets, this package importable,
    NumPy's BLAS without threads, since a process with threads cannot be forked safely."""
    path = os.environ.get("PYTHONPATH", "")
    return {
        **without_secrets(os.environ),
        "PYTHONPATH": f"{_HOME}{os.pathsep}{path}" if path else str(_HOME),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
