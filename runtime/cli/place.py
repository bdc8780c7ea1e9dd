"""Where the node is: its data directory and its URL."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from dsfn.runtime.config import DEFAULT_HOST, DEFAULT_PORT, default_data_dir


@dataclass(frozen=True, slots=True)
class NodeFile:
    """What a running node wrote into `node.json`."""

    url: str
    pid: int


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


def node_url() -> str:
    """`DSFN_URL`, or what the data directory's node wrote, or the default address."""
    chosen = os.environ.get("DSFN_URL")
    if chosen:
        return chosen.rstrip("/")
    node = read_node_file(data_dir())
    return node.url if node is not None else f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"


def api_key(url: str | None = None) -> str | None:
    """`DSFN_API_KEY`, or the key that the data directory's node wrote for its owner, which no
    other node gets: neither one at a given `url` nor that of `DSFN_URL`."""
    if chosen := os.environ.get("DSFN_API_KEY"):
        return chosen
    if url is not None or os.environ.get("DSFN_URL"):
        return None
    try:
        return (data_dir() / "node.key").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
