"""Budgets: how much money a tenant, a key or a function may use, and what happens when it has."""

from __future__ import annotations

from dsfn.runtime.budgets.account import Account
from dsfn.runtime.budgets.budget import Budget
from dsfn.runtime.budgets.budgets import Budgets

__all__ = ["Account", "Budget", "Budgets"]
