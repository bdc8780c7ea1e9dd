"""Functions that hold their replica in every way."""

from __future__ import annotations

import asyncio
import os
import time

import torch

import dsfn


@dsfn.function(concurrency=16, max_replicas=1)
async def together(seconds: float) -> int:
    """Sixteen at once in one process."""
    await asyncio.sleep(seconds)
    return os.getpid()


@dsfn.function(max_batch=64, weight=len, max_replicas=1)
def joined(texts: list[str]) -> list[str]:
    """Takes longer than its answers, so that calls come to wait together."""
    time.sleep(0.3)
    return [text.upper() for text in texts]


@dsfn.function(max_replicas=1, park_after=0.2, remove_after=600)
class Sleeper:
    """Parks soon."""

    def setup(self) -> None:
        self.weights = torch.arange(1000.0)

    def __call__(self) -> float:
        return float(self.weights.sum())


@dsfn.function(max_replicas=1)
def deaf(seconds: float) -> int:
    """Does not stop when its caller has gone."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(0.01)
        except BaseException:  # noqa: BLE001, S112  what this is for
            continue
    return os.getpid()


@dsfn.function(min_replicas=1, max_replicas=1)
def standby() -> int:
    """Is always there."""
    return os.getpid()


@dsfn.function(max_replicas=1)
def double(number: int) -> int:
    return 2 * number


@dsfn.function(max_replicas=1)
class Unable:
    """Cannot be set up a second time."""

    def __call__(self) -> int:
        return os.getpid()


@dsfn.workflow
def twice(number: int) -> int:
    return double(double(number))
