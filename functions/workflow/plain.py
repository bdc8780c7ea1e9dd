"""The body of a workflow where there is no node: its functions are called as they are.

asyncio is imported when it is needed, because `import dsfn` must stay light.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any

from dsfn.functions.invalid import invalid
from dsfn.functions.parts import Text
from dsfn.functions.workflow.body import Callee, Subflow, in_body
from dsfn.functions.workflow.settings import StepSettings
from dsfn.functions.workflow.tracing import value_of


class Plain:
    """Calls functions one after the other. Settings have no effect."""

    def call(
        self,
        callee: Callee[..., Any],
        settings: StepSettings,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """The whole result of a function: asynchronous ones are awaited, streams collected."""
        with in_body(None):
            return _whole(callee, callee.run(*args, **kwargs))

    def inline(self, workflow: Subflow, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The result of another workflow."""
        return workflow.target(*args, **kwargs)

    def map(
        self, function: Callable[..., Any], lists: Sequence[Any], parallel: int, name: str
    ) -> list[Any]:
        """The function's results in order. Raises `InvalidInput` for lists of unequal length."""
        if len({len(items) for items in lists}) > 1:
            raise invalid(name, "goes over lists that are not equally long")
        return [function(*items) for items in zip(*lists, strict=True)]

    def when(self, condition: Any, then: Any, otherwise: Any, name: str) -> Any:
        """What the branch gives that is taken."""
        return value_of(then if condition else otherwise)


def _whole(callee: Callee[..., Any], result: Any) -> Any:
    if inspect.iscoroutine(result):
        return _awaited(result)
    if inspect.isasyncgen(result):
        items = _awaited(_collected(result))
    elif inspect.isgenerator(result):
        items = list(result)
    else:
        return result
    return Text("".join(items)) if callee.result_kind == "text" else items


async def _collected(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    # In a thread of its own: this one may have an event loop that runs.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()
