"""What functions' pods read of their image when they start, in memory before they come.

The agent's image has the layers of functions' image, and these are the same files on a node: what
one container has read, the others find in memory. The first import of torch reads some hundred
megabytes from the disk, and takes seconds; those after it do not.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence

from dsfn.runtime.deploy.commands import CommandFailed, run_command

# Pages that nobody has used for long are the first to go when others need the memory. An import
# of what is still there takes two seconds of a processor that nobody else wants.
EVERY_S = 600.0
# A cold import on a slow disk and a busy node, several times over.
LIMIT_S = 300.0
_PROGRAM = "dsfn.knative.agent.rehearsal"
_LOG = logging.getLogger("dsfn.agent")


async def keep_warm(
    libraries: Sequence[str], every_s: float = EVERY_S, limit_s: float = LIMIT_S
) -> None:
    """Has a process of its own start as a pod with these libraries does, at once and after every
    `every_s`, until it is cancelled. One that takes more than `limit_s` is ended. What goes wrong
    is told once, and costs pods time alone."""
    told = ""
    while True:
        trouble = await _trouble_of_a_round(libraries, limit_s)
        if trouble not in ("", told):
            told = trouble
            _LOG.warning("Not all that pods import is in memory before they come: %s", trouble)
        await asyncio.sleep(every_s)


async def _trouble_of_a_round(libraries: Sequence[str], limit_s: float) -> str:
    try:
        async with asyncio.timeout(limit_s):
            await run_command(sys.executable, "-m", _PROGRAM, ",".join(libraries))
    except TimeoutError:
        return f"it takes more than {limit_s:g} s."
    except CommandFailed as error:
        return error.output or "the process that imports it was ended."
    except OSError as error:
        return f"no process can be started: {error.strerror}."
    return ""
