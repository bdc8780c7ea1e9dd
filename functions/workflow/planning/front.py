"""`dsfn.plan`: from types to a workflow, of a node's functions or of functions at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from dsfn.functions.errors import UsageError
from dsfn.functions.function import Function

if TYPE_CHECKING:
    from dsfn.functions.workflow.planning.model import Offer, Plan


def plan(
    *,
    input: str | Sequence[str] | Mapping[str, str],
    output: str,
    want: str = "",
    optimise: Literal["latency", "cost"] = "latency",
    functions: Iterable[Function[..., Any]] | None = None,
    save: str | None = None,
    url: str | None = None,
) -> Plan:
    """The best chain or graph of functions that leads from `input` to `output`.

        >>> print(dsfn.plan(input="audio/wav", output="text/plain", want="summary"))

    `input` is a content type (`image/*`; `image/*[]` for a list of such), several of them, or
    several by name; `want`, words that the functions should be about. The functions are those
    deployed on the node at `url` (default: as the command line finds it), ranked by what its
    ledger measured, and `save` keeps the plan there as a workflow of that name. With `functions`
    no node is asked: the plan is made of these alone, none of which counts as measured.

    Raises `NoPlan`, `InvalidInput`, `Unavailable` when no node answers, and `UsageError` for
    `save` or `url` together with `functions`.
    """
    inputs = _inputs(input)
    if functions is not None:
        if save is not None or url is not None:
            raise UsageError("A plan of given functions is made without a node: no save, no url.")
        return _of_functions(inputs, output, want, optimise, functions)
    # This room must not know the one that speaks HTTP: it is looked up by its name.
    client = import_module("dsfn.runtime.cli.plan_client")
    found: Plan = client.plan_on_node(inputs, output, want, optimise, save, url)
    return found


def _of_functions(
    inputs: list[str],
    output: str,
    want: str,
    optimise: str,
    functions: Iterable[Function[..., Any]],
) -> Plan:
    from dsfn.functions.workflow.planning.asking import request_of
    from dsfn.functions.workflow.planning.plan import make_plan

    request = request_of(inputs, output, want, optimise)
    return make_plan(request, [_offer(function) for function in functions])


def _offer(function: Function[..., Any]) -> Offer:
    from dsfn.functions.workflow.planning.model import UNMEASURED, UNMEASURED_ON_GPU, Offer

    options = function.options
    return Offer(
        name=options.name,
        interface=function.interface(),
        estimate=UNMEASURED_ON_GPU if options.gpu > 0 else UNMEASURED,
        tags=options.tags,
        lanes=options.max_replicas * options.concurrency,
    )


def _inputs(given: str | Sequence[str] | Mapping[str, str]) -> list[str]:
    """As they are written on the command line."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, Mapping):
        return [f"{name}={media}" for name, media in given.items()]
    return list(given)
