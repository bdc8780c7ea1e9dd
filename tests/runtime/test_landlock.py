"""What confines code of functions: rules of files, for any program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsfn.runtime import landlock
from dsfn.runtime.deploy.confinement import Room

# A filter of system calls, as a runtime of containers may have one, that knows no Landlock: each
# of its calls is answered EPERM. x86-64 and Arm have the same numbers for these.
FILTERED = """
import ctypes, struct, sys
libc = ctypes.CDLL(None)
program = [(0x20, 0, 0, 0), (0x35, 0, 2, 444), (0x35, 1, 0, 447), (0x06, 0, 0, 0x50001),
           (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
filter = ctypes.create_string_buffer(struct.pack("=H6xQ", len(program), ctypes.addressof(code)))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, filter) == 0
from dsfn.runtime.deploy.confinement import confinement_of
from pathlib import Path
print(confinement_of(Path("/dsfn")))
"""


def test_a_runtime_that_forbids_it_is_as_a_kernel_without_it() -> None:
    command = [sys.executable, "-c", FILTERED]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "None\n"
    assert "Landlock is not to be had here" in done.stderr


@pytest.mark.skipif(not landlock.version(), reason="The kernel has no Landlock.")
def test_a_program_and_what_it_starts_are_held_to_rules_of_files(tmp_path: Path) -> None:
    for name in ("read", "written", "kept"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    rules = landlock.make_rules()
    for path in map(Path, (sys.prefix, sys.base_prefix, "/usr", "/bin", "/lib", "/lib64", "/etc")):
        if path.exists():
            landlock.allow(rules, path.resolve(), landlock.READ)
    landlock.allow(rules, tmp_path / "read", landlock.READ)
    landlock.allow(rules, tmp_path / "written", landlock.WRITE)
    script = (
        "cat read/file; echo more > written/file; mv written/file written/moved; cat written/moved;"
        " cat kept/file; echo more > read/file; rm read/file; ln read/file written/link; ls kept"
    )
    command = Room(rules, tmp_path).command("/bin/sh", "-c", script)
    done = subprocess.run(
        command, pass_fds=[rules], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    os.close(rules)
    assert done.stdout == "readmore\n"
    assert len(done.stderr.splitlines()) == 5
    assert (tmp_path / "read" / "file").read_text() == "read"
