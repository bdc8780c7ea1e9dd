"""What code of functions may touch while it is deployed, where it runs beside the platform's keys.

Its import, `setup()`, the sample's calls, and what pip builds for it may read the machine's files,
but of the data directory only what they are told of, and no Secret. They may write where they are
told to, to /tmp, and to a home of their own that goes with them. On a node nobody is confined: it
is its owner's, and its replicas run the same code with all its rights.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from dsfn.functions.values import dataclass
from dsfn.runtime import landlock
from dsfn.runtime.disk import full_disk_errors

_LOG = logging.getLogger("dsfn.deploy")
_HOMES = "homes"
# A cluster keeps the token of a pod, and each Secret, on a file system in memory. Of these, those
# that are in a machine's own directories hold none.
_IN_MEMORY = "tmpfs"
_OWN = tuple(map(Path, ("/proc", "/sys", "/dev")))
SECRETS = Path("/run/secrets")
_ESCAPED = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Room:
    """What a program is confined to. It enters `rules`; `home` is its HOME and TMPDIR."""

    rules: int
    home: Path

    def command(self, *command: str) -> tuple[str, ...]:
        """The command that runs another one inside; it has to inherit `rules`."""
        return (sys.executable, "-IS", landlock.__file__, str(self.rules), *command)

    def environment(self) -> dict[str, str]:
        """What the program's environment has beside that of whoever starts it."""
        return {"HOME": str(self.home), "TMPDIR": str(self.home)}


@dataclass(frozen=True, slots=True)
class Confinement:
    """Makes rooms beside the data directory that holds the keys. `secrets`: directories besides."""

    data_dir: Path
    secrets: tuple[Path, ...] = (SECRETS,)

    @asynccontextmanager
    async def room(
        self, *, read: Sequence[Path] = (), write: Sequence[Path] = ()
    ) -> AsyncIterator[Room]:
        """A room whose program may read and write these, too. Raises `StorageFull`, `OSError`."""
        room = self._make(read, write)
        try:
            yield room
        finally:
            os.close(room.rules)
            await asyncio.to_thread(shutil.rmtree, room.home, ignore_errors=True)

    def clean(self) -> None:
        """Drops the homes of what was killed. Call before any `room`."""
        shutil.rmtree(self.data_dir / _HOMES, ignore_errors=True)

    def _make(self, read: Sequence[Path], write: Sequence[Path]) -> Room:
        homes = self.data_dir / _HOMES
        with full_disk_errors("the deployment"):
            homes.mkdir(exist_ok=True)
            home = Path(tempfile.mkdtemp(dir=homes))
        rules = landlock.make_rules()
        try:
            for path in (*read, *write, home):
                rights = landlock.READ if path in read else landlock.WRITE
                landlock.allow(rules, path.resolve(), rights)
            temporary = Path(tempfile.gettempdir()).resolve()
            kept = {each.resolve() for each in (*self.secrets, *_in_memory())} - {temporary}
            kept.add(self.data_dir.resolve())
            above = {parent for each in kept for parent in each.parents}
            _allow_around(rules, Path("/"), landlock.READ, kept, above)
            for place in (Path("/dev"), temporary):
                _allow_around(rules, place, landlock.WRITE, kept, above)
        except BaseException:
            os.close(rules)
            shutil.rmtree(home, ignore_errors=True)
            raise
        return Room(rules, home)


def confinement_of(data_dir: Path) -> Confinement | None:
    """That of code that runs beside this directory; None, with a line in the log, where the
    kernel cannot confine."""
    if landlock.version():
        return Confinement(data_dir)
    _LOG.warning(
        "Landlock is not to be had here: code of functions can read the platform's keys while it is"
        " deployed."
    )
    return None


def _allow_around(rules: int, place: Path, rights: int, kept: set[Path], above: set[Path]) -> None:
    """Allows all in `place` but what is `kept`: whatever is allowed is so with all that is in it,
    so the directories `above` what is kept are not, but what else they hold."""
    if place in kept:
        return
    try:
        if place not in above:
            landlock.allow(rules, place, rights)
            return
        for each in _entries(place):
            _allow_around(rules, each, rights, kept, above)
    except (FileNotFoundError, PermissionError):
        return  # it has gone meanwhile, or is not this user's


def _entries(place: Path) -> Iterator[Path]:
    """What is in a directory but for links, which allow nothing by themselves."""
    with os.scandir(place) as found:
        yield from (Path(each.path) for each in found if not each.is_symlink())


def _in_memory() -> Iterator[Path]:
    """Where file systems in memory are mounted, but for the machine's own."""
    for line in os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).splitlines():
        mount, _, kind = line.partition(" - ")
        place = Path(os.fsdecode(_ESCAPED.sub(_unescaped, os.fsencode(mount.split()[4]))))
        if kind.startswith(_IN_MEMORY) and not any(map(place.is_relative_to, _OWN)):
            yield place


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[1], 8),))
