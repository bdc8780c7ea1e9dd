"""The checks of `dsfn doctor`. Each looks at one thing and never raises."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from dsfn.functions.errors import DsfnError
from dsfn.functions.values import dataclass
from dsfn.runtime.cli import daemon
from dsfn.runtime.cli.output import size
from dsfn.runtime.cli.place import data_dir

PYTHON_MIN = (3, 11)
MEMORY_MIN_BYTES = 2 << 30
DISK_MIN_BYTES = 2 << 30
DESCRIPTORS_MIN = 4096
# From this release on, SQLite does not lose commits when two connections reset its log.
SQLITE_MIN = (3, 51, 3)
NVIDIA_SMI_TIMEOUT_S = 10
MAX_WORDS_BYTES = 1 << 20

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check saw. `remedy`: how to get what is missing, "" when nothing is."""

    check: str
    state: State
    found: str
    remedy: str = ""

    def to_document(self) -> dict[str, Any]:
        """This finding as a JSON-able document."""
        return asdict(self)


def python() -> Finding:
    """The interpreter's version."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info >= PYTHON_MIN:
        return Finding("python", "ok", found)
    return Finding("python", "fail", found, "Install Python 3.11 or newer.")


def processors() -> Finding:
    """The processors that this process may use."""
    return Finding("processors", "ok", str(len(os.sched_getaffinity(0))))


def memory() -> Finding:
    """The machine's memory."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if total >= MEMORY_MIN_BYTES:
        return Finding("memory", "ok", size(total))
    return Finding("memory", "warn", size(total), "Models want at least 2 GB of memory.")


def torch() -> Finding:
    """Whether torch is installed; it is not loaded."""
    found = _version("torch")
    if found:
        return Finding("torch", "ok", found)
    remedy = "For snapshots and tensors run `pip install 'dsfn[torch]'`."
    return Finding("torch", "warn", "not installed", remedy)


def gpu() -> Finding:
    """Whether the NVIDIA driver shows a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding("gpu", "ok", "none; functions run on the processors")
    try:
        answer = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return Finding("gpu", "warn", "nvidia-smi fails", "Reinstall the NVIDIA driver.")
    return Finding("gpu", "ok", ", ".join(answer.stdout.split("\n")).strip(", "))


def sqlite() -> Finding:
    """The SQLite that comes with apsw."""
    if find_spec("apsw") is None:
        return Finding("sqlite", "fail", "apsw is not installed", "Run `pip install apsw`.")
    import apsw

    found = apsw.sqlite_lib_version()
    if tuple(int(part) for part in found.split(".")) >= SQLITE_MIN:
        return Finding("sqlite", "ok", found)
    return Finding("sqlite", "fail", found, "Run `pip install --upgrade apsw`.")


def images() -> Finding:
    """What functions with Image parameters need."""
    return _extra("images", "pillow")


def audio() -> Finding:
    """What functions with Audio parameters need."""
    return _extra("audio", "soundfile")


def disk() -> Finding:
    """Free space for bundles, snapshots and the ledger."""
    directory = data_dir()
    existing = next(p for p in (directory, *directory.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    found = f"{size(free)} free in {directory}"
    if free >= DISK_MIN_BYTES:
        return Finding("disk", "ok", found)
    return Finding("disk", "warn", found, "Free some space, or set DSFN_DATA to another disk.")


def descriptors() -> Finding:
    """How many files a process may open: a node needs two for each replica and one a client."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = "unlimited" if most == resource.RLIM_INFINITY else str(most)
    if most == resource.RLIM_INFINITY or most >= DESCRIPTORS_MIN:
        return Finding("descriptors", "ok", found)
    return Finding("descriptors", "warn", found, "Raise the limit with `ulimit -Hn 65536`.")


def fork_server() -> Finding:
    """Whether a worker can be born: starts a fork server, forks one, ends both."""
    with _standard_error() as words:
        try:
            asyncio.run(_fork_one())
        except (DsfnError, OSError, TimeoutError) as error:
            last = (words().splitlines() or [str(error)])[-1]
            return Finding("fork server", "fail", last, "Reinstall dsfn with `pip install dsfn`.")
    return Finding("fork server", "ok", "forks workers")


def node() -> Finding:
    """Whether a node runs on the data directory."""
    running = daemon.running_node(data_dir())
    if running is None:
        return Finding("node", "warn", "none runs", "Start one with `dsfn up --detach`.")
    if not daemon.is_ready(running.url):
        return Finding("node", "warn", f"pid {running.pid} does not answer", "Try again soon.")
    return Finding("node", "ok", f"{running.url} (pid {running.pid})")


Check = Callable[[], Finding]

CHECKS: tuple[Check, ...] = (
    python,
    processors,
    memory,
    torch,
    gpu,
    sqlite,
    images,
    audio,
    disk,
    descriptors,
    fork_server,
    node,
)


async def _fork_one() -> None:
    from dsfn.runtime.replicas.forkserver import ForkServer

    server = ForkServer(Path(sys.executable))
    try:
        worker = await server.spawn()
        worker.kill()
        async with asyncio.timeout(10):
            await worker.exited
        worker.close()
    finally:
        await server.close()


@contextmanager
def _standard_error() -> Iterator[Callable[[], str]]:
    """Keeps what this process and its children write to standard error; gives a reader of it."""
    kept, own = os.memfd_create("doctor"), os.dup(2)
    os.dup2(kept, 2)
    try:
        yield lambda: os.pread(kept, MAX_WORDS_BYTES, 0).decode(errors="replace").strip()
    finally:
        os.dup2(own, 2)
        os.close(own)
        os.close(kept)


def _extra(check: str, package: str) -> Finding:
    found = _version(package)
    if found:
        return Finding(check, "ok", f"{package} {found}")
    return Finding(check, "warn", f"no {package}", "Run `pip install 'dsfn[media]'`.")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
