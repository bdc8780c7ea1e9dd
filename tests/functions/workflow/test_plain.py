"""A plain call of a workflow gives what its graph comes to."""

from __future__ import annotations

from typing import Any

from dags import PURE, inputs, interpret
from hypothesis import given, settings

import dsfn
from dsfn import Json


@dsfn.function
def add(a: int, b: int) -> int:
    return int(PURE["add"].run(a, b))


@dsfn.function
async def double(n: int) -> int:
    return int(PURE["double"].run(n))


@dsfn.function
def is_odd(n: int) -> bool:
    return bool(PURE["is-odd"].run(n))


@dsfn.function
def spread(n: int) -> list[int]:
    return list(PURE["spread"].run(n))


@dsfn.workflow
def sub(n: int, m: int = 7) -> Json:
    return dsfn.when(is_odd(n), lambda: {"odd": add(n, m)}, {"odd": 0})


@dsfn.workflow
def flow(n: int, flag: bool, ns: list[int], m: int = 7) -> Json:
    def of_pair(one: int, other: int) -> Json:
        inner = dsfn.map(lambda i: [add(i, one), n], spread(other))
        return {"inner": inner, "sub": sub(one)["odd"]}

    pairs = dsfn.map(of_pair, ns, ns, parallel=2)
    twice: Any = double(m)
    first, last = dsfn.gather(twice, dsfn.when(flag, lambda: dsfn.map(double, ns), []))
    return [pairs, first, last, dsfn.when(ns, lambda: ns[0], None), dsfn.map(sub, [n, twice])]


@settings(deadline=None)  # asynchronous functions are run in threads
@given(inputs())
def test_a_plain_call_gives_what_the_graph_comes_to(given_: dict[str, Any]) -> None:
    functions: dict[str, Any] = {
        "add": add.target,
        "is-odd": is_odd.target,
        "spread": spread.target,
    }
    named = {**functions, "double": PURE["double"].run}
    assert flow(**given_) == interpret(flow.trace(), given_, named).output
