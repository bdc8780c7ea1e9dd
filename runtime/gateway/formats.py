"""In which format a bill is asked for: `?format=`, or else the header `Accept`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from dsfn.functions.errors import UsageError
from dsfn.functions.negotiation import choose

JSON, CSV, FOCUS, HTML, PDF = "json", "csv", "focus", "html", "pdf"
# FOCUS is CSV, too: it must be asked for by name.
_TYPES = {JSON: "application/json", CSV: "text/csv", HTML: "text/html", PDF: "application/pdf"}
# A page has no scripts and loads nothing, whatever is written in it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


def format_of(request: Request, available: tuple[str, ...]) -> str:
    """The one of `available` (preferred first) that the client wants.

    Raises `UsageError` for a format that is none, `NotAcceptable`.
    """
    wanted = request.query_params.get("format")
    if wanted is None:
        types = {_TYPES[name]: name for name in available if name in _TYPES}
        return types[choose(request.headers.get("accept", ""), tuple(types))]
    if wanted not in available:
        raise UsageError(f"There are the formats {', '.join(available)}, not {wanted!r}.")
    return wanted


def printed(content: bytes, format: str, name: str) -> Response:
    """A page or a PDF; `name`: what a file with it is called."""
    if format == HTML:
        return Response(
            content, media_type="text/html", headers={"Content-Security-Policy": _POLICY}
        )
    disposition = f'inline; filename="{name}.pdf"'
    return Response(content, media_type=_TYPES[PDF], headers={"Content-Disposition": disposition})
