"""Images of what a pod's processes are once they have imported all that they need.

A process that goes on from one has torch after some 40 ms instead of a second: see
`dsfn.snapshots.process`. They are of this node, made when the agent starts, and lie beside its
socket, where pods that restore a snapshot can read them. None of the platform's secrets is in them.
Pods that find none that fits start as they would without.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dsfn.functions.values import dataclass
from dsfn.knative.pod.images import FRONT, WORKERS
from dsfn.runtime.deploy.commands import CommandFailed, run_command
from dsfn.runtime.replicas.begun import environment
from dsfn.snapshots.process.checkpoint import unfinished
from dsfn.snapshots.process.image import read_at_load
from dsfn.snapshots.process.machine import is_known
from dsfn.snapshots.secrets import without_secrets

# A cold import on a slow disk and a busy node, several times over.
LIMIT_S = 300.0
# What was short once may be there again.
RETRY_S = 600.0
# A program's own, beside what libraries read.
_NEEDED = ("HOME", "PATH")
_PROOF = ("-P", "-c", "from dsfn.snapshots.process.proof import main; main()")
_LOG = logging.getLogger("dsfn.agent")


@dataclass(frozen=True, slots=True)
class Imaging:
    """`program`: what writes an image, and its arguments but for the path. `environment`: its own,
    which is seen in the image."""

    name: str
    program: tuple[str, ...]
    environment: Mapping[str, str]


def images_of(libraries: Sequence[str]) -> tuple[Imaging, ...]:
    """Those of pods whose workers are born with these libraries."""
    workers = ("dsfn.runtime.worker.imaging", ",".join(libraries))
    return (
        Imaging(WORKERS, workers, _shown(environment())),
        Imaging(FRONT, ("dsfn.knative.pod.imaging",), _shown(without_secrets(os.environ))),
    )


def _shown(environ: Mapping[str, str]) -> dict[str, str]:
    """What has to be as in pods, and what a program cannot do without: all that read an image may
    know it."""
    kept = {name: environ[name] for name in _NEEDED if name in environ}
    return kept | read_at_load(environ)


def forget_images(directory: Path) -> None:
    """Removes those of an earlier run, and what is left of its making. Processes that have gone on
    from one keep it. Raises `OSError`."""
    for pattern in ("*.image", "*.unproved", ".*.unproved.new"):
        for each in directory.glob(pattern):
            each.unlink(missing_ok=True)


async def make_images(
    directory: Path,
    libraries: Sequence[str],
    limit_s: float = LIMIT_S,
    retry_s: float = RETRY_S,
) -> None:
    """Makes them. What goes wrong is told once, tried again after `retry_s`, and costs pods time
    alone."""
    if is_known():
        makings = (_make(each, directory, limit_s, retry_s) for each in images_of(libraries))
        await asyncio.gather(*makings)


async def _make(imaging: Imaging, directory: Path, limit_s: float, retry_s: float) -> None:
    told = ""
    while trouble := await _trouble_of(imaging, directory / imaging.name, limit_s):
        if trouble != told:
            told = trouble
            _LOG.warning("Pods start a second later, without %s: %s", imaging.name, trouble)
        await asyncio.sleep(retry_s)


async def _trouble_of(imaging: Imaging, path: Path, limit_s: float) -> str:
    """What keeps an image from being made and used, "" for nothing."""
    fresh = path.with_suffix(".unproved")
    module, *words = imaging.program
    try:
        async with asyncio.timeout(limit_s):
            making = (sys.executable, "-m", module, str(fresh), *words)
            await run_command(*making, environment=imaging.environment)
            proving = (sys.executable, *_PROOF, str(fresh))
            await run_command(*proving, environment=imaging.environment)
        fresh.replace(path)
    except TimeoutError:
        return f"it takes more than {limit_s:g} s."
    except CommandFailed as error:
        return error.output or "a process ended."
    except OSError as error:
        return f"{error.strerror}."
    finally:
        for each in (fresh, unfinished(fresh)):
            with suppress(OSError):
                each.unlink(missing_ok=True)
    return ""
