"""What a worker has done before its first snapshot comes, by counts of page faults: times would
depend on what else the machine does."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from dsfn.runtime.worker import rehearsal
from dsfn.snapshots.capture import capture
from dsfn.snapshots.classes import Classes

# Prints the page faults of a restore in a fork that has rehearsed, and in one that has not.
FAULTS = """
import gc, os, resource, sys
from pathlib import Path
from dsfn.runtime.worker.rehearsal import rehearse, scenes
from dsfn.snapshots.classes import Classes
from dsfn.snapshots.cpu import CpuMemory
from dsfn.snapshots.restore import restore

def faults(rehearses):
    if os.fork() == 0:
        for scene in scenes() if rehearses else ():
            scene()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        restore(Path(sys.argv[1]), Classes(), {"cpu": CpuMemory()})
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, flush=True)
        os._exit(0)
    os.wait()

rehearse()
gc.freeze()
gc.disable()
faults(True)
faults(False)
"""


# Prints the threads of a process that has rehearsed for GPUs, and whether it has opened one.
UNTOUCHED = """
from dsfn.runtime.worker.linux import thread_count, uses_gpu
from dsfn.runtime.worker.rehearsal import rehearse
rehearse(gpus=True)
print(thread_count(), uses_gpu())
"""


def test_a_fork_that_has_rehearsed_shares_little_that_a_restore_looks_at(tmp_path: Path) -> None:
    layers = [torch.nn.Linear(8, 8) for _ in range(20)]
    capture({"network": torch.nn.Sequential(*layers)}, Classes(), tmp_path)
    command = (sys.executable, "-c", FAULTS, str(tmp_path))
    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    rehearsed, fresh = map(int, printed.split())
    assert rehearsed < fresh / 2


def test_a_worker_comes_up_where_nothing_can_be_kept_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rehearsal._specimen_snapshot.cache_clear()
    monkeypatch.setattr(rehearsal, "_IN_MEMORY", "/proc/nowhere")
    for scene in rehearsal.scenes():
        scene()


def test_a_rehearsal_leaves_the_place_of_temporary_files_to_the_author(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    rehearsal.rehearse()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert tempfile.gettempdir() == str(tmp_path)


def test_a_process_that_has_rehearsed_for_gpus_can_be_forked_and_has_touched_none() -> None:
    command = (sys.executable, "-c", UNTOUCHED)
    variables = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # as the fork server has it
    printed = subprocess.run(
        command, env=variables, stdout=subprocess.PIPE, check=True, timeout=60, text=True
    ).stdout
    assert printed.split() == ["1", "False"]
