"""Host memory as a file without a name, which outlasts the processes that map it."""

from __future__ import annotations

import os
from types import TracebackType

from dsfn.functions.errors import UsageError
from dsfn.snapshots.owner.inventory import INVENTORY_BYTES
from dsfn.snapshots.owner.linux import HUGE_PAGE_BYTES, free_huge_page_bytes


class HostFile:
    """At least `size_bytes` of shared memory, in huge pages where so many were set aside.

    It takes nothing until somebody maps and touches it, and is there for as long as it is mapped
    or open somewhere.
    """

    def __init__(self, size_bytes: int) -> None:
        whole_bytes = size_bytes + -size_bytes % HUGE_PAGE_BYTES
        flags = os.MFD_CLOEXEC
        if free_huge_page_bytes() >= whole_bytes:
            flags |= os.MFD_HUGETLB | os.MFD_HUGE_2MB
        self.fd = os.memfd_create("dsfn-arena", flags)
        os.ftruncate(self.fd, whole_bytes)

    @classmethod
    def for_arena(cls, size_bytes: int) -> HostFile:
        """Memory for an arena of at least `size_bytes`, and for what it is told by.

        Raises `UsageError` for a size that is none.
        """
        if size_bytes <= 0:
            raise UsageError("The arena needs more than 0 bytes.")
        return cls(size_bytes + INVENTORY_BYTES)

    def close(self) -> None:
        """Whoever has it mapped keeps it."""
        os.close(self.fd)

    def __enter__(self) -> HostFile:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()
