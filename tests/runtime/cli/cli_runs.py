"""Runs `dsfn` in this process, its output not a terminal."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dsfn.__main__  # noqa: F401  # every command, not the runtime's alone
from dsfn.runtime.cli import app


@dataclass(frozen=True, slots=True)
class Run:
    """What a command came to."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        """Its standard output as text."""
        return self.raw.decode()

    def json(self) -> Any:
        """The one document of a command that worked."""
        assert self.code == 0, self.err
        return json.loads(self.raw)


@dataclass(frozen=True, slots=True)
class Dsfn:
    """The command line in a directory, with variables of its own."""

    directory: Path
    variables: Mapping[str, str]

    def __call__(self, *arguments: str) -> Run:
        """Runs one command."""
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        with self._surroundings(), redirect_stdout(out), redirect_stderr(err):
            try:
                code = app.run(list(arguments))
            except SystemExit as end:  # typer's own, for completion
                code = int(end.code or 0)
        out.flush()
        assert isinstance(out.buffer, io.BytesIO)
        return Run(code, out.buffer.getvalue(), err.getvalue())

    def given(self, **variables: str) -> Dsfn:
        """The same with more variables."""
        return replace(self, variables={**self.variables, **variables})

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        here, before = Path.cwd(), dict(os.environ)
        os.chdir(self.directory)
        os.environ.update(self.variables)
        try:
            yield
        finally:
            os.chdir(here)
            os.environ.clear()
            os.environ.update(before)


@contextmanager
def serving(directory: Path, source: str) -> Iterator[Dsfn]:
    """The command line of a node on which `source`, which uses no torch, is deployed; `{place}` in
    it is `directory`."""
    (directory / "data").mkdir()
    (directory / "data" / "config.toml").write_text("libraries = []\n")
    (directory / "flow.py").write_text(source.replace("{place}", str(directory)))
    command_line = Dsfn(directory, {"DSFN_DATA": str(directory / "data")})
    assert command_line("up", "--detach", "--port", "0").code == 0
    try:
        run = command_line("deploy", "flow.py")
        assert run.code == 0, run.err
        yield command_line
    finally:
        command_line("down")
