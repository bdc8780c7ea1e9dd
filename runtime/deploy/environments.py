"""Python environments for functions with requirements of their own.

    DIR/environments/<digest>/bin/python
    DIR/environments/<digest>/.complete        written last

A venv sees what is installed next to the node, through a .pth file (a venv made
in a venv would see only the base interpreter's packages), and puts what it
installs itself in front of that.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import site
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path

from dsfn.billing.durable import write_whole
from dsfn.functions.errors import DefinitionError, NotFound, StorageFull
from dsfn.functions.values import dataclass
from dsfn.runtime.deploy.commands import CommandFailed, run_command
from dsfn.runtime.deploy.confinement import Confinement, Room
from dsfn.runtime.disk import full_disk_errors
from dsfn.snapshots.regular import open_regular

INSTALL_TIMEOUT_S = 600.0
_COMPLETE = ".complete"
_MAX_COMPLETE_BYTES = 1 << 20
_LINK = "dsfn-node.pth"
_FULL_DISK = "No space left on device"


@dataclass(frozen=True, slots=True)
class Environment:
    """An interpreter with a set of packages; "" is the digest of the node's own."""

    digest: str
    python: Path


class Environments:
    """The environments of a node, below `root`."""

    def __init__(self, root: Path, install_timeout_s: float = INSTALL_TIMEOUT_S) -> None:
        self._root = root
        self._install_timeout_s = install_timeout_s
        self._lock = asyncio.Lock()

    async def ensure(
        self,
        requirements: tuple[str, ...],
        progress: Callable[[str], None],
        confinement: Confinement | None = None,
    ) -> Environment:
        """The environment with these requirements, made when it is not there yet; `confinement`
        of what pip builds, if any.

        `progress` gets a sentence for each step that takes time. Raises
        `DefinitionError` with pip's own words when they cannot be installed, and
        `StorageFull`.
        """
        if not requirements:
            return Environment("", Path(sys.executable))
        wanted = sorted(set(requirements))
        digest = _digest(wanted)
        async with self._lock:
            path = self._root / digest
            if not (path / _COMPLETE).exists():
                await self._make(path, wanted, progress, confinement)
        return Environment(digest, self.python(digest))

    def python(self, digest: str) -> Path:
        """The interpreter of an environment. Raises `NotFound`."""
        if not digest:
            return Path(sys.executable)
        path = self._root / digest
        if not (path / _COMPLETE).exists():
            raise _no_environment(digest)
        return path / "bin" / "python"

    def requirements(self, digest: str) -> tuple[str, ...]:
        """What an environment was made with. Raises `NotFound`."""
        if not digest:
            return ()
        try:
            with open_regular(self._root / digest / _COMPLETE) as file:
                return tuple(file.read(_MAX_COMPLETE_BYTES).decode().splitlines())
        except (OSError, UnicodeDecodeError):
            raise _no_environment(digest) from None

    def search_path(self, digest: str) -> list[str]:
        """Where the interpreter of an environment finds its packages, in its order."""
        own = (self._root / digest).glob("lib/python*/site-packages") if digest else ()
        return [*map(str, own), *sys.path]

    def clean(self) -> None:
        """Drops what a killed node left half made, and shows the rest where this node's
        packages are. Call at a node's start."""
        for path in self._root.glob("*/"):
            if (path / _COMPLETE).exists():
                _link(path)
            else:
                shutil.rmtree(path)

    async def _make(
        self,
        path: Path,
        requirements: list[str],
        progress: Callable[[str], None],
        confinement: Confinement | None,
    ) -> None:
        """Makes a venv in its final place, since it cannot be moved; the marker comes last."""
        with full_disk_errors("the environment"):
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
            try:
                path.mkdir(parents=True, exist_ok=True)
                async with AsyncExitStack() as stack:
                    room = None
                    if confinement is not None:
                        room = await stack.enter_async_context(confinement.room(write=[path]))
                    await self._install(path, requirements, progress, room)
                # Replaces whatever what pip built has put in its place.
                write_whole(path / _COMPLETE, "".join(f"{r}\n" for r in requirements).encode())
            except BaseException:
                shutil.rmtree(path, ignore_errors=True)
                raise

    async def _install(
        self,
        path: Path,
        requirements: list[str],
        progress: Callable[[str], None],
        room: Room | None,
    ) -> None:
        names = ", ".join(requirements)
        progress(f"Installing {names}.")
        # The node's own pip serves when there is one: a copy costs seconds.
        flags = ("--without-pip",) if find_spec("pip") else ()
        pip = ("install", "--no-input", "--disable-pip-version-check", "--no-warn-script-location")
        try:
            async with asyncio.timeout(self._install_timeout_s):
                await run_command(sys.executable, "-m", "venv", *flags, str(path), room=room)
                _link(path)
                python = str(path / "bin" / "python")
                command = (python, "-m", "pip", *pip, "--", *requirements)
                await run_command(*command, on_line=progress, room=room)
        except TimeoutError:
            raise DefinitionError(
                f"Installing {names} took longer than {self._install_timeout_s:g} s.",
                requirements=requirements,
            ) from None
        except CommandFailed as error:
            if _FULL_DISK in error.output:
                raise StorageFull(
                    "There is no room left on the disk for the environment."
                ) from None
            raise DefinitionError(
                f"pip could not install {names}:\n{error.output}", requirements=requirements
            ) from None


def _no_environment(digest: str) -> NotFound:
    return NotFound(f"There is no environment {digest!r}.", kind="environment", name=digest)


def _link(path: Path) -> None:
    """Shows a venv the packages next to the node, the .pth files among them included."""
    lines = [f"import site; site.addsitedir({str(directory)!r})" for directory in _site_dirs()]
    for packages in path.glob("lib/python*/site-packages"):
        if packages.resolve() == path.resolve() / packages.relative_to(path):
            write_whole(packages / _LINK, "".join(f"{line}\n" for line in lines).encode())


def _site_dirs() -> Iterator[Path]:
    directories = site.getsitepackages()
    if site.ENABLE_USER_SITE:
        directories.append(site.getusersitepackages())
    return (Path(d) for d in directories if Path(d).is_dir())


def _digest(requirements: list[str]) -> str:
    import platform  # a pod, which starts while somebody waits, makes no environments

    content = json.dumps([requirements, platform.python_version()], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:32]
