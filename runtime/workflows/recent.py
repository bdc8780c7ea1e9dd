"""What was used last, up to a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import field
from threading import Lock
from typing import Generic, TypeVar

from dsfn.functions.values import dataclass

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(eq=False, slots=True)
class Recent(Generic[K, V]):
    """A mapping that forgets what was used longest ago. Safe to use from threads."""

    max_bytes: int
    _entries: OrderedDict[K, tuple[V, int]] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _lock: Lock = field(default_factory=Lock)

    def get(self, key: K) -> V | None:
        """What is kept under `key`."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            self._entries.move_to_end(key)
            return found[0]

    def put(self, key: K, value: V, size_bytes: int) -> None:
        """Keeps a value; one that is larger than all there may be is not kept."""
        with self._lock:
            self._bytes -= self._entries.pop(key, (None, 0))[1]
            if size_bytes > self.max_bytes:
                return
            self._entries[key] = (value, size_bytes)
            self._bytes += size_bytes
            while self._bytes > self.max_bytes:
                self._bytes -= self._entries.popitem(last=False)[1][1]
