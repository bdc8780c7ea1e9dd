from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from worker_client import ForkServer, Worker, fork_server


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """One fork server for all tests: importing torch takes a second or two."""
    with fork_server() as running:
        yield running


@pytest.fixture
def spawn(server: ForkServer) -> Iterator[Callable[..., Worker]]:
    """Makes workers, which end with the test."""
    workers: list[Worker] = []

    def make(owner: socket.socket | None = None) -> Worker:
        workers.append(server.spawn(owner))
        return workers[-1]

    yield make
    for worker in workers:
        worker.close()
    for worker in workers:
        server.exit_status(worker)
