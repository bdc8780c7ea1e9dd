"""GET and POST /rates: the rate cards, and one more."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsfn.billing.periods import moment_text
from dsfn.billing.rates import StoredCard, card_document, read_card
from dsfn.functions.errors import InvalidInput, NotFound, UsageError
from dsfn.runtime.gateway.access import identity_of
from dsfn.runtime.gateway.request import read_object
from dsfn.runtime.services import Services

Document = dict[str, Any]


async def list_rates(request: Request) -> Response:
    """GET /rates: the cards in the order in which they were set."""
    services: Services = request.app.state.services
    return JSONResponse({"rates": [_summary(services, each) for each in services.rates.cards]})


async def show_rates(request: Request) -> Response:
    """GET /rates/{n}: a card with all that it says."""
    services: Services = request.app.state.services
    number = request.path_params["n"]
    if not (number.isascii() and number.isdigit()) or len(number) > 9:
        raise NotFound(f"There is no rate card {number}.", kind="rate card", name=number)
    shown = _shown(services, services.rates.get(int(number)))
    tenant = identity_of(request).only_tenant
    return JSONResponse(shown if tenant is None else _as_seen_by(tenant, shown))


async def set_rates(request: Request) -> Response:
    """POST /rates: 201 once the card is kept. Without `effective_from` it holds from now on."""
    services: Services = request.app.state.services
    document = await read_object(request, services.settings.limits)
    if not {"devices", "default"} & set(document):
        raise _invalid("devices must be there, or default: a rate card says what something costs.")
    now_us = services.clock.now_us()
    given = {"effective_from": moment_text(now_us), **document}
    try:
        card = read_card(given)
    except UsageError as error:
        raise _invalid(error.message) from error
    stored = await services.writer.run(partial(services.rates.add, card, now_us))
    location = f"/rates/{stored.card.number}"
    shown = _shown(services, stored)
    return JSONResponse(shown, status_code=201, headers={"Location": location})


def _invalid(sentence: str) -> InvalidInput:
    """The refusal of a card by a sentence that begins with the setting's name."""
    field = sentence.partition(" ")[0]
    return InvalidInput(sentence, field=field, errors=[{"field": field, "message": sentence}])


def _shown(services: Services, stored: StoredCard) -> Document:
    return {**_summary(services, stored), "card": card_document(stored.card)}


def _as_seen_by(tenant: str, shown: Document) -> Document:
    """A card without what it says of other tenants."""
    card = dict(shown["card"])
    for name in ("discounts", "taxes"):
        card[name] = {who: points for who, points in card[name].items() if who == tenant}
    return {**shown, "card": card}


def _summary(services: Services, stored: StoredCard) -> Document:
    until_us = services.rates.until_us(stored.card)
    in_force = services.rates.book.at(services.clock.now_us())
    return {
        "number": stored.card.number,
        "effective_from": moment_text(stored.card.effective_from_us),
        "effective_until": None if until_us is None else moment_text(until_us),
        "in_force": in_force.number == stored.card.number,
        "set_at": moment_text(stored.set_at_us),
        "source": stored.source,
        "currency": stored.card.currency,
        "sha256": stored.sha256,
    }


ROUTES = [
    Route("/rates", list_rates, methods=["GET"]),
    Route("/rates", set_rates, methods=["POST"]),
    Route("/rates/{n}", show_rates, methods=["GET"]),
]
