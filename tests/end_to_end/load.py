"""Calls that never cease, from several clients at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx
from deadlines import eventually
from live_node import LiveNode


class Load:
    """Calls a function over and over until the block ends. `answers` are what came back,
    `broken` the connections that a node took with it when it died."""

    def __init__(
        self, node: LiveNode, function: str, arguments: Mapping[str, Any], clients: int
    ) -> None:
        self.answers: list[httpx.Response] = []
        self.broken: list[httpx.TransportError] = []
        self._node = node
        self._function = function
        self._arguments = dict(arguments)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(clients)]

    def go_on(self, answers: int) -> None:
        """Waits for so many more answers."""
        wanted = len(self.answers) + answers
        eventually(lambda: len(self.answers) >= wanted, f"{answers} more answers")

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(self._node.call(self._function, **self._arguments))
            except httpx.TransportError as error:
                self.broken.append(error)
                return
