"""What builds images and hands them over: podman, buildah or docker, whichever is there."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import which

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass
from dsfn.knative.manifests.images import read_registry

# In this order: docker's client is often there without its daemon.
ENGINES = ("podman", "buildah", "docker")
# The domain of images that are in no registry. Knative asks nobody what their tags stand for.
LOCAL = "dev.local"
_TAG_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Destination:
    """Where images go: `load`, the words of a command that takes an archive, or a `registry`."""

    load: tuple[str, ...] = ()
    registry: str = ""


def destination(environ: Mapping[str, str]) -> Destination:
    """What IMAGE_LOAD or IMAGE_REGISTRY says. Raises `UsageError`."""
    load, registry = environ.get("IMAGE_LOAD", ""), environ.get("IMAGE_REGISTRY", "")
    if bool(load) == bool(registry):
        raise UsageError(
            "Set IMAGE_LOAD, a command that takes an image's archive (kind load image-archive),"
            " or IMAGE_REGISTRY, where images are pushed to (registry.example/team)."
        )
    if registry:
        return Destination(registry=read_registry(registry.rstrip("/"), "IMAGE_REGISTRY"))
    return Destination(_words(load))


def _words(load: str) -> tuple[str, ...]:
    """Those of a command as a shell has them. Raises `UsageError`."""
    try:
        words = tuple(shlex.split(load))
    except ValueError as error:
        raise UsageError(f"IMAGE_LOAD is {load!r}, and no command: {error}.") from error
    if not words:
        raise UsageError(f"IMAGE_LOAD is {load!r}, and no command.")
    return words


@dataclass(frozen=True, slots=True)
class Engine:
    """One of `ENGINES`, which have the same commands but for the archive."""

    program: str

    def build(
        self, name: str, containerfile: Path, context: Path, arguments: Mapping[str, str]
    ) -> str:
        """Builds an image, without a network, and gives its name: its tag is what it consists of.
        Raises `UsageError`."""
        with tempfile.TemporaryDirectory() as place:
            told = Path(place) / "id"
            given = [f"--build-arg={key}={value}" for key, value in arguments.items()]
            command = [self.program, "build", "--network=none", f"--iidfile={told}", *given]
            run([*command, f"--file={containerfile}", str(context)])
            digest = told.read_text(encoding="ascii").strip().rpartition(":")[2]
        full = f"{name}:{digest[:_TAG_DIGITS]}"
        self.name(digest, full)
        return full

    def name(self, image: str, another: str) -> None:
        """Gives an image another name. Raises `UsageError`."""
        run([self.program, "tag", image, another])

    def has(self, image: str) -> bool:
        """Whether it has an image of this name."""
        asking = [self.program, "inspect", "--type", "image", image]
        return subprocess.run(asking, capture_output=True, check=False).returncode == 0

    def forget(self, image: str) -> None:
        """Takes a name away from an image. Raises `UsageError`."""
        run([self.program, "rmi", image])

    def hand_over(self, images: Sequence[str], to: Destination) -> None:
        """Brings images to where clusters take them from. Raises `UsageError`."""
        if to.registry:
            for image in images:
                run([self.program, "push", image])
        elif self.program == "buildah":
            for image in images:
                with tempfile.TemporaryDirectory() as place:
                    archive = f"{place}/image.tar"
                    run([self.program, "push", image, f"docker-archive:{archive}:{image}"])
                    run([*to.load, archive])
        else:
            # In one archive: what they have in common is in it once.
            several = ["--multi-image-archive"] if self.program == "podman" else []
            with tempfile.TemporaryDirectory() as place:
                archive = f"{place}/images.tar"
                run([self.program, "save", *several, "--output", archive, *images])
                run([*to.load, archive])


def find_engine() -> Engine:
    """The first engine that works. Raises `UsageError`."""
    for program in ENGINES:
        if which(program) and _works(program):
            return Engine(program)
    raise UsageError(
        "Building images needs podman, buildah or docker, and none of them works here."
    )


def run(command: Sequence[str], failed: str = "") -> None:
    """Runs a command whose output is for people, on standard error. Raises `UsageError`; `failed`
    is what that says after output that tells enough, instead of the command."""
    try:
        done = subprocess.run(command, stdout=2, check=False)
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be run: {error.strerror}.") from error
    if done.returncode != 0:
        words = f"{shlex.join(command)} failed (exit code {done.returncode})."
        raise UsageError(failed or words)


def _works(program: str) -> bool:
    return subprocess.run([program, "info"], capture_output=True, check=False).returncode == 0
