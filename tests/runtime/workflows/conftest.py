"""A node for runs, and the loop that it lives in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from run_node import RunNode

Scenario = Callable[[RunNode], Awaitable[None]]
WITHIN_S = 30


@pytest.fixture
def on_node(tmp_path: Path) -> Callable[..., None]:
    """Runs a scenario on a node that serves; the other arguments are the node's."""

    def run(scenario: Scenario, **arguments: Any) -> None:
        async def live() -> None:
            node = RunNode(tmp_path, **arguments)
            node.engine.start_serving()
            try:
                async with asyncio.timeout(WITHIN_S):
                    await scenario(node)
            finally:
                await node.close()

        asyncio.run(live())

    return run
