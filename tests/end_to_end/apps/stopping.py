"""Functions that run when their node is told to stop."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import dsfn


@dsfn.function
def rest(seconds: float, path: str) -> int:
    """Takes its time; says by a file that it has begun. Gives its process's number."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(seconds)
    return os.getpid()


@dsfn.function
def listen(path: str) -> None:
    """Runs until it is stopped, and notes that it was."""
    file = Path(path)
    file.write_text("begun")
    try:
        while True:
            time.sleep(0.01)
    finally:
        file.write_text("stopped")


@dsfn.function
def ignore(path: str) -> None:
    """Runs until it is killed."""
    Path(path).write_text("begun")
    while True:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001, S112  what this is for
            continue


@dsfn.function
def go_on(path: str) -> Iterator[int]:
    """Streams until it is stopped, and notes that it was."""
    print("streaming")  # noqa: T201  there must be a log
    try:
        number = 0
        while True:
            yield number
            number += 1
            time.sleep(0.01)
    finally:
        Path(path).write_text("stopped")
