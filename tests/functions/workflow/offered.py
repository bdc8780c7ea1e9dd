"""Functions that plans of tests are made from, said in one line each."""

from __future__ import annotations

from typing import Any

from dsfn.functions.interface import Interface, Kind, ParameterInterface, ResultInterface
from dsfn.functions.workflow.planning.asking import request_of
from dsfn.functions.workflow.planning.model import Estimate, Offer, Plan
from dsfn.functions.workflow.planning.plan import make_plan

Schema = dict[str, Any]
Typed = str | Schema

STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer"}


def many(items: Schema) -> Schema:
    """The schema of a list."""
    return {"type": "array", "items": items}


def record(**members: Schema) -> Schema:
    """The schema of an object that has all of these members."""
    return {"type": "object", "properties": members, "required": list(members)}


def offer(
    name: str,
    takes: dict[str, Typed],
    gives: Typed,
    *,
    ms: int = 100,
    nano: int = 100,
    calls: int = 5,
    optional: tuple[str, ...] = (),
    tags: tuple[str, ...] = (),
    about: str = "",
    streams: bool = False,
    lanes: int = 8,
) -> Offer:
    """A function. A type is a kind of part, or the schema of JSON."""
    parameters = tuple(
        ParameterInterface(
            parameter, *_typed(typed)[:1], parameter not in optional, _typed(typed)[1]
        )
        for parameter, typed in takes.items()
    )
    kind, schema = _typed(gives)
    interface = Interface(about, parameters, ResultInterface(kind, streams, schema))
    estimate = Estimate(ms * 1000, nano, calls)
    return Offer(name, interface, estimate, tags, f"{name}-0123456789", lanes)


def plan_of(
    offers: list[Offer], inputs: str | list[str], output: str, want: str = "", by: str = "latency"
) -> Plan:
    """The plan for inputs as they are written on the command line."""
    asked = [inputs] if isinstance(inputs, str) else inputs
    return make_plan(request_of(asked, output, want, by), offers)


def _typed(typed: Typed) -> tuple[Kind, Schema | None]:
    if isinstance(typed, dict):
        return "json", typed
    return typed, None  # type: ignore[return-value]  # the tests write kinds
