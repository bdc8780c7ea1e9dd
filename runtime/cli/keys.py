"""`dsfn keys`: who may use a node."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer

from dsfn.functions.errors import UsageError
from dsfn.runtime.cli.documents import KeyDocument
from dsfn.runtime.cli.options import JsonOption, connect
from dsfn.runtime.cli.output import Column, local_time, print_fields, print_json, print_table, say

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_MAX_DIGITS = 5


class KeyScope(StrEnum):
    """What a key is for."""

    INVOKE = "invoke"
    READ = "read"
    DEPLOY = "deploy"
    BILLING = "billing"
    ADMIN = "admin"


def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What you know the key by.", show_default=False)
    ],
    scope: Annotated[
        list[KeyScope] | None,
        typer.Option(help="What it is for; may be given again. invoke and read without it."),
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option(metavar="TENANT", help="On whose account it is; the node's without it."),
    ] = None,
    function: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A function or workflow that it may call; all without it."
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="After 12h, 90d, 52w, or at a time; never without it."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Make an API key. It is shown once."""
    document: dict[str, Any] = {
        "name": name,
        "scopes": [each.value for each in scope or (KeyScope.INVOKE, KeyScope.READ)],
        "functions": function or [],
    }
    if tenant is not None:
        document["tenant"] = tenant
    if expires is not None:
        document["expires_at"] = _moment(expires)
    with connect() as client:
        made = client.create_key(document)
    if json_output:
        print_json(made)
        return
    print_fields((("key", made["key"]), *_fields(made)))
    say("Keep it well: it is not shown again.")


def list_keys(json_output: JsonOption = False) -> None:
    """List the API keys, those that were revoked among them."""
    with connect() as client:
        keys = client.keys()
    if json_output:
        print_json({"keys": keys})
        return
    print_table(
        (
            Column("id"),
            Column("name"),
            Column("tenant"),
            Column("scopes"),
            Column("state"),
            Column("expires"),
            Column("last used"),
        ),
        [
            (
                key["id"],
                key["name"],
                key["tenant"],
                _scopes(key),
                key["state"],
                local_time(key["expires_at"]) if key["expires_at"] else "",
                key["last_used"] or "",
            )
            for key in keys
        ],
        empty="There are no API keys.",
    )


def revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="The key's id, not the key.", show_default=False)
    ],
    json_output: JsonOption = False,
) -> None:
    """Take an API key back, at once."""
    with connect() as client:
        key = client.revoke_key(key_id)
    if json_output:
        print_json(key)
    else:
        say(f"The key {key['id']} ({key['name']}) is revoked.")


def _fields(key: KeyDocument) -> tuple[tuple[str, str], ...]:
    return (
        ("id", key["id"]),
        ("name", key["name"]),
        ("tenant", key["tenant"]),
        ("scopes", _scopes(key)),
        ("expires", local_time(key["expires_at"]) if key["expires_at"] else "never"),
    )


def _scopes(key: KeyDocument) -> str:
    words = ", ".join(key["scopes"])
    return f"{words} ({', '.join(key['functions'])})" if key["functions"] else words


def _moment(text: str) -> str:
    """A moment in RFC 3339, from a time that passes or from a moment. Raises `UsageError`."""
    if found := re.fullmatch(rf"([0-9]{{1,{_MAX_DIGITS}}})([hdw])", text):
        return (datetime.now(UTC) + int(found[1]) * _UNITS[found[2]]).isoformat()
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is no time: write 12h, 90d, 52w, or one like 2027-01-31T12:00:00Z."
        ) from None
