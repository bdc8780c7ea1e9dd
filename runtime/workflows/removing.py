"""A function is taken away, unless a deployed workflow calls it."""

from __future__ import annotations

from dsfn.functions.errors import Conflict
from dsfn.functions.listing import listed
from dsfn.runtime.registry import Registry
from dsfn.runtime.workflows.planner import is_auto
from dsfn.runtime.workflows.registry import WorkflowRegistry


def remove_function(name: str, registry: Registry, workflows: WorkflowRegistry) -> None:
    """Forgets a function, and with it the plans that nobody gave a name and that call it: they are
    made anew of what is there. Runs under way keep its revisions.

    Raises `NotFound`, `StorageFull`, and `Conflict` while another workflow calls it: its next run,
    at night or of an event perhaps, would fail.
    """
    registry.function(name)
    calling = [revision for revision in workflows.all() if name in revision.dag.functions]
    if named := [revision.workflow for revision in calling if not is_auto(revision)]:
        raise _is_called(name, named)
    registry.delete(name)
    for plan in calling:
        workflows.delete(plan.workflow)


def _is_called(function: str, workflows: list[str]) -> Conflict:
    one = len(workflows) == 1
    who = f"Workflow{'' if one else 's'} {listed(workflows)} call{'s' if one else ''}"
    them = "it" if one else "them"
    return Conflict(
        f"{who} {function}: delete {them} first, or deploy {them} without {function}.",
        function=function,
        workflows=workflows,
    )
