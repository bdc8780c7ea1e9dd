"""Whom the command line talks to: a node's data directory, URL and API key."""

from __future__ import annotations

import json
import os
from dataclasses import field
from pathlib import Path

from dsfn.functions.values import dataclass
from dsfn.runtime.cli.contexts import LOCAL, Contexts, load_contexts
from dsfn.runtime.config import DEFAULT_HOST, DEFAULT_PORT, default_data_dir


@dataclass(frozen=True, slots=True)
class NodeFile:
    """What a running node wrote into `node.json`."""

    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class Target:
    """A node, or the control service of a cluster. `name`: of its context, "" where a URL was
    given. `key`: the API key for it, if any."""

    name: str
    url: str
    key: str | None = field(repr=False)


def data_dir() -> Path:
    """The chosen data directory, absolute."""
    return default_data_dir().expanduser().absolute()


def read_node_file(directory: Path) -> NodeFile | None:
    """The last node of this data directory; it may be gone. None when there was none."""
    try:
        document = json.loads((directory / "node.json").read_bytes())
        return NodeFile(url=str(document["url"]), pid=int(document["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def chosen_target() -> Target:
    """The context that `DSFN_TARGET` names, or else the node at `DSFN_URL`, or that of the data
    directory `DSFN_DATA`, or the current context. Raises `UsageError`."""
    name = os.environ.get("DSFN_TARGET")
    if not name and (url := os.environ.get("DSFN_URL")):
        return target_at(url)
    if not name and os.environ.get("DSFN_DATA"):
        name = LOCAL
    contexts = load_contexts()
    return target_of(name or contexts.current, contexts)


def target_of(name: str, contexts: Contexts) -> Target:
    """What a context stands for. Raises `UsageError`."""
    context = contexts.find(name)
    if context is None:
        return _local()
    return Target(name, context.url, _given_key() or context.key)


def target_at(url: str) -> Target:
    """A node at a URL: it gets no key but one that is given for it."""
    return Target("", url.rstrip("/"), _given_key())


def _local() -> Target:
    """The node of the data directory, with the key that it wrote for its owner, which no other
    node gets."""
    node = read_node_file(data_dir())
    url = node.url if node is not None else f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"
    return Target(LOCAL, url, _given_key() or _owners_key())


def _given_key() -> str | None:
    return os.environ.get("DSFN_API_KEY") or None


def _owners_key() -> str | None:
    try:
        return (data_dir() / "node.key").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
