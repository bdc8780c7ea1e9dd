"""The rooms' layers: kept, and guarded by contracts that do notice."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from checkout import ROOT, copy_product

SHARED_WITH_WORKERS = {"frames", "messages"}
NODE = "The node imports neither torch nor what runs user code"


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


def test_the_nodes_contract_names_all_that_only_workers_run() -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    (node,) = (c for c in linter["importlinter"]["contracts"] if c["name"] == NODE)
    files = {path.stem for path in (ROOT / "runtime" / "worker").glob("*.py")}
    wanted = {f"dsfn.runtime.worker.{name}" for name in files - SHARED_WITH_WORKERS - {"__init__"}}
    assert {m for m in node["forbidden_modules"] if ".worker." in m} == wanted


def test_a_node_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dsfn.runtime.node\n"
        "print({'torch', 'numpy', 'PIL', 'soundfile', 'safetensors'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
