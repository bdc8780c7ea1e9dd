"""What runs in a container ends when it is told to, however early that is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from deadlines import eventually

# Instead of a library that the program imports: says that it is imported, and never is.
ENDLESS = """
import pathlib, time
pathlib.Path({mark!r}).touch()
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("program", "library"), [("pod", "uvloop"), ("agent", "apsw"), ("control", "httpx")]
)
def test_a_program_that_still_imports_ends_at_sigterm(
    program: str, library: str, tmp_path: Path
) -> None:
    """A process 1 without a handler would not hear it: the kubelet would wait for its grace."""
    mark = tmp_path / "imports"
    (tmp_path / f"{library}.py").write_text(ENDLESS.format(mark=str(mark)), encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    told = {
        "PORT": "0",
        "DSFN_DATA": str(tmp_path / "data"),
        "DSFN_STORE": f"file://{tmp_path}",
        "DSFN_REVISION": "0" * 64,
        "DSFN_CONTROL": "http://127.0.0.1:1",
        "DSFN_PROVED": "true",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", f"dsfn.knative.{program}"],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **told, "PYTHONPATH": paths},
    )
    try:
        eventually(mark.exists, f"{library} to be imported")
        process.send_signal(signal.SIGTERM)
        # Without a handler it is killed, which it would not be as process 1.
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
