"""What advice takes from a node: options, and what lower precision would make of a snapshot."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from revisions import make_revision

from dsfn.billing.advice import Lowering
from dsfn.billing.rates import RateBook, RateCard
from dsfn.functions.options import Options
from dsfn.runtime.advising import Adviser, deployed_of, lowered
from dsfn.runtime.registry import Registry
from dsfn.snapshots.format import FORMAT_VERSION, Manifest, Sealed, Storage, TensorEntry
from dsfn.snapshots.store import FileStore


def manifest(*tensors: tuple[str, tuple[int, ...], bool]) -> Manifest:
    """A snapshot of these tensors, each in a storage of its own."""
    sizes = {"float32": 4, "bfloat16": 2, "int64": 8}
    storages, entries = [], []
    for number, (dtype, shape, parameter) in enumerate(tensors):
        elements = 1
        for length in shape:
            elements *= length
        size_bytes = elements * sizes[dtype]
        storages.append(Storage(0, str(number), 0, size_bytes, dtype, (elements,)))
        entries.append(TensorEntry(number, dtype, shape, shape, 0, False, parameter))
    return Manifest(
        FORMAT_VERSION, "cpu", "3.11", "2.11", "", "", {}, (), Sealed("0" * 64, 1), None,
        tuple(storages), tuple(entries),
    )  # fmt: skip


def test_weights_of_a_snapshot_take_a_byte_an_element_and_a_scale_a_row() -> None:
    found = lowered(
        manifest(
            ("float32", (100, 100), True),
            ("bfloat16", (64, 64), True),
            ("float32", (100,), True),  # no weight of two dimensions
            ("float32", (100, 100), False),  # no parameter
            ("float32", (63, 65), True),  # too small
            ("int64", (100, 100), True),
        )
    )
    before = 40_000 + 8_192 + 400 + 40_000 + 16_380 + 80_000
    after = before - 40_000 - 8_192 + (10_000 + 400) + (4_096 + 256)
    assert found == Lowering("int8", before, after, measured=False)


def test_a_tensor_that_is_there_twice_is_lowered_once() -> None:
    one = manifest(("float32", (100, 100), True))
    twice = replace(one, tensors=one.tensors * 2)
    assert lowered(twice) == lowered(one)


@pytest.mark.parametrize("tensors", [(), (("float32", (10,), True),)])
def test_where_no_weight_can_be_lowered_nothing_is_known(tensors: Any) -> None:
    assert lowered(manifest(*tensors)) is None


def test_options_are_told_in_microseconds_and_whole_devices() -> None:
    options = Options("hello", gpu=2, park_after_s=0.25, remove_after_s=90, max_batch=4)
    found = deployed_of(replace(make_revision(1), options=options), None)
    assert (found.park_after_us, found.remove_after_us) == (250_000, 90_000_000)
    assert (found.devices, found.max_batch) == (2, 4)
    assert (
        deployed_of(replace(make_revision(1), options=Options("hello", gpu=0.5)), None).devices == 1
    )


class SlowRows:
    """A ledger that takes its time, and notes how many read it at once."""

    def __init__(self) -> None:
        self.reading, self.most = 0, 0
        self._lock = threading.Lock()

    def between(self, start_us: int, end_us: int) -> list[Any]:
        with self._lock:
            self.reading += 1
            self.most = max(self.most, self.reading)
        time.sleep(0.05)
        return []

    def intervals(self, start_us: int, end_us: int) -> list[Any]:
        with self._lock:
            self.reading -= 1
        return []


class NoFunctions:
    """A registry without any."""

    def functions(self) -> tuple[()]:
        return ()


def test_advice_is_made_one_piece_at_a_time(tmp_path: Path) -> None:
    rows = SlowRows()
    adviser = Adviser(
        cast(Registry, NoFunctions()),
        FileStore(tmp_path),
        cast(Any, rows),
        lambda: RateBook.of(RateCard()),
    )

    async def several() -> None:
        await asyncio.gather(*(adviser.advise(0, 1_000) for _ in range(4)))

    asyncio.run(several())
    assert (rows.reading, rows.most) == (0, 1)
