"""Pictures of workflows and runs as answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from dsfn.functions.errors import InvalidInput
from dsfn.functions.workflow.dag import Dag
from dsfn.runtime.workflows.drawing import Progress, draw_mermaid, draw_svg

Draw = Callable[[Dag, Mapping[str, Progress] | None, str], str]

_FORMATS: Mapping[str, tuple[str, Draw]] = {
    "svg": ("image/svg+xml", draw_svg),
    "mermaid": ("text/vnd.mermaid", draw_mermaid),
}


async def picture(
    request: Request, dag: Dag, run: Mapping[str, Progress] | None = None, currency: str = ""
) -> Response:
    """The picture in the `format` that the query asks for. Raises `InvalidInput`."""
    name = request.query_params.get("format", "svg")
    if name not in _FORMATS:
        raise InvalidInput(f"format is svg or mermaid, not {name!r}.", field="format")
    content_type, draw = _FORMATS[name]
    # The largest workflow takes a second.
    text = await asyncio.to_thread(draw, dag, run, currency)
    return Response(text, media_type=content_type)
