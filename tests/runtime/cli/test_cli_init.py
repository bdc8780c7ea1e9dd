"""What `dsfn init` writes works as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cli_runs import Dsfn


def test_the_new_functions_test_passes(dsfn: Dsfn) -> None:
    assert dsfn("init", "hello").code == 0
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."],
        cwd=dsfn.directory / "hello",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_the_new_function_bears_the_name_everywhere(dsfn: Dsfn) -> None:
    written = dsfn("init", "hello", "--json").json()
    directory = Path(written["directory"])
    texts = [(directory / name).read_text() for name in written["files"]]
    assert not any("my-function" in text for text in texts)
    assert '@dsfn.function(name="hello"' in texts[0]


def test_an_existing_directory_is_left_alone(dsfn: Dsfn) -> None:
    (dsfn.directory / "hello").mkdir()
    run = dsfn("init", "hello")
    assert (run.code, run.err) == (1, "hello exists already; nothing was written.\n")
    assert not list((dsfn.directory / "hello").iterdir())


def test_a_name_with_a_line_break_at_its_end_is_refused(dsfn: Dsfn) -> None:
    run = dsfn("init", "hello\n")
    assert run.code == 2 and "is not a function's name" in run.err
    assert not list(dsfn.directory.glob("hello*"))
