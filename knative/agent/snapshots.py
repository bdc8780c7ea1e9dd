"""The snapshots on a node's disk: fetched once, whole, and given to pods as open files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path

from dsfn.functions.errors import NotFound, StorageFull
from dsfn.functions.values import dataclass
from dsfn.runtime.tiers.copies import Copies
from dsfn.snapshots.format import MANIFEST_FILE
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.sealed import is_sound
from dsfn.snapshots.transfer import Transfer

_Identity = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file of a snapshot, open for reading."""

    name: str
    descriptor: int


@dataclass(eq=False)
class NodeSnapshots:
    """At most `max_bytes` of snapshots: the one that was given least recently makes room.

    `shown`: where files are opened that pods get. A mount of the same directory that cannot be
    written makes sure that they cannot write either, whoever they are.
    """

    copies: Copies
    root: Path
    shown: Path
    max_bytes: int
    _sound: dict[str, _Identity] = field(default_factory=dict)
    _coming: dict[str, int] = field(default_factory=dict)
    _room: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def open(self, digest: str, again: bool = False) -> list[OpenFile]:
        """The files of a snapshot; the caller closes them. `again`: somebody has found it damaged.

        Raises `NotFound`, `CorruptSnapshot`, `StoreUnavailable`, `StorageFull`.
        """
        await self.ensure(digest, again)
        return await asyncio.to_thread(self._open, digest)

    async def ensure(self, digest: str, again: bool = False) -> None:
        """Has a snapshot be here, every byte as it was captured. Raises as `open`."""
        if again:
            self._sound.pop(digest, None)
        if not await self._is_sound(digest):
            await self._bring(digest)
            self._sound[digest] = await asyncio.to_thread(self._identity, digest)
        with suppress(FileNotFoundError):
            os.utime(self.root / digest)  # which is when it was last of use

    async def _is_sound(self, digest: str) -> bool:
        """Looks at the bytes of what an earlier run has left, or somebody has changed."""
        if not self.copies.files.has(digest):
            return False
        try:
            identity = await asyncio.to_thread(self._identity, digest)
        except OSError:
            return False
        if self._sound.get(digest) != identity:
            transfer = Transfer(self.copies.timeout_s)
            if not await asyncio.to_thread(is_sound, self.root / digest, transfer):
                return False
            self._sound[digest] = identity
        return True

    async def _bring(self, digest: str) -> None:
        manifest = await self.copies.ask(lambda store: store.manifest(digest))
        async with self._room:
            self._coming[digest] = manifest.size_bytes
            try:
                await asyncio.to_thread(self._make_room, digest)
            except BaseException:
                del self._coming[digest]
                raise
        try:
            await self.copies.pull(digest)
        finally:
            self._coming.pop(digest, None)

    def _make_room(self, wanted: str) -> None:
        files = self.copies.files
        coming_bytes = sum(self._coming.values())
        if coming_bytes > self.max_bytes:
            raise StorageFull(
                f"Snapshots have {self.max_bytes} bytes on this node, and {coming_bytes} are wanted"
                " at once."
            )
        kept = [digest for digest in files.digests() if digest not in self._coming]
        kept.sort(key=lambda digest: (self.root / digest).stat().st_mtime_ns)
        sizes = {digest: files.size_bytes(digest) for digest in kept}
        while kept and sum(sizes.values()) + coming_bytes > self.max_bytes:
            oldest = kept.pop(0)
            del sizes[oldest]
            with suppress(NotFound):
                files.delete(oldest)

    def _identity(self, digest: str) -> _Identity:
        """What changes when somebody writes to the files."""
        found = (each.stat() for each in sorted((self.root / digest).iterdir()))
        return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in found)

    def _open(self, digest: str) -> list[OpenFile]:
        directory = self.shown / digest
        try:
            _, manifest = read_manifest(directory)
        except FileNotFoundError:
            raise NotFound(
                f"There is no snapshot {digest!r}.", kind="snapshot", name=digest
            ) from None
        opened: list[OpenFile] = []
        try:
            for name in (*manifest.files(), MANIFEST_FILE):
                descriptor = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC)
                opened.append(OpenFile(name, descriptor))
        except BaseException:
            close_files(opened)
            raise
        return opened


def close_files(files: Sequence[OpenFile]) -> None:
    """Gives descriptors back."""
    for each in files:
        os.close(each.descriptor)
