"""An environment with the wheel in it, and of the other packages only those that it asks for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TIMEOUT_S = 120


def requirements_of(found: Distribution, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """What a distribution asks for on this machine, with these extras."""
    for text in found.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is not None and not any(marker.evaluate({"extra": e}) for e in ("", *extras)):
            continue
        if requirement.name == found.name:
            yield from requirements_of(found, requirement.extras)
        else:
            yield requirement


def closure(requirements: Iterable[Requirement]) -> dict[str, Distribution]:
    """All that these lead to, as installed here, by canonical name."""
    found: dict[str, Distribution] = {}
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found and not requirement.extras:
            continue
        found[name] = distribution(name)
        waiting += requirements_of(found[name], requirement.extras)
    return found


@dataclass(frozen=True, slots=True)
class Installed:
    """A virtual environment that the wheel was installed into."""

    place: Path

    @classmethod
    def make(cls, place: Path, wheel: Path) -> Installed:
        """An environment with the wheel and nothing else."""
        venv = place / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        pip = ("-m", "pip", "--python", str(venv / "bin" / "python"), "install", "--quiet")
        subprocess.run([sys.executable, *pip, "--no-deps", "--no-index", wheel], check=True)
        return cls(place)

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        (found,) = (self.place / "venv").glob("lib/python*/site-packages")
        return found

    @property
    def own(self) -> Distribution:
        """The wheel as it is installed here."""
        (found,) = distributions(name="dsfn", path=[str(self.packages)])
        return found

    def add(self, *extras: str) -> None:
        """Adds what dsfn asks for with these extras, as links to what the tests run on."""
        self.link(closure(requirements_of(self.own, extras)).values())

    def link(self, found: Iterable[Distribution]) -> None:
        """Adds these distributions as links."""
        for each in found:
            for top in {file.parts[0] for file in each.files or ()} - {"..", "__pycache__"}:
                link = self.packages / top
                if not link.is_symlink():
                    link.symlink_to(Path(str(each.locate_file(top))))

    def run(self, program: str, *arguments: str) -> str:
        """What a program of the environment prints, far away from any checkout."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DSFN_", "PYTHON"))}
        done = subprocess.run(
            [self.place / "venv" / "bin" / program, *arguments],
            cwd=self.place,
            env={**kept, "DSFN_DATA": str(self.place / "data")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def dsfn(self, *arguments: str) -> Any:
        """The JSON document that a command prints."""
        return json.loads(self.run("dsfn", *arguments, "--json"))
