"""The systems that `workflow` measures, and what each of them promises."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.setup import environment
from benchmarks.workflows import servers
from benchmarks.workflows.servers import Started

EACH_STEP = "each step"


@dataclass(frozen=True, slots=True)
class System:
    """Something that runs workflows.

    `client`: the module that asks it, a `measure.Client`; `servers`: what must run beside that.
    `keeps`: what of a run outlives `kill -9`, `EACH_STEP` for all that is finished. `resumes`:
    whether it goes on with interrupted runs by itself. `program`: what must be on the PATH.
    `settings`: the client's environment, with {address} and {directory} to fill in.
    """

    name: str
    client: str
    servers: Callable[[Path], AbstractContextManager[Started]]
    keeps: str
    resumes: bool = False
    program: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> str:
        """The program without which it cannot run; nothing when that is there."""
        return self.program if self.program and shutil.which(self.program) is None else ""

    def command(self) -> tuple[str | Path, ...]:
        """Its client's, up to the arguments."""
        if self.client.startswith("benchmarks.peers."):
            return (environment("workflow") / "bin" / "python", "-m", self.client)
        return (sys.executable, "-m", self.client)

    def variables(self, address: str, directory: Path) -> Mapping[str, str]:
        """What its client's environment has more than this process's."""
        fill = {"address": address, "directory": str(directory)}
        return {name: value.format_map(fill) for name, value in self.settings.items()}


_DBOS = "benchmarks.peers.workflow_dbos"
_TEMPORAL = "benchmarks.peers.workflow_temporal"
_SERVER = "temporal-server"

SYSTEMS: Mapping[str, System] = {
    system.name: system
    for system in (
        System("dsfn", "benchmarks.workflows.node_client", servers.node, EACH_STEP, True),
        System("temporal", _TEMPORAL, servers.temporal, EACH_STEP, True, _SERVER),
        System("dbos", _DBOS, servers.sqlite, EACH_STEP, True),
        System("dbos-wal", _DBOS, servers.sqlite_wal, EACH_STEP, True),
        System("dbos-postgres", _DBOS, servers.postgres, EACH_STEP, True, "postgres"),
        System(
            *("prefect", "benchmarks.peers.workflow_prefect", servers.prefect, EACH_STEP),
            settings={
                "PREFECT_HOME": "{directory}",
                "PREFECT_API_URL": "{address}",
                "PREFECT_LOGGING_LEVEL": "ERROR",
                "PREFECT_LOGGING_TO_API_ENABLED": "false",
            },
        ),
        System("temporal-local", _TEMPORAL, servers.temporal_local, "not each", program=_SERVER),
        System(
            *("ray", "benchmarks.peers.workflow_ray", servers.nothing, "nothing"),
            settings={"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"},
        ),
        System("asyncio", "benchmarks.workflows.coroutines", servers.nothing, "nothing"),
    )
}
