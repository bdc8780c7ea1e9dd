"""docs/cli.md names every command and every option."""

from __future__ import annotations

import re
from functools import cache

import pytest
import typer.main
from cli_documents import DOCS, documented, section

import dsfn.__main__  # noqa: F401  # every command, not the runtime's alone
from dsfn.runtime.cli.app import app
from dsfn.runtime.cli.documents import DeviceDocument, LinkDocument, MemoryDocument

# Told once for all commands that have it.
EVERYWHERE = "--target"


@cache
def _commands() -> dict[str, list[str]]:
    """Every command's options by its full name."""
    found: dict[str, list[str]] = {}
    waiting = [("dsfn", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        children = getattr(command, "commands", None)
        if children is None:
            options = [opt for p in command.params for opt in p.opts if opt.startswith("-")]
            found[name] = [option for option in options if option != EVERYWHERE]
        else:
            waiting += [(f"{name} {child}", each) for child, each in children.items()]
    return found


@pytest.mark.parametrize("name", _commands())
def test_every_command_and_option_is_documented(name: str) -> None:
    text = section(name)
    assert text, f"docs/cli.md has no section on `{name}`"
    missing = [option for option in _commands()[name] if f"`{option}`" not in text]
    assert not missing


def test_no_command_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(r"^### (.*)$", DOCS.read_text(), re.M)) == set(_commands())


@pytest.mark.parametrize("name", _commands())
def test_every_command_takes_json_and_shows_the_document(name: str) -> None:
    assert "--json" in _commands()[name]
    assert "```json" in section(name)


def test_the_memory_of_gpus_is_shown_as_it_is_on_a_node_that_has_some() -> None:
    shown = documented("dsfn status")["memory"]
    assert set(shown) == set(MemoryDocument.__annotations__)
    assert set(shown["devices"][0]) == set(DeviceDocument.__annotations__)
    assert set(shown["links"][0]) == set(LinkDocument.__annotations__)
