"""Workflows and their runs as pictures: text for a terminal, Mermaid, SVG. No I/O here."""

from __future__ import annotations

from dsfn.runtime.workflows.drawing.mermaid import draw_mermaid
from dsfn.runtime.workflows.drawing.progress import Progress
from dsfn.runtime.workflows.drawing.svg import draw_svg
from dsfn.runtime.workflows.drawing.text import Line, draw_text

__all__ = ["Line", "Progress", "draw_mermaid", "draw_svg", "draw_text"]
