"""Disks that tests fill do not outlive their run, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import small_disks

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import small_disks
assert small_disks.mount(Path(sys.argv[2]), "64k")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_disk_of_a_run_that_was_killed_is_taken_away_and_no_other(
    small_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    ours, left = small_disk("64k"), tmp_path / "left"
    folder = str(Path(small_disks.__file__).parent)
    killed = subprocess.run([sys.executable, "-c", KILLED, folder, left])
    assert killed.returncode == -signal.SIGKILL
    assert os.path.ismount(left)
    small_disks.unmount_what_is_left()
    assert not os.path.ismount(left)
    assert os.path.ismount(ours)
