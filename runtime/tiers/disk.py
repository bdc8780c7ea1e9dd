"""The snapshots on a node's disk, with what is asked of them again and again."""

from __future__ import annotations

import asyncio
from dataclasses import field

from dsfn.functions.errors import CorruptSnapshot, NotFound
from dsfn.functions.values import dataclass
from dsfn.snapshots.reading import read_manifest
from dsfn.snapshots.store import FileStore


@dataclass(frozen=True, slots=True)
class Present:
    """A snapshot that is there. `bytes`: its files but for the manifest."""

    bytes: int
    published_at_us: int


@dataclass(eq=False)
class Disk:
    """A snapshot never changes while it is there, so each is looked at once."""

    files: FileStore
    _known: dict[str, Present] = field(default_factory=dict)
    _devices: dict[str, str] = field(default_factory=dict)

    async def contents(self) -> dict[str, Present]:
        """Every snapshot on the disk by digest."""
        digests = await asyncio.to_thread(self.files.digests)
        for digest in digests:
            if digest not in self._known:
                found = await asyncio.to_thread(self._look, digest)
                if found is not None:
                    self._known[digest] = found
        return {digest: self._known[digest] for digest in digests if digest in self._known}

    async def device(self, digest: str) -> str:
        """The class of device that a snapshot was captured for; "" when its manifest is not here
        or cannot be read."""
        if digest not in self._devices:
            self._devices[digest] = await asyncio.to_thread(self._device, digest)
        return self._devices[digest]

    async def delete(self, digest: str) -> None:
        """Deletes a snapshot; that it is not there is as good."""
        self.forget(digest)
        try:
            await asyncio.to_thread(self.files.delete, digest)
        except NotFound:
            return

    def forget(self, digest: str) -> None:
        """The snapshot is another copy now, or gone."""
        self._known.pop(digest, None)
        self._devices.pop(digest, None)

    def _look(self, digest: str) -> Present | None:
        try:
            published_at_us = self.files.path(digest).stat().st_mtime_ns // 1000
            return Present(self.files.size_bytes(digest), published_at_us)
        except (NotFound, FileNotFoundError):
            return None

    def _device(self, digest: str) -> str:
        try:
            return read_manifest(self.files.path(digest))[1].device_class
        except (CorruptSnapshot, NotFound):
            return ""
