"""What usage costs: rate cards, each in force from a moment on."""

from __future__ import annotations

from dsfn.billing.rates.book import RateBook
from dsfn.billing.rates.card import BILLABLE, EXAMPLE_CPU, EXAMPLE_GPU, RateCard
from dsfn.billing.rates.rate import BASES, Basis, Rate, Tier

__all__ = [
    "BASES",
    "BILLABLE",
    "EXAMPLE_CPU",
    "EXAMPLE_GPU",
    "Basis",
    "Rate",
    "RateBook",
    "RateCard",
    "Tier",
]
