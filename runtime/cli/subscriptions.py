"""`dsfn subscribe` and `unsubscribe`."""

from __future__ import annotations

from typing import Annotated

import typer

from dsfn.functions.errors import UsageError
from dsfn.runtime.cli.documents import SubscriptionDocument
from dsfn.runtime.cli.options import JsonOption, NameArgument, connect
from dsfn.runtime.cli.output import print_json, say

_METAVAR = "ATTRIBUTE=VALUE"


def subscribe(
    name: NameArgument,
    exact: Annotated[
        list[str] | None, typer.Option(metavar=_METAVAR, help="The attribute is this value.")
    ] = None,
    prefix: Annotated[
        list[str] | None, typer.Option(metavar=_METAVAR, help="The attribute begins with this.")
    ] = None,
    suffix: Annotated[
        list[str] | None, typer.Option(metavar=_METAVAR, help="The attribute ends with this.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Send a function, or start a workflow for, every event that fits all the given filters."""
    filters = {
        "exact": _pairs("--exact", exact),
        "prefix": _pairs("--prefix", prefix),
        "suffix": _pairs("--suffix", suffix),
    }
    if not any(filters.values()):
        raise UsageError("Say which events: give --exact, --prefix or --suffix at least once.")
    with connect() as client:
        subscription = client.subscribe(name, filters)
    if json_output:
        print_json(subscription)
    else:
        say(f"Subscription {subscription['id']}: {name} gets {describe_filters(subscription)}.")


def unsubscribe(
    subscription: Annotated[
        str, typer.Argument(metavar="ID", help="The subscription's id.", show_default=False)
    ],
    json_output: JsonOption = False,
) -> None:
    """End a subscription."""
    with connect() as client:
        client.unsubscribe(subscription)
    if json_output:
        print_json({"id": subscription, "deleted": True})
    else:
        say(f"Subscription {subscription} is ended.")


def describe_filters(subscription: SubscriptionDocument) -> str:
    """The events that a subscription takes, in words."""
    words = [
        *(f"{k} = {v}" for k, v in subscription["exact"].items()),
        *(f"{k} begins with {v}" for k, v in subscription["prefix"].items()),
        *(f"{k} ends with {v}" for k, v in subscription["suffix"].items()),
    ]
    return "events whose " + " and ".join(words)


def _pairs(option: str, values: list[str] | None) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values or ():
        attribute, _, wanted = value.partition("=")
        if not attribute or not wanted:
            raise UsageError(
                f"{option} {value!r} is not ATTRIBUTE=VALUE, such as type=order.created."
            )
        pairs[attribute] = wanted
    return pairs
