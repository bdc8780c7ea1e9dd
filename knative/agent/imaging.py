"""Images of what a pod's processes are once they have imported all that they need.

A process that goes on from one has torch after some 40 ms instead of a second: see
`dsfn.snapshots.process`. They are of this node, made when the agent starts, and lie beside its
socket, where pods that restore a snapshot can read them. None of the platform's secrets is in them.
Pods that find none that fits start as they would without.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dsfn.functions.values import dataclass
from dsfn.knative.pod.images import FRONT, WORKERS
from dsfn.runtime.deploy.commands import CommandFailed, run_command
from dsfn.runtime.replicas.begun import environment
from dsfn.snapshots.process.machine import is_known

# A cold import on a slow disk and a busy node, several times over.
LIMIT_S = 300.0
# What was short once may be there again.
RETRY_S = 600.0
_PROOF = ("-P", "-c", "from dsfn.snapshots.process.proof import main; main()")
_LOG = logging.getLogger("dsfn.agent")


@dataclass(frozen=True, slots=True)
class Imaging:
    """`program`: what writes an image, and its arguments but for the path; `variables`: what the
    processes that go on from it have in their environment."""

    name: str
    program: tuple[str, ...]
    variables: Mapping[str, str]


def images_of(libraries: Sequence[str]) -> tuple[Imaging, ...]:
    """Those of pods whose workers are born with these libraries."""
    return (
        Imaging(WORKERS, ("dsfn.runtime.worker.imaging", ",".join(libraries)), environment()),
        Imaging(FRONT, ("dsfn.knative.pod.imaging",), {}),
    )


async def make_images(
    directory: Path,
    libraries: Sequence[str],
    limit_s: float = LIMIT_S,
    retry_s: float = RETRY_S,
) -> None:
    """Makes them, in the place of those of an earlier run. What goes wrong is told once, tried
    again after `retry_s`, and costs pods time alone."""
    if not is_known():
        return
    told = ""
    for each in images_of(libraries):
        while trouble := await _trouble_of(each, directory / each.name, limit_s):
            if trouble != told:
                told = trouble
                _LOG.warning("Pods start a second later, without %s: %s", each.name, trouble)
            await asyncio.sleep(retry_s)


async def _trouble_of(imaging: Imaging, path: Path, limit_s: float) -> str:
    """What keeps an image from being made and used, "" for nothing."""
    fresh = path.with_suffix(".unproved")
    module, *words = imaging.program
    try:
        async with asyncio.timeout(limit_s):
            making = (sys.executable, "-m", module, str(fresh), *words)
            await run_command(*making, variables=imaging.variables)
            proving = (sys.executable, *_PROOF, str(fresh))
            await run_command(*proving, variables=imaging.variables)
        fresh.replace(path)
    except TimeoutError:
        return f"it takes more than {limit_s:g} s."
    except CommandFailed as error:
        return error.output or "a process ended."
    except OSError as error:
        return f"{error.strerror}."
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
    return ""
