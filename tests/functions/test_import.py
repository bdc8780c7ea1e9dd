"""The front door: what it exports, and that it is light."""

from __future__ import annotations

import subprocess
import sys

import dsfn

HEAVY = (
    *("torch", "numpy", "pydantic", "pydantic_core", "PIL", "starlette", "httpx", "cloudevents"),
    *("yaml", "jsonschema", "asyncio"),
)


def test_the_public_names_are_these_and_sorted() -> None:
    assert dsfn.__all__ == [
        "Audio",
        "DsfnError",
        "Event",
        "File",
        "Image",
        "Json",
        "Placement",
        "Tensor",
        "Text",
        "Video",
        "__version__",
        "deployed",
        "function",
        "gather",
        "map",
        "on",
        "plan",
        "when",
        "workflow",
    ]
    assert all(hasattr(dsfn, name) for name in dsfn.__all__)


def test_importing_dsfn_loads_no_heavy_module() -> None:
    code = f"import sys, dsfn; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
