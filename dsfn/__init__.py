"""Serverless functions for models: deploy, call, scale to zero, come back, bill.

A name is imported when it is first asked for: a program that serves functions, and starts while
somebody waits, takes none of what defines them.
"""

from __future__ import annotations

from importlib import import_module

# As type checkers know it. `typing` takes longer to import than all that goes on from an image.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from dsfn.functions.errors import DsfnError
    from dsfn.functions.event import Event
    from dsfn.functions.function import function
    from dsfn.functions.parts import Audio, File, Image, Json, Tensor, Text, Video
    from dsfn.functions.placement import Placement
    from dsfn.functions.triggers import on
    from dsfn.functions.workflow.combinators import deployed, gather, map, when
    from dsfn.functions.workflow.planning.front import plan
    from dsfn.functions.workflow.workflow import workflow

__version__ = "0.1.0"

__all__ = [
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

_MODULES = {
    "Audio": "parts",
    "DsfnError": "errors",
    "Event": "event",
    "File": "parts",
    "Image": "parts",
    "Json": "parts",
    "Placement": "placement",
    "Tensor": "parts",
    "Text": "parts",
    "Video": "parts",
    "deployed": "workflow.combinators",
    "function": "function",
    "gather": "workflow.combinators",
    "map": "workflow.combinators",
    "on": "triggers",
    "plan": "workflow.planning.front",
    "when": "workflow.combinators",
    "workflow": "workflow.workflow",
}

# Type checkers know the names from above, and are to know no others.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module 'dsfn' has no attribute {name!r}")
        value = getattr(import_module(f"dsfn.functions.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
