"""Workflows against what is deployed: what they call exists, and what flows fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dsfn.functions.errors import DefinitionError
from dsfn.functions.interface import Interface
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.checking import check
from dsfn.functions.workflow.dag import Dag
from dsfn.functions.workflow.resolving import resolve
from dsfn.runtime.registry import Registry
from dsfn.runtime.workflows.cron import check_schedule
from dsfn.runtime.workflows.model import WorkflowRevision
from dsfn.runtime.workflows.registry import WorkflowRegistry
from dsfn.runtime.workflows.schemas import check_schema


@dataclass(frozen=True, slots=True)
class Misfit:
    """A deployed workflow that the functions of a deployment no longer fit, and why."""

    workflow: str
    reason: str


@dataclass(frozen=True, slots=True)
class Linker:
    """Turns workflows as they were written into revisions that can be registered.

    `fresh` are the interfaces of functions, by name, that are about to be deployed: they go
    before those that serve.
    """

    registry: Registry
    workflows: WorkflowRegistry

    def link(
        self, dags: Sequence[Dag], fresh: Mapping[str, Interface]
    ) -> tuple[WorkflowRevision, ...]:
        """The revisions of workflows, which may use each other. Raises `DefinitionError`."""
        workflows = {revision.workflow: revision.dag for revision in self.workflows.all()}
        workflows.update((dag.name, dag) for dag in dags)
        interfaces = self._interfaces(fresh)
        return tuple(self._link(dag, workflows, interfaces) for dag in dags)

    def check_names(self, fresh: Mapping[str, Interface]) -> None:
        """Raises `DefinitionError` where a function has the name of a deployed workflow."""
        for name in fresh:
            if self.workflows.has(name):
                raise DefinitionError(
                    f"{name!r} is the name of a workflow that is deployed; give the function"
                    " another name, or delete the workflow.",
                    function=name,
                )

    def misfits(self, fresh: Mapping[str, Interface], own: Sequence[Dag]) -> Iterator[Misfit]:
        """The deployed workflows that would not run with these functions, but for `own`, those
        that are deployed with them."""
        anew = {dag.name for dag in own}
        interfaces = self._interfaces(fresh)
        for revision in self.workflows.all():
            dag = revision.dag
            if dag.name in anew or not fresh.keys() & set(dag.functions):
                continue
            try:
                check(dag, interfaces)
            except DefinitionError as error:
                yield Misfit(dag.name, error.message)

    def _link(
        self, dag: Dag, workflows: Mapping[str, Dag], interfaces: Mapping[str, Interface]
    ) -> WorkflowRevision:
        if dag.name in interfaces:
            raise DefinitionError(
                f"{dag.name!r} is the name of a function; a workflow needs one of its own.",
                function=dag.name,
            )
        whole = resolve(dag, interfaces, workflows)
        check(whole, interfaces)
        for one in whole.inputs:
            if one.schema is not None:
                check_schema(one.schema, f"input {one.name!r} of {whole.name!r}")
        _check_timing(whole)
        return self.workflows.new_revision(whole)

    def _interfaces(self, fresh: Mapping[str, Interface]) -> Mapping[str, Interface]:
        """Those of every function that will be deployed then."""
        serving = {r.name: r.current.interface for r in self.registry.functions()}
        return {**serving, **fresh}


def _check_timing(dag: Dag) -> None:
    """A schedule makes sense, and a run on schedule lacks nothing."""
    schedule = dag.options.schedule
    if schedule is None:
        return
    check_schedule(schedule)
    needed = [one.name for one in dag.inputs if one.required]
    if needed:
        raise DefinitionError(
            f"{dag.name!r} has a schedule, and its input {needed[0]!r} has no default: nobody"
            " gives a run on schedule anything.",
            function=dag.name,
        )
