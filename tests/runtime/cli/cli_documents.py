"""The documents that docs/cli.md shows, and whether another has their shape."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[3] / "docs" / "cli.md"

# Objects whose keys are a person's own, or come from another document's schema.
OPEN = {
    "exact",
    "prefix",
    "suffix",
    "traffic",
    "options",
    "interface",
    "replicas",
    "phases_us",  # only a cold call's have parts
    "result",
    "libraries",
    "dag",
    "error",  # a problem document has facts of its own beside the RFC's
    "event",
    "states",
}


def section(command: str) -> str:
    """What docs/cli.md says of a command, "" when that is nothing."""
    match = re.search(rf"^### {re.escape(command)}\n(.*?)(?=^##|\Z)", DOCS.read_text(), re.M | re.S)
    return match[1] if match else ""


def documented(command: str, index: int = 0) -> Any:
    """The document that is shown for a command."""
    return json.loads(re.findall(r"```json\n(.*?)```", section(command), re.S)[index])


def assert_shape(found: Any, shown: Any, at: str = "document") -> None:
    """The same keys and types all the way down; `null` fits anything."""
    if found is None or shown is None:
        return
    if isinstance(shown, float):
        assert isinstance(found, (int, float)), at
        return
    assert type(found) is type(shown), f"{at} is {found!r}, shown is {shown!r}"
    if isinstance(shown, dict) and at.rpartition(".")[2] not in OPEN:
        assert list(found) == list(shown), at
        for key, value in shown.items():
            assert_shape(found[key], value, f"{at}.{key}")
    elif isinstance(shown, list) and shown:
        for each in found:
            assert_shape(each, shown[0], at)
