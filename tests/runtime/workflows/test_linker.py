from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from event_node import ManualClock
from revisions import make_revision
from small_dags import TEXT, make_dag

from dsfn.billing.sqlite import connect
from dsfn.functions.errors import Conflict, DefinitionError
from dsfn.functions.interface import Interface, Kind, ParameterInterface, ResultInterface
from dsfn.functions.workflow.dag import Constant, Dag, WorkflowInput
from dsfn.runtime.model import Revision
from dsfn.runtime.registry import Registry
from dsfn.runtime.workflows.linker import Linker
from dsfn.runtime.workflows.pins import Pins
from dsfn.runtime.workflows.registry import WorkflowRegistry

ECHO = make_revision(1)


def taking(kind: Kind, number: int = 2) -> Revision:
    """A revision of `echo` that takes something else."""
    interface = Interface("", (ParameterInterface("text", kind, True),), ResultInterface("text"))
    return replace(make_revision(number), interface=interface)


@pytest.fixture
def linker(tmp_path: Path) -> Iterator[Linker]:
    connection = connect(tmp_path / "node.db", "")
    registry = Registry(connection, ManualClock())
    registry.register(ECHO)
    yield Linker(registry, WorkflowRegistry(connection, ManualClock()))
    connection.close()


def deploy(linker: Linker, *dags: Dag) -> None:
    linker.workflows.register(*linker.link(dags, {}))


def refused(linker: Linker, *dags: Dag, fresh: dict[str, Interface] | None = None) -> str:
    with pytest.raises(DefinitionError) as caught:
        linker.link(dags, fresh or {})
    return caught.value.message


def test_a_workflow_of_functions_that_are_deployed_is_linked(linker: Linker) -> None:
    (revision,) = linker.link([make_dag()], {})
    assert revision.workflow == "relay" and revision.dag.functions == ("echo",)
    assert linker.link([make_dag()], {}) == (revision,)


def test_a_function_that_is_unknown_is_named_with_one_that_is_near(linker: Linker) -> None:
    assert "calls 'ecko', which is not deployed (is it echo?)" in refused(
        linker, make_dag(function="ecko")
    )


def test_what_does_not_flow_is_refused(linker: Linker) -> None:
    photo = WorkflowInput("text", "image")
    dag = replace(make_dag(), inputs=(photo,))
    assert "cannot be given Image" in refused(linker, dag)


def test_functions_of_the_same_deployment_go_before_those_that_serve(linker: Linker) -> None:
    audio = taking("audio").interface
    assert "takes Audio" in refused(linker, make_dag(), fresh={"echo": audio})
    (revision,) = linker.link([make_dag(function="new")], {"new": ECHO.interface})
    assert revision.dag.functions == ("new",)


def test_functions_and_workflows_cannot_have_the_same_name(linker: Linker) -> None:
    assert "is the name of a function" in refused(linker, make_dag("echo"))
    fresh = {"relay": ECHO.interface}
    assert "is the name of a function" in refused(linker, make_dag(), fresh=fresh)
    linker.check_names(fresh)
    deploy(linker, make_dag())
    with pytest.raises(DefinitionError, match="is the name of a workflow"):
        linker.check_names(fresh)


def test_a_workflow_that_calls_another_has_its_steps(linker: Linker) -> None:
    deploy(linker, make_dag("inner"))
    outer = make_dag("outer", function="inner")
    (revision,) = linker.link([outer], {})
    assert [step.id for step in revision.dag.steps] == ["inner.echo"]
    deploy(linker, make_dag("inner", description="Changed."))
    assert linker.link([outer], {}) == (revision,)
    (beside, _) = linker.link([make_dag("outer", "mine"), make_dag("mine")], {})
    assert [step.id for step in beside.dag.steps] == ["mine.echo"]


def test_a_workflow_that_calls_itself_is_refused(linker: Linker) -> None:
    assert "calls itself (a -> a)" in refused(linker, make_dag("a", "a"))
    dags = make_dag("a", "b"), make_dag("b", "a")
    assert "calls itself (a -> b -> a)" in refused(linker, *dags)
    deploy(linker, make_dag("b"))
    assert "calls itself" in refused(linker, *dags)


def test_a_schedule_must_make_sense_and_give_what_is_needed(linker: Linker) -> None:
    assert "is no cron expression (bad hour)" in refused(
        linker, make_dag(inputs=(), schedule="0 25 * * *")
    )
    assert "input 'text' has no default" in refused(linker, make_dag(schedule="0 6 * * *"))
    given = replace(TEXT, required=False, default=Constant.of("x"))
    linker.link([replace(make_dag(schedule="0 6 * * *"), inputs=(given,))], {})


def test_a_schema_that_is_none_is_refused(linker: Linker) -> None:
    odd = WorkflowInput("odd", "json", schema={"type": 7})
    assert "is no JSON schema" in refused(linker, make_dag(inputs=(odd,)))


def test_a_deployment_is_told_which_workflows_its_functions_break(linker: Linker) -> None:
    deploy(linker, make_dag(), make_dag("other"))
    assert list(linker.misfits({"echo": ECHO.interface}, [])) == []
    assert list(linker.misfits({"unrelated": ECHO.interface}, [])) == []
    audio = {"echo": taking("audio").interface}
    found = list(linker.misfits(audio, []))
    assert [misfit.workflow for misfit in found] == ["other", "relay"]
    assert "takes Audio" in found[0].reason
    assert [m.workflow for m in linker.misfits(audio, [make_dag("other")])] == ["relay"]


def test_a_run_does_not_start_with_functions_that_no_longer_fit(linker: Linker) -> None:
    deploy(linker, make_dag())
    pins, revision = Pins(linker.registry), linker.workflows.find("relay")
    assert pins.choose(revision) == {"echo": ECHO.id}
    linker.registry.register(taking("audio"))
    with pytest.raises(Conflict, match=r"Workflow relay does not fit .* takes Audio"):
        pins.choose(revision)
    linker.registry.rollback("echo")
    assert pins.choose(revision) == {"echo": ECHO.id}
