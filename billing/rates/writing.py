"""Rate cards as documents, which `read_card` reads back, and their canonical text."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from dsfn.billing.periods import moment_text
from dsfn.billing.rates.card import RateCard
from dsfn.billing.rates.rate import Rate


def card_document(card: RateCard) -> dict[str, Any]:
    """Everything that a card says, as a JSON-able document; nothing is left to defaults."""
    return {
        "currency": card.currency,
        "exponent": card.exponent,
        "effective_from": moment_text(card.effective_from_us),
        "billed": sorted(card.billed),
        "devices": {name: _rate(card.devices[name]) for name in sorted(card.devices)},
        "default": _rate(card.default),
        "discounts": dict(sorted(card.discounts.items())),
        "tax": card.tax,
        "taxes": dict(sorted(card.taxes.items())),
        "tax_name": card.tax_name,
        "minimum_minor": card.minimum_minor,
    }


def canonical_text(card: RateCard) -> str:
    """A card's document as JSON with sorted keys and without white space: the same card is the
    same text."""
    return json.dumps(
        card_document(card), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


def digest_of(text: str) -> str:
    """The SHA-256 of a canonical text, in hex."""
    return sha256(text.encode()).hexdigest()


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        "pico_per_second": rate.pico_per_second,
        "basis": rate.basis,
        "pico_per_request": rate.pico_per_request,
        "increment_us": rate.increment_us,
        "free_us": rate.free_us,
        "free_requests": rate.free_requests,
        "tiers": [
            {"from_us": tier.from_us, "pico_per_second": tier.pico_per_second}
            for tier in rate.tiers
        ],
        "tiering": rate.tiering,
    }
