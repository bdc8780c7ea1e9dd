"""What images are made of: wheels of dsfn and of the libraries that it needs.

They are collected outside of the images, with the pip and the indexes of whoever builds: a build
then has no network, and a step whose wheels are the same is not done again.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from hashlib import file_digest, sha256
from pathlib import Path
from shutil import rmtree

from dsfn.knative.images.engine import run

# The same source gives the same wheel: no file in it is older than 1980, as archives have it.
_PIP = (
    *("env", "SOURCE_DATE_EPOCH=315532800"),
    *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
)


def build_program(source: Path, target: Path) -> Path:
    """Builds dsfn's own wheel from its source and gives it. Raises `UsageError`."""
    _empty(target)
    # What an earlier build left there would be part of this one.
    rmtree(source / "build", ignore_errors=True)
    run([*_PIP, "--no-deps", "--no-build-isolation", f"--wheel-dir={target}", str(source)])
    rmtree(source / "build", ignore_errors=True)
    (wheel,) = target.iterdir()
    return wheel


def collect_libraries(program: Path, extras: str, constraints: Path, target: Path) -> None:
    """Collects what dsfn with these extras ("a,b") needs, dsfn itself not. Raises `UsageError`."""
    _empty(target)
    run([*_PIP, f"--constraint={constraints}", f"--wheel-dir={target}", f"{program}[{extras}]"])
    (target / program.name).unlink()


def collect_alone(package: str, constraints: Path, target: Path) -> None:
    """Adds a package without what it asks for. Raises `UsageError`."""
    run([*_PIP, "--no-deps", f"--constraint={constraints}", f"--wheel-dir={target}", package])


def collect(requirements: Collection[str], target: Path, alone: bool = False) -> None:
    """Collects what somebody requires, in pip's words, and what that needs unless it is wanted
    `alone`. Raises `UsageError`."""
    _empty(target)
    without = ("--no-deps",) if alone else ()
    # No requirement is taken for an option.
    command = [*_PIP, *without, f"--wheel-dir={target}", "--", *sorted(requirements)]
    run(command, f"pip cannot collect {', '.join(sorted(requirements))}: it has said why.")


def leave_out(wheels: Path, known: Path) -> None:
    """Removes the wheels that are in `known`, too."""
    for wheel in known.iterdir():
        (wheels / wheel.name).unlink(missing_ok=True)


def digest_of(wheels: Path) -> str:
    """The same for the same wheels."""
    found = sha256()
    for wheel in sorted(wheels.iterdir()):
        with wheel.open("rb") as file:
            found.update(file_digest(file, "sha256").digest())
    return found.hexdigest()


def _empty(place: Path) -> None:
    rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
