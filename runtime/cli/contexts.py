"""The contexts that the user has named, in a file of the user's own.

    {"current": "cluster", "contexts": {"cluster": {"url": "kubernetes://kind/dsfn", "key": "..."}}}

The node of the data directory is always there, under the name `LOCAL`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from dsfn.billing.durable import write_whole
from dsfn.functions.errors import UsageError
from dsfn.functions.options import NAME_PATTERN
from dsfn.functions.values import dataclass

LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Context:
    """Where a node is, or a cluster's control service, and the API key for it, if any."""

    url: str
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Contexts:
    """All of them, by name. `current`: where commands go that say nothing else."""

    named: Mapping[str, Context] = field(default_factory=dict)
    current: str = LOCAL

    def find(self, name: str) -> Context | None:
        """A context, None for the node of the data directory. Raises `UsageError`."""
        if name == LOCAL:
            return None
        if name not in self.named:
            there = ", ".join((LOCAL, *sorted(self.named)))
            raise UsageError(f"There is no context {name!r}; there are {there}.")
        return self.named[name]

    def using(self, name: str) -> Contexts:
        """These, with another that is the current one. Raises `UsageError`."""
        self.find(name)
        return replace(self, current=name)

    def holding(self, name: str, context: Context) -> Contexts:
        """These, and one more or another in its place. Raises `UsageError` for its name."""
        if name == LOCAL or not NAME_PATTERN.fullmatch(name):
            raise UsageError(
                f"A context cannot be called {name!r}: its name is lower-case letters, digits and"
                f" '-', and {LOCAL!r} is the node of the data directory."
            )
        return replace(self, named={**self.named, name: context})

    def without(self, name: str) -> Contexts:
        """These but one; the local node is the current one where that was. Raises `UsageError`."""
        if self.find(name) is None:
            raise UsageError(f"The context {LOCAL!r} is always there.")
        named = {each: context for each, context in self.named.items() if each != name}
        return Contexts(named, LOCAL if self.current == name else self.current)


def require_key(api_key: str) -> None:
    """Raises `UsageError` for a key that no header can have."""
    if not api_key:
        raise UsageError("The API key is empty.")
    if not (api_key.isascii() and api_key.isprintable()):
        raise UsageError("The API key is no API key: it has characters that none has.")


def contexts_file() -> Path:
    """`dsfn/contexts.json` in the user's configuration directory."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "dsfn" / "contexts.json"


def load_contexts() -> Contexts:
    """What the file has; none where there is no file. Raises `UsageError`."""
    path = contexts_file()
    try:
        document = json.loads(path.read_bytes())
        named = {
            str(name): Context(str(each["url"]), None if each["key"] is None else str(each["key"]))
            for name, each in document["contexts"].items()
        }
        return Contexts(named, str(document["current"]))
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not what `dsfn context` has written.") from error


def save_contexts(contexts: Contexts) -> None:
    """Writes the file anew: whoever reads it meanwhile reads all of the old one. Nobody but the
    user may read it, since it has keys. Raises `UsageError`."""
    path = contexts_file()
    named = {name: {"url": each.url, "key": each.key} for name, each in contexts.named.items()}
    text = json.dumps({"current": contexts.current, "contexts": named}, indent=2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another `dsfn context` may be writing it, too.
        by_way_of = path.with_name(f"{path.name}.{os.getpid()}")
        write_whole(path, f"{text}\n".encode(), by_way_of=by_way_of)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
