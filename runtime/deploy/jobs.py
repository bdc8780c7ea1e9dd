"""What the pipeline asks of the worker side: one job in one fresh worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dsfn.functions.values import dataclass
from dsfn.runtime.deploy.environments import Environment
from dsfn.runtime.worker.messages import Gpu, Message


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job came to (see `worker.messages`), and what the author's code printed."""

    document: Mapping[str, Any]
    output: str


class Jobs(Protocol):
    """Runs jobs in workers."""

    async def run(
        self,
        environment: Environment,
        job: Message,
        timeout_s: float,
        gpus: Sequence[Gpu] = (),
    ) -> JobResult:
        """Runs one job in a worker of its own, with memory of these GPUs.

        Raises what the job raised, `HandlerTimedOut` when it took longer than
        `timeout_s` (its process is then gone), and `HandlerCrashed` when its process
        ended. An error's field `output`, where there is one, is what was printed, and
        `traceback` where the author's code hung.
        """
        ...

    async def preload(self, environment: Environment, modules: list[str]) -> None:
        """Has later workers of the environment start with these installed modules."""
        ...
