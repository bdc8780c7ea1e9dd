"""Files are written whole or not at all, and what could not be written takes no room."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsfn.billing.durable import write_whole

SmallDisk = Callable[[str], Path]


def names_in(directory: Path) -> list[str]:
    return [each.name for each in directory.iterdir()]


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize("durably", [False, True])
def test_a_full_disk_leaves_the_file_as_it_was_and_nothing_beside_it(
    small_disk: SmallDisk, durably: bool
) -> None:
    disk = small_disk("64k")
    path = disk / "kept"
    write_whole(path, b"first", durably=durably)
    with pytest.raises(OSError) as caught:
        write_whole(path, bytes(1 << 17), durably=durably)
    assert caught.value.errno == errno.ENOSPC
    assert (names_in(disk), path.read_bytes()) == (["kept"], b"first")
    write_whole(path, bytes(1 << 14), durably=durably)
    assert path.stat().st_size == 1 << 14


def test_what_cannot_take_its_place_goes(tmp_path: Path) -> None:
    there = tmp_path / "name"
    there.mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(there, b"text")
    assert names_in(tmp_path) == ["name"]


@pytest.mark.usefixtures("usual_umask")
@pytest.mark.parametrize(("asked", "found"), [(0o600, 0o600), (0o666, 0o644), (0o444, 0o444)])
def test_who_may_read_it_is_said(tmp_path: Path, asked: int, found: int) -> None:
    path = tmp_path / "name"
    (tmp_path / "elsewhere").write_bytes(b"half of what a process that was killed had to write")
    write_whole(path, b"text", mode=asked, by_way_of=tmp_path / "elsewhere")
    assert path.read_bytes() == b"text"
    assert (path.stat().st_mode & 0o777, names_in(tmp_path)) == (found, ["name"])
