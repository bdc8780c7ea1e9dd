"""The memory of a process that stands still, as the kernel shows it: proc(5)."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

from dsfn.functions.values import dataclass
from dsfn.snapshots.process.image import Unfit
from dsfn.snapshots.process.machine import EXECUTE, PAGE_BYTES, READ, WRITE

_PROTECTIONS = {"r": READ, "w": WRITE, "x": EXECUTE}
# Each process has its own of these, and another one's are of no use.
_KERNELS = frozenset({"[vvar]", "[vvar_vclock]", "[vsyscall]"})
_DELETED = " (deleted)"
# Of an entry of pagemap: in memory, swapped out, and of a file or shared.
_PRESENT, _SWAPPED, _OF_FILE = 1 << 63, 1 << 62, 1 << 61
# Pieces that are so near are one: a system call takes as long as to copy the pages between them.
_NEAR_PAGES = 8


@dataclass(frozen=True, slots=True)
class Stretch:
    """Addresses of one mapping. `name`: a file's path, or the kernel's name, "" for neither;
    `is_wiped`: a child of the process finds it empty."""

    begin: int
    end: int
    protection: int
    offset: int
    name: str
    is_wiped: bool

    @property
    def file(self) -> str:
        """The path of the file that is mapped."""
        return self.name if self.name.startswith("/") else ""


def stretches(pid: int) -> Iterator[Stretch]:
    """What a process has mapped. Raises `OSError`, and `Unfit` for what no other process can map
    again."""
    lines = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines()
    heads = [number for number, line in enumerate(lines) if not line.split(" ", 1)[0].endswith(":")]
    for number, following in zip(heads, [*heads[1:], len(lines)], strict=True):
        addresses, permissions, offset, _, _, *rest = lines[number].split(None, 5)
        name = rest[0] if rest else ""
        if name in _KERNELS:
            continue
        if permissions[3] == "s" and ("w" in permissions or not name.startswith("/")):
            raise Unfit(f"{name or 'memory'} is shared with other processes")
        if name.endswith(_DELETED):
            raise Unfit(f"{name.removesuffix(_DELETED)} is deleted")
        begin, end = (int(each, 16) for each in addresses.split("-"))
        flags = next(line for line in lines[number:following] if line.startswith("VmFlags:"))
        protection = sum(_PROTECTIONS[each] for each in permissions[:3] if each != "-")
        yield Stretch(begin, end, protection, int(offset, 16), name, "wf" in flags.split())


class Memory:
    """Reads the pages of a process of the same user. Raises `OSError`."""

    def __init__(self, pid: int) -> None:
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        self._pages = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Gives the descriptors back."""
        os.close(self._memory)
        os.close(self._pages)

    def read(self, address: int, size: int) -> bytes:
        """Raises `OSError`."""
        pieces, end = [], address + size
        while address < end:
            piece = os.pread(self._memory, end - address, address)
            if not piece:
                raise OSError(f"no memory can be read at {address:#x}")
            pieces.append(piece)
            address += len(piece)
        return b"".join(pieces)

    def own(self, stretch: Stretch) -> list[tuple[int, int]]:
        """Pieces of it that hold what only this process has, as begin and end: what was written
        since it was mapped. Raises `OSError`."""
        count = (stretch.end - stretch.begin) // PAGE_BYTES
        entries = array("Q")
        entries.frombytes(os.pread(self._pages, count * 8, stretch.begin // PAGE_BYTES * 8))
        found: list[tuple[int, int]] = []
        for number, entry in enumerate(entries):
            if not entry & (_PRESENT | _SWAPPED) or (stretch.file and entry & _OF_FILE):
                continue
            if found and number - found[-1][1] <= _NEAR_PAGES:
                found[-1] = (found[-1][0], number + 1)
            else:
                found.append((number, number + 1))
        return [
            (stretch.begin + first * PAGE_BYTES, stretch.begin + last * PAGE_BYTES)
            for first, last in found
        ]
