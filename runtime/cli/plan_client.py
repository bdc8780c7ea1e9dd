"""Asking a node for a plan: the command line does, and `dsfn.plan` from Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dsfn.runtime.cli.place import chosen_target, target_at
from dsfn.runtime.cli.transport import Transport

if TYPE_CHECKING:
    from dsfn.functions.workflow.planning.model import Plan


class PlanClient(Transport):
    """One node, as far as plans go."""

    def plan(
        self, inputs: Sequence[str], output: str, want: str, optimise: str, save: str | None
    ) -> dict[str, Any]:
        """The document of a plan, `saved` in it as what it was saved."""
        body = {
            "inputs": list(inputs),
            "output": output,
            "want": want,
            "optimise": optimise,
            "save": save,
        }
        document: dict[str, Any] = self._json("POST", "/plans", body=body)
        return document


def plan_on_node(
    inputs: Sequence[str],
    output: str,
    want: str,
    optimise: str,
    save: str | None,
    url: str | None,
) -> Plan:
    """A plan of what is deployed on the node at `url`, or on the one that the command line
    finds."""
    from dsfn.functions.workflow.planning.model import Plan

    target = target_at(url) if url else chosen_target()
    with PlanClient(target.url, target.key) as client:
        return Plan.from_document(client.plan(inputs, output, want, optimise, save))
