"""Subscriptions of functions and of workflows, as one list: their names are apart."""

from __future__ import annotations

from dsfn.functions.interface import FilterInterface
from dsfn.functions.values import dataclass
from dsfn.runtime.registry import Registry, Subscription
from dsfn.runtime.workflows.registry import WorkflowRegistry


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """What calls the functions and starts the workflows of a node."""

    registry: Registry
    workflows: WorkflowRegistry

    def all(self) -> tuple[Subscription, ...]:
        """Every subscription, by name and age, those of functions first."""
        return (*self.registry.subscriptions(), *self.workflows.subscriptions())

    def add(self, name: str, filter_: FilterInterface) -> Subscription:
        """Has events that match go to a function or workflow; the same again is the same.

        Raises `NotFound`.
        """
        if self.workflows.has(name):
            return self.workflows.subscribe(name, filter_)
        return self.registry.subscribe(name, filter_)

    def remove(self, subscription: str) -> None:
        """Takes a subscription back. Raises `NotFound`, and `Conflict` for one that the source
        declares."""
        if any(each.id == subscription for each in self.workflows.subscriptions()):
            self.workflows.unsubscribe(subscription)
        else:
            self.registry.unsubscribe(subscription)
