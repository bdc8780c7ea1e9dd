from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from snapshot_app import Transformer, small_transformer

from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.format import slab_file
from dsfn.snapshots.restore import Restored, restore

SLAB_FILE = slab_file("cpu")
REPLICAS = 10

# A replica says that it lives, waits for the end of its input (so that its memory can be
# measured before), restores, reads every weight, says so, and waits until it is let go.
FORK_REPLICAS = """
import os, sys
from pathlib import Path
import torch
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.restore import restore
import snapshot_app
torch.set_num_threads(1)
restore(Path(sys.argv[2]), Classes(), {"cpu": CpuMemory()})  # what a first use imports
for _ in range(int(sys.argv[3])):
    if not os.fork():
        os.write(1, b"%d forked\\n" % os.getpid())
        os.read(0, 1)
        restored = restore(Path(sys.argv[1]), Classes(), {"cpu": CpuMemory()})
        total = sum(float(p.sum()) for p in restored.state["model"].parameters())
        os.write(1, b"%d restored\\n" % os.getpid())
        os.read(int(sys.argv[4]), 1)
        os._exit(0)
os.close(0)
for _ in range(int(sys.argv[3])):
    os.wait()
"""


def pss_bytes(pids: list[int]) -> int:
    """Proportional set size of all `pids` together: a page that n share counts once."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(kib) * 1024 for text in texts for kib in re.findall(r"^Pss: +(\d+)", text, re.M))


def slab_pss_bytes(pids: list[int], slab: Path) -> int:
    """The part of it that is `slab`'s mapping."""
    mapping = re.compile(rf" {re.escape(str(slab))}\n(?:.*\n)*?Pss: +(\d+) kB")
    texts = [Path(f"/proc/{pid}/smaps").read_text() for pid in pids]
    return sum(int(kib) * 1024 for text in texts for kib in mapping.findall(text))


@pytest.fixture
def restored(staging: Path) -> Restored:
    capture({"model": small_transformer()}, Classes(), staging)
    return restore(staging, Classes(), {"cpu": CpuMemory()})


def first_weight(restored: Restored) -> torch.Tensor:
    model: Any = restored.state["model"]
    weight: torch.Tensor = model.embedding.weight.data
    return weight


def test_a_write_in_one_replica_is_not_seen_by_another_nor_by_the_file(
    restored: Restored, staging: Path
) -> None:
    before = (staging / SLAB_FILE).read_bytes()
    other = restore(staging, Classes(), {"cpu": CpuMemory()})
    first_weight(restored).fill_(7)
    assert not (first_weight(other) == 7).any()
    assert (staging / SLAB_FILE).read_bytes() == before


def test_parking_gives_pages_back_and_the_captured_bytes_return(staging: Path) -> None:
    weight = torch.arange(8 << 20, dtype=torch.float32)
    capture({"weight": weight}, Classes(), staging)
    restored = restore(staging, Classes(), {"cpu": CpuMemory()})
    found: Any = restored.state["weight"]
    pointer = found.data_ptr()
    found += 1
    written = psutil.Process().memory_info().rss
    restored.slabs["cpu"].park()
    assert psutil.Process().memory_info().rss < written - (28 << 20)
    restored.slabs["cpu"].unpark()
    assert found.data_ptr() == pointer
    assert torch.equal(found, weight)


def test_tensors_outlive_their_slab_and_their_file(restored: Restored, staging: Path) -> None:
    weight = first_weight(restored)
    expected = weight.clone()
    (staging / SLAB_FILE).unlink()
    restored.slabs["cpu"].close()
    del restored
    assert torch.equal(weight, expected)


def test_the_mapping_ends_with_the_last_tensor(staging: Path) -> None:
    capture({"weight": torch.ones(100)}, Classes(), staging)
    restored = restore(staging, Classes(), {"cpu": CpuMemory()})
    assert SLAB_FILE in Path("/proc/self/maps").read_text()
    restored.slabs["cpu"].close()
    del restored
    assert SLAB_FILE not in Path("/proc/self/maps").read_text()


def test_weights_are_mapped_and_nothing_is_copied(restored: Restored) -> None:
    maps = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in maps if line.endswith(SLAB_FILE)]
    for tensor in restored.tensors:
        assert any(int(a, 16) <= tensor.data_ptr() < int(b, 16) for a, b in spans)


def test_ten_replicas_share_one_copy_of_the_weights(tmp_path: Path, staging: Path) -> None:
    slab_bytes = capture({"model": Transformer().eval()}, Classes(), staging).slab_bytes
    warm = tmp_path / "warm"
    warm.mkdir()
    capture({"model": small_transformer()}, Classes(), warm)
    hold_read, hold_write = os.pipe()
    arguments = [str(staging), str(warm), str(REPLICAS), str(hold_read)]
    replicas = subprocess.Popen(
        [sys.executable, "-c", FORK_REPLICAS, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parent)},
        pass_fds=(hold_read,),
    )
    os.close(hold_read)
    assert replicas.stdin is not None
    assert replicas.stdout is not None
    try:
        pids = [int(replicas.stdout.readline().split()[0]) for _ in range(REPLICAS)]
        before = pss_bytes(pids)
        replicas.stdin.close()
        for _ in range(REPLICAS):
            assert replicas.stdout.readline().endswith(b"restored\n")
        grown = pss_bytes(pids) - before
        weights = slab_pss_bytes(pids, staging / SLAB_FILE)
        # The rest is what each process writes to anyway: its own objects, its own heap.
        assert slab_bytes * 0.9 < weights < slab_bytes * 1.05
        assert grown < slab_bytes * 2
    finally:
        replicas.stdin.close()
        os.close(hold_write)
        replicas.wait(timeout=60)
        replicas.stdout.close()
