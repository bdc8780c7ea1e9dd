"""`dsfn context list|show|use|set|remove`: whom the command line talks to."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dsfn.runtime.cli.contexts import (
    LOCAL,
    Context,
    load_contexts,
    require_key,
    save_contexts,
)
from dsfn.runtime.cli.documents import ContextDocument
from dsfn.runtime.cli.options import JsonOption, context_names
from dsfn.runtime.cli.output import Column, print_fields, print_json, print_table, say
from dsfn.runtime.cli.place import chosen_target, target_of
from dsfn.runtime.cli.ways import require_url

ContextArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The context's name.",
        autocompletion=context_names,
        show_default=False,
    ),
]
_STANDARD_INPUT = "-"


def list_contexts(json_output: JsonOption = False) -> None:
    """List the contexts; the current one is where commands go."""
    documents = [_document(name) for name in (LOCAL, *sorted(load_contexts().named))]
    if json_output:
        print_json(documents)
        return
    print_table(
        (Column("name"), Column("url"), Column("key"), Column("current")),
        [
            (each["name"] or "", each["url"], _yes(each["has_key"]), _yes(each["current"]))
            for each in documents
        ],
        empty="",
    )


def show(json_output: JsonOption = False) -> None:
    """Show whom commands talk to now."""
    target = chosen_target()
    document: ContextDocument = {
        "name": target.name or None,
        "url": target.url,
        "has_key": target.key is not None,
        "current": target.name == load_contexts().current,
    }
    if json_output:
        print_json(document)
    else:
        print_fields((("name", target.name), ("url", target.url), ("key", _yes(target.key))))


def use(name: ContextArgument, json_output: JsonOption = False) -> None:
    """Have commands go to this context from now on."""
    save_contexts(load_contexts().using(name))
    _tell(name, f"Commands go to {name} from now on.", json_output)


def set_context(
    name: ContextArgument,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="A node's, or kubernetes://CONTEXT/NAMESPACE for the control service of a cluster,"
            " by a context of kubeconfig.",
            show_default=False,
        ),
    ],
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="The API key for it; - reads it from standard input."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Give a node or a cluster a name, or change what has it."""
    secret = sys.stdin.readline().strip() if key == _STANDARD_INPUT else key
    if secret is not None:
        require_key(secret)
    require_url(url)
    save_contexts(load_contexts().holding(name, Context(url.rstrip("/"), secret)))
    _tell(name, f"{name} is set; `dsfn context use {name}` has commands go there.", json_output)


def remove(name: ContextArgument, json_output: JsonOption = False) -> None:
    """Forget a context and its key."""
    save_contexts(load_contexts().without(name))
    if json_output:
        print_json({"name": name, "removed": True})
    else:
        say(f"{name} is forgotten.")


def _tell(name: str, words: str, json_output: bool) -> None:
    if json_output:
        print_json(_document(name))
    else:
        say(words)


def _document(name: str) -> ContextDocument:
    contexts = load_contexts()
    target = target_of(name, contexts)
    return {
        "name": name,
        "url": target.url,
        "has_key": target.key is not None,
        "current": name == contexts.current,
    }


def _yes(holds: object) -> str:
    return "yes" if holds else ""
