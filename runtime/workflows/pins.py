"""Which revision of each function a run keeps to, chosen when it starts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import field

from dsfn.functions.errors import Conflict, DefinitionError, NotFound
from dsfn.functions.interface import Interface
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.checking import check
from dsfn.runtime.registry import Registry
from dsfn.runtime.workflows.model import WorkflowRevision

_REMEMBERED = 4096


@dataclass(eq=False)
class Pins:
    """Chooses revisions. What a function takes and gives may have changed since the workflow was
    deployed: each new choice is checked once."""

    registry: Registry
    _fitting: OrderedDict[tuple[str, ...], None] = field(default_factory=OrderedDict)

    def choose(self, revision: WorkflowRevision) -> Mapping[str, str]:
        """The revision of every function of a workflow, each as a call would find it now.

        Raises `Conflict` when one is not deployed any more or does not fit any more.
        """
        chosen: dict[str, str] = {}
        interfaces: dict[str, Interface] = {}
        for name in revision.dag.functions:
            try:
                found = self.registry.route(name)
            except NotFound as error:
                raise Conflict(
                    f"Workflow {revision.workflow} calls {name}, which is not deployed any more.",
                    workflow=revision.workflow,
                    function=name,
                ) from error
            chosen[name], interfaces[name] = found.id, found.interface
        self._require_fit(revision, tuple(chosen.values()), interfaces)
        return chosen

    def _require_fit(
        self, revision: WorkflowRevision, ids: tuple[str, ...], interfaces: Mapping[str, Interface]
    ) -> None:
        key = (revision.id, *ids)
        if key in self._fitting:
            self._fitting.move_to_end(key)
            return
        try:
            check(revision.dag, interfaces)
        except DefinitionError as error:
            raise Conflict(
                f"Workflow {revision.workflow} does not fit the functions that are deployed now:"
                f" {error.message}",
                workflow=revision.workflow,
            ) from error
        self._fitting[key] = None
        if len(self._fitting) > _REMEMBERED:
            self._fitting.popitem(last=False)
