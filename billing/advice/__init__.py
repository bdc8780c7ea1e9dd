"""What other options would have saved, from the ledger's own rows."""

from __future__ import annotations

from dsfn.billing.advice.advice import Advice, Effect
from dsfn.billing.advice.deployed import Deployed, Lowering
from dsfn.billing.advice.report import FunctionCost, Parking, Report, advise

__all__ = [
    "Advice",
    "Deployed",
    "Effect",
    "FunctionCost",
    "Lowering",
    "Parking",
    "Report",
    "advise",
]
