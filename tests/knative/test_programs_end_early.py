"""What runs in a container ends when it is told to, however early that is."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from deadlines import eventually

from dsfn.knative.manifests.platform import platform_objects
from dsfn.knative.manifests.settings import PlatformSettings
from dsfn.knative.process_one import command_of

# Instead of a library that the program imports: says that it is imported, and never is.
ENDLESS = """
import pathlib, time
pathlib.Path({mark!r}).touch()
time.sleep(600)
"""
# Instead of Python: hears SIGTERM before Python is there.
EARLY = """#!/bin/sh
kill -TERM $$
exec {python} "$@"
"""
# As process 1 of a namespace of its own.
ALONE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
PROGRAMS = pytest.mark.parametrize(
    ("program", "library"), [("pod", "uvloop"), ("agent", "apsw"), ("control", "httpx")]
)


def environment(place: Path, library: str) -> tuple[dict[str, str], Path]:
    """That of a program which never has the library imported, and what is there once it tries."""
    mark = place / "imports"
    (place / f"{library}.py").write_text(ENDLESS.format(mark=str(mark)), encoding="utf-8")
    told = {
        "PORT": "0",
        "DSFN_DATA": str(place / "data"),
        "DSFN_STORE": f"file://{place}",
        "DSFN_REVISION": "0" * 64,
        "DSFN_CONTROL": "http://127.0.0.1:1",
        "DSFN_PROVED": "true",
        "PYTHONPATH": os.pathsep.join([str(place), *sys.path]),
    }
    return {**os.environ, **told}, mark


@PROGRAMS
def test_a_program_that_still_imports_ends_at_sigterm(
    program: str, library: str, tmp_path: Path
) -> None:
    """A process 1 without a handler would not hear it: the kubelet would wait for its grace."""
    variables, mark = environment(tmp_path, library)
    process = subprocess.Popen(
        [sys.executable, "-m", f"dsfn.knative.{program}"], stdin=subprocess.DEVNULL, env=variables
    )
    try:
        eventually(mark.exists, f"{library} to be imported")
        process.send_signal(signal.SIGTERM)
        # Without a handler it is killed, which it would not be as process 1.
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


@PROGRAMS
@pytest.mark.parametrize("prefix", [(), ALONE], ids=["a process", "process 1"])
def test_a_program_ends_at_a_sigterm_that_came_before_python_ran(
    program: str, library: str, prefix: tuple[str, ...], tmp_path: Path
) -> None:
    if prefix and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces are not permitted here")
    variables, mark = environment(tmp_path, library)
    early = tmp_path / "python"
    early.write_text(EARLY.format(python=sys.executable), encoding="utf-8")
    early.chmod(0o755)
    process = subprocess.Popen(
        [*prefix, *command_of(program)],
        stdin=subprocess.DEVNULL,
        env={**variables, "PATH": f"{tmp_path}:{variables['PATH']}"},
    )
    try:
        assert process.wait(10) == 0
        assert not mark.exists()
    finally:
        process.kill()
        process.wait()


def test_containers_begin_with_sigterm_blocked() -> None:
    images = files("dsfn.knative.images")
    for image, program in (("function", "pod"), ("control", "control")):
        recipe = (images / image / "Containerfile").read_text(encoding="utf-8")
        (entry,) = re.findall(r"^ENTRYPOINT (.*)$", recipe, re.MULTILINE)
        assert json.loads(entry) == command_of(program)
    settings = PlatformSettings(
        "models", "s3://m", "r.example/control:1", "r.example/function:1", {}
    )
    found: Any = {each["kind"]: each for each in platform_objects(settings)}
    for kind, program in (("DaemonSet", "agent"), ("Deployment", "control")):
        (container,) = found[kind]["spec"]["template"]["spec"]["containers"]
        assert container["command"] == command_of(program)
