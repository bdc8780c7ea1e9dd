"""A bill as one HTML page: for a screen and for a printer, without anything from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from dsfn.billing.exports.charts import TEXT_SIZE, WIDTH
from dsfn.billing.exports.extra import require_extra
from dsfn.billing.exports.paper import Paper

if TYPE_CHECKING:
    from jinja2 import Template


MAX_ROWS = 50_000


def to_html(paper: Paper) -> bytes:
    """The page, UTF-8. The same paper gives the same bytes. Raises `NotAcceptable` without the
    extra `invoices`, `UsageError` for more than `MAX_ROWS` lines."""
    paper.require_at_most(MAX_ROWS, "A page")
    page: str = _template().render(paper=paper, chart_width=WIDTH, text_size=TEXT_SIZE)
    return page.encode()


@cache
def _template() -> Template:
    with require_extra("HTML"):
        from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = files("dsfn.billing.exports").joinpath("templates/bill.html").read_text(encoding="utf-8")
    return environment.from_string(text)
