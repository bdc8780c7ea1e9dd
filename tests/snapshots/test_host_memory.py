"""The arena's memory: there before anybody asks for it, and in the largest pages that there are."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsfn.snapshots.owner.arena import HostMemory
from dsfn.snapshots.owner.hostfile import HostFile
from dsfn.snapshots.owner.linux import HUGE_PAGE_BYTES

SIZE_BYTES = 32 << 20
PAGE_BYTES = resource.getpagesize()
SET_ASIDE = Path("/proc/sys/vm/nr_hugepages")

ARENA = f"""
from dsfn.snapshots.owner.arena import HostMemory
from dsfn.snapshots.owner.hostfile import HostFile
memory = HostMemory(HostFile({SIZE_BYTES}).fd)
memory.bytes_at(0, {SIZE_BYTES})[:] = bytes({SIZE_BYTES})
print(memory.pages)
"""


def test_whoever_writes_into_it_waits_for_no_page() -> None:
    with HostFile(SIZE_BYTES) as file:
        memory = HostMemory(file.fd)
    view = memory.bytes_at(0, SIZE_BYTES)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for start in range(0, SIZE_BYTES, PAGE_BYTES):
        view[start] = 1
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < SIZE_BYTES // HUGE_PAGE_BYTES // 2


@pytest.fixture
def set_aside() -> Iterator[None]:
    """Huge pages for it, and for arenas of tests beside this one; then as many as there were."""
    before = SET_ASIDE.read_text()
    wanted = int(before) + 4 * SIZE_BYTES // HUGE_PAGE_BYTES
    try:
        SET_ASIDE.write_text(str(wanted))
        if int(SET_ASIDE.read_text()) < wanted:
            pytest.skip("this machine has no memory in one piece for huge pages")
        yield
    except OSError as error:
        pytest.skip(f"only root may set huge pages aside: {error.strerror}")
    finally:
        if SET_ASIDE.read_text() != before:
            SET_ASIDE.write_text(before)


@pytest.mark.usefixtures("set_aside")
def test_it_takes_the_huge_pages_that_were_set_aside() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ARENA], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "hugetlb 2 MiB\n"
