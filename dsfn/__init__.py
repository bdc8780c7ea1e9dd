"""Serverless functions for models: deploy, call, scale to zero, come back, bill."""

from __future__ import annotations

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
