"""Runs `dsfn` as a person does: a process of its own, its output not a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Run:
    """What a command came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one document of a command that worked."""
        assert self.code == 0, self.err
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Dsfn:
    """The command line in a directory, with variables of its own."""

    directory: Path
    variables: Mapping[str, str]

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Run:
        """Runs one command."""
        done = subprocess.run(
            [sys.executable, "-m", "dsfn", *arguments],
            cwd=self.directory,
            env=environment(self.variables),
            input=stdin,
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        return Run(done.returncode, done.stdout.decode(), done.stderr.decode())


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with only these of dsfn's own variables."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DSFN_")}
    return {**kept, **variables}
