"""The documentation's blocks, and a shell in which they are run against a real node."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from checkout import ROOT
from ports import free_port

TIMEOUT_S = 120
DOCUMENTED_PORT = 8700
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = "$ "


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page. `title` is what follows `# ` in its first line, or ""."""

    language: str
    text: str

    @property
    def title(self) -> str:
        first, _, _ = self.text.partition("\n")
        return first.removeprefix("# ") if first.startswith("# ") else ""


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def transcript(text: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block, and what it prints."""
    command, printed = "", ""
    for line in text.splitlines():
        if line.startswith(_PROMPT):
            if command:
                yield command, printed
            command, printed = line.removeprefix(_PROMPT), ""
        elif command.endswith("\\") and not printed:
            command += f"\n{line}"
        else:
            printed += f"{line}\n"
    yield command, printed


def fits(printed: str, documented: str) -> bool:
    """Whether this is what the page says; its `...` stands for anything."""
    pattern = re.escape(documented.strip()).replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


@dataclass(frozen=True, slots=True)
class Shell:
    """A directory in which `dsfn` is this checkout's and a node gets a port of its own."""

    place: Path
    port: int

    @classmethod
    def make(cls, place: Path) -> Shell:
        """An empty directory but for what a clone has in it, as links."""
        shell = cls(place, free_port())
        programs = place / ".bin"
        programs.mkdir()
        dsfn = programs / "dsfn"
        dsfn.write_text(f'#!/bin/sh\nexec {sys.executable} -m dsfn "$@"\n', encoding="utf-8")
        dsfn.chmod(0o755)
        (place / ".data").mkdir()
        (place / ".data" / "config.toml").write_text(f"port = {shell.port}\n", encoding="utf-8")
        for name in ("functions", "examples"):
            (place / name).symlink_to(ROOT / name)
        return shell

    def run(self, commands: str) -> tuple[int, str]:
        """The exit code, and what a terminal would show."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DSFN_")}
        path = f"{self.place / '.bin'}:{Path(sys.executable).parent}:{kept['PATH']}"
        done = subprocess.run(
            ["bash", "-euc", self._with_port(commands, DOCUMENTED_PORT, self.port)],
            cwd=self.place,
            env={**kept, "PATH": path, "DSFN_DATA": str(self.place / ".data")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
        )
        return done.returncode, self._with_port(done.stdout, self.port, DOCUMENTED_PORT)

    @staticmethod
    def _with_port(text: str, old: int, new: int) -> str:
        return text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
