"""The rooms' layers: kept, and guarded by contracts that do notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from checkout import copy_product

NODE = "The node and a pod's front import neither torch nor what runs user code"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the product that a test may spoil."""
    copy_product(tmp_path)
    return tmp_path


def broken_contracts(copy: Path) -> str:
    """What import-linter has to say; "" when every contract is kept."""
    program = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [program, "--no-cache"],
        cwd=copy,
        env={"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr if done.returncode else ""


def test_the_contracts_are_kept(copy: Path) -> None:
    assert broken_contracts(copy) == ""


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("functions/options.py", "dsfn.runtime.config", "The rooms"),
        ("billing/money.py", "dsfn.snapshots.format", "The rooms"),
        ("runtime/config.py", "dsfn.knative", "The rooms"),
        ("runtime/problems.py", "dsfn.snapshots.restore", NODE),
        ("runtime/problems.py", "dsfn.runtime.worker.source", NODE),
        ("runtime/replicas/pool.py", "dsfn.runtime.worker.server", NODE),
        ("runtime/problems.py", "torch", NODE),
        ("functions/options.py", "torch", "functions/ does no I/O"),
        ("snapshots/store.py", "httpx", "snapshots/ and billing/ know no HTTP"),
    ],
)
def test_an_import_in_the_wrong_direction_is_noticed(
    copy: Path, module: str, imported: str, contract: str
) -> None:
    with (copy / module).open("a", encoding="utf-8") as file:
        file.write(f"\n\ndef hidden() -> None:\n    import {imported}\n")
    broken = broken_contracts(copy).partition("Broken contracts")[2]
    assert contract in broken


def test_a_node_loads_no_torch_and_of_the_workers_modules_only_the_shared_ones() -> None:
    code = "import sys, dsfn.runtime.node; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "numpy", "PIL", "soundfile", "safetensors"}
    workers = {name for name in loaded if name.startswith("dsfn.runtime.worker.")}
    assert workers == {"dsfn.runtime.worker.frames", "dsfn.runtime.worker.messages"}
