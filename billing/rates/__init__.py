"""What usage costs: rate cards, each in force from a moment on."""

from __future__ import annotations

from dsfn.billing.rates.book import RateBook, Segment
from dsfn.billing.rates.card import BILLABLE, EXAMPLE_CPU, EXAMPLE_GPU, RateCard
from dsfn.billing.rates.rate import BASES, Basis, Rate, Tier
from dsfn.billing.rates.reading import configured_card, read_card
from dsfn.billing.rates.store import RateStore, StoredCard
from dsfn.billing.rates.writing import canonical_text, card_document, digest_of

__all__ = [
    "BASES",
    "BILLABLE",
    "EXAMPLE_CPU",
    "EXAMPLE_GPU",
    "Basis",
    "Rate",
    "RateBook",
    "RateCard",
    "RateStore",
    "Segment",
    "StoredCard",
    "Tier",
    "canonical_text",
    "card_document",
    "configured_card",
    "digest_of",
    "read_card",
]
