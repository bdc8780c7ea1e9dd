"""A function whose `setup()`, where it is deployed, reaches for what is not its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

import dsfn

ATTEMPTS: list[Callable[[], object]] = [
    lambda: Path("/var/run/secrets/kubernetes.io/serviceaccount/token").read_text(),
    lambda: Path("/dsfn/node.key").read_text(),
    lambda: Path("/dsfn/node.db").open("r+b"),
    lambda: list(Path("/dsfn/bundles").iterdir()),
    lambda: list(Path("/dsfn/snapshots").iterdir()),
    lambda: Path("/dsfn/new").write_text("x"),
    lambda: Path(__file__).open("a"),
    lambda: list(Path("/proc/1/cwd").iterdir()),
]


def is_refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except PermissionError:
        return True
    return False


@dsfn.function
class Reaching:
    def setup(self) -> None:
        self.reached = [index for index, each in enumerate(ATTEMPTS) if not is_refused(each)]
        Path("/tmp/reaching").write_text("x")
        (Path.home() / ".cache").mkdir()
        (Path.home() / ".cache" / "model").write_text("x")
        self.weight = torch.ones(len(ATTEMPTS))

    def __call__(self) -> dict[str, list[int]]:
        return {"reached": self.reached, "attempts": [len(self.weight)]}
