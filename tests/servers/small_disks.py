"""Disks that can be filled: a tmpfs each, whose source says which process it belongs to, so that
what a killed run has left is known and taken away by the next."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

HOW_TO_GET_IT = "run as root, with the right to mount"
_PREFIX = "dsfn-test-disk"
_MOUNTS = Path("/proc/self/mounts")
# Of /proc/PID/stat, counted behind the program's name.
_STARTED_AT = 19


def mount(target: Path, size: str) -> bool:
    """Makes a disk of this size ("64k"), or gives the one there this size; whether that can be done
    here."""
    options = f"remount,size={size}" if target.exists() else f"size={size}"
    target.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, _source(os.getpid()), str(target)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        target.rmdir()
        return False
    return True


def unmount(target: Path) -> None:
    """Takes a disk away."""
    subprocess.run(["umount", str(target)], check=True)


def unmount_what_is_left() -> None:
    """Takes away the disks whose process is gone; another run may just be doing the same."""
    for line in _MOUNTS.read_text().splitlines():
        source, target, *_ = line.split()
        prefix, *owner = source.split(":")
        if prefix == _PREFIX and source != _source(int(owner[0])):
            subprocess.run(["umount", "--lazy", target], capture_output=True)


def _source(pid: int) -> str:
    """What the disks of a process are called, and of none that gets its number later."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return f"{_PREFIX}:{pid}:{stat.rpartition(')')[2].split()[_STARTED_AT]}"
