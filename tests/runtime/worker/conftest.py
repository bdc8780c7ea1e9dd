from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from worker_client import ForkServer, Worker, fork_server, make_image

from dsfn.snapshots.process.machine import is_known


@pytest.fixture(scope="session", params=["imported", "image"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ForkServer]:
    """One fork server for all tests, as importing torch takes a second or two; and one that has
    gone on from an image, of which all is to be as of the first."""
    image = None
    if request.param == "image":
        if not is_known():
            pytest.skip("images are for x86-64 and Linux")
        image = make_image(tmp_path_factory.mktemp("images") / "workers.image")
    with fork_server(image=image) as running:
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
