"""A function that fails in every way there is."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable

import dsfn


def do_raise() -> int:
    try:
        return int({"a": "b"}["a"])
    except ValueError as error:
        raise LookupError("no number under 'a'") from error


def loop() -> int:
    while True:
        pass


def loop_and_listen_to_nothing() -> int:
    while True:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001, S112  what this is for
            continue


def leave() -> int:
    os._exit(3)


def leave_politely() -> int:
    sys.exit(4)


def be_killed() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def crash() -> int:
    os.abort()


def be_signalled() -> int:
    os.kill(os.getpid(), 40)
    return 0


def take_memory() -> int:
    taken = []
    while True:
        taken.append(bytearray(32 << 20))


def take_memory_for_a_tensor() -> int:
    import torch

    return int(torch.ones(4 << 30).sum())


def print_a_gigabyte() -> int:
    line = "x" * (1 << 20)
    for _ in range(1024):
        print(line)  # noqa: T201  what this is for
    return 0


def recurse() -> int:
    return recurse() + 1


FAULTS: dict[str, Callable[[], int]] = {
    function.__name__: function
    for function in (
        do_raise,
        loop,
        loop_and_listen_to_nothing,
        leave,
        leave_politely,
        be_killed,
        crash,
        be_signalled,
        take_memory,
        take_memory_for_a_tensor,
        print_a_gigabyte,
        recurse,
    )
}


@dsfn.function(timeout=2, memory="300MiB", max_replicas=4)
def fault(kind: str = "", seconds: float = 0.0) -> int:
    """Fails as told, or takes its time and gives its process's number."""
    time.sleep(seconds)
    return FAULTS[kind]() if kind else os.getpid()


@dsfn.function(timeout=1, concurrency=4, max_replicas=1)
def fault_in_thread(hangs: bool = False) -> int:
    """Hangs beside other calls of its process."""
    while hangs:
        time.sleep(0.01)
    return os.getpid()


@dsfn.function(timeout=1, concurrency=4, max_replicas=1)
async def fault_in_task(hangs: bool = False) -> int:
    """The same on one thread."""
    while hangs:
        await asyncio.sleep(0.01)
    return os.getpid()


@dsfn.function(max_replicas=1)
def give_much(size: int) -> str:
    """A result of this many characters."""
    return "x" * size


@dsfn.function
def give_nan() -> dict[str, float]:
    """What JSON has no number for."""
    return {"ratio": float("nan")}


@dsfn.function(max_replicas=1)
def hoard(mebibytes: int) -> int:
    """Fills memory without a limit of its own."""
    kept = [bytearray(b"x") * (1 << 20) for _ in range(mebibytes)]
    return len(kept)
