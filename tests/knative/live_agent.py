"""An agent's program in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from as_in_pods import PYTHON
from deadlines import eventually
from live_node import environment
from live_pod import START_TIMEOUT_S, STOP_TIMEOUT_S, TestStore
from ports import free_port

KEY = "the-platforms-key"


@dataclass(eq=False)
class LiveAgent:
    """An agent that this test run starts, kills and starts again at the same place. `by_port`:
    whether pods ask at its port, and not at its socket."""

    place: Path
    store: TestStore
    control: str
    variables: Mapping[str, str] = field(default_factory=dict)
    by_port: bool = False
    process: subprocess.Popen[bytes] | None = None
    port: int = field(default_factory=free_port)

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.place / "run" / "agent.sock"

    @property
    def data(self) -> Path:
        """Its part of the node's disk."""
        return self.place / "data"

    @property
    def log(self) -> str:
        """What it has printed."""
        return (self.place / "agent.log").read_text(encoding="utf-8")

    @property
    def pods(self) -> dict[str, str]:
        """What its node's pods are told."""
        address = f"tcp://127.0.0.1:{self.port}" if self.by_port else str(self.socket)
        return {"DSFN_AGENT": address}

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Starts it, and waits until it serves."""
        self.socket.unlink(missing_ok=True)
        self._launch()
        eventually(self._serves, "the agent to serve", START_TIMEOUT_S)

    def stand_by(self) -> None:
        """Starts it where another one is, and waits until pods can connect to it."""
        self._launch()
        eventually(self._listens, "the agent to listen", START_TIMEOUT_S)

    def _launch(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        own = {
            "DSFN_STORE": self.store.url,
            "DSFN_CONTROL": self.control,
            "DSFN_AGENT": str(self.socket),
            "PORT": str(self.port),
            "DSFN_DATA": str(self.data),
            # An import of torch takes the processors from the tests that are not about it.
            "DSFN_LIBRARIES": "",
            **self.store.variables,
            **self.variables,
        }
        with (self.place / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*PYTHON, "-m", "dsfn.knative.agent"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment({}), **own},
                start_new_session=True,
            )

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)

    def _serves(self) -> bool:
        assert self.is_running, f"The agent ended while it started:\n{self.log}"
        return self.socket.exists()

    def _listens(self) -> bool:
        assert self.is_running, f"The agent ended while it started:\n{self.log}"
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False
