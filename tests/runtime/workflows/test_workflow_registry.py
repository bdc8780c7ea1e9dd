from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from revisions import event_type, make_revision
from small_dags import make_dag

from dsfn.billing.sqlite import connect
from dsfn.functions.errors import Conflict, NotFound
from dsfn.runtime.clock import SystemClock
from dsfn.runtime.events.subscriptions import Subscriptions
from dsfn.runtime.registry import Registry
from dsfn.runtime.workflows.registry import WorkflowRegistry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.db"


@pytest.fixture
def connection(path: Path) -> Iterator[apsw.Connection]:
    connection = connect(path, "")
    yield connection
    connection.close()


@pytest.fixture
def workflows(connection: apsw.Connection) -> WorkflowRegistry:
    return WorkflowRegistry(connection, SystemClock())


def reopened(path: Path) -> WorkflowRegistry:
    """What the next node on this directory sees."""
    return WorkflowRegistry(connect(path, ""), SystemClock())


def test_a_registered_workflow_is_found_and_survives_a_restart(
    workflows: WorkflowRegistry, path: Path
) -> None:
    revision = workflows.new_revision(make_dag())
    workflows.register(revision)
    for seen in (workflows, reopened(path)):
        assert seen.find("relay") == revision
        assert seen.revision(revision.id) == revision
        assert seen.history("relay") == (revision,)
        assert seen.all() == (revision,)
        assert seen.has("relay") and not seen.has("other")


def test_the_same_workflow_is_the_same_revision_and_another_is_another(
    workflows: WorkflowRegistry,
) -> None:
    first = workflows.new_revision(make_dag())
    workflows.register(first)
    assert workflows.new_revision(make_dag()) == first
    second = workflows.new_revision(make_dag(description="Other words."))
    assert second.id != first.id
    workflows.register(second)
    assert workflows.find("relay") == second
    assert workflows.history("relay") == (second, first)
    workflows.register(first)
    assert workflows.find("relay") == first


def test_what_is_unknown_is_not_found_and_named(workflows: WorkflowRegistry) -> None:
    for ask in (workflows.find, workflows.history, workflows.delete):
        with pytest.raises(NotFound, match="no workflow 'nope'") as caught:
            ask("nope")
        assert caught.value.fields == {"kind": "workflow", "name": "nope"}
    with pytest.raises(NotFound, match="no revision"):
        workflows.revision("nope-0000000000")


def test_a_deleted_workflow_is_gone_but_its_revisions_stay_while_runs_refer_to_them(
    workflows: WorkflowRegistry, path: Path
) -> None:
    old = workflows.new_revision(make_dag())
    new = workflows.new_revision(make_dag(description="New."))
    workflows.register(old)
    workflows.register(new)
    workflows.delete("relay")
    assert workflows.all() == ()
    with pytest.raises(NotFound):
        workflows.find("relay")
    workflows.in_use = lambda: {old.id}
    assert workflows.prune() == 1
    assert workflows.revision(old.id) == old
    assert reopened(path).revision(old.id) == old
    with pytest.raises(NotFound):
        workflows.revision(new.id)
    workflows.in_use = frozenset
    assert workflows.prune() == 1
    with pytest.raises(NotFound):
        workflows.revision(old.id)
    assert workflows.prune() == 0


def test_a_workflow_that_comes_back_after_it_was_deleted_is_not_pruned(
    workflows: WorkflowRegistry,
) -> None:
    revision = workflows.new_revision(make_dag())
    workflows.register(revision)
    workflows.delete("relay")
    workflows.register(revision)
    assert workflows.prune() == 0
    assert workflows.history("relay") == (revision,)


def test_functions_and_workflows_become_live_together_or_not_at_all(
    connection: apsw.Connection, workflows: WorkflowRegistry, path: Path
) -> None:
    registry = Registry(connection, SystemClock())
    revision = workflows.new_revision(make_dag())

    def fails() -> None:
        workflows.write(revision)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        registry.register(make_revision(1), beside=fails)
    assert registry.functions() == () and reopened(path).all() == ()
    registry.register(make_revision(1), beside=lambda: workflows.write(revision))
    workflows.read_back("relay")
    assert registry.function("echo") and workflows.find("relay") == revision


def test_triggers_of_the_source_come_and_go_with_the_revision(workflows: WorkflowRegistry) -> None:
    workflows.register(workflows.new_revision(make_dag(triggers=(event_type("a"),))))
    (declared,) = workflows.subscriptions()
    assert (declared.kind, declared.function, declared.origin) == (
        "workflow",
        "relay",
        "decorator",
    )
    with pytest.raises(Conflict, match="declared in the source of relay"):
        workflows.unsubscribe(declared.id)
    mine = workflows.subscribe("relay", event_type("mine"))
    assert workflows.subscribe("relay", event_type("mine")) == mine
    workflows.register(workflows.new_revision(make_dag(triggers=(event_type("b"),))))
    assert [s.filter.exact["type"] for s in workflows.subscriptions()] == ["mine", "b"]
    workflows.unsubscribe(mine.id)
    workflows.delete("relay")
    assert workflows.subscriptions() == ()


def test_subscriptions_of_functions_and_workflows_are_one_list(
    connection: apsw.Connection, workflows: WorkflowRegistry
) -> None:
    registry = Registry(connection, SystemClock())
    registry.register(make_revision(1))
    workflows.register(workflows.new_revision(make_dag()))
    subscriptions = Subscriptions(registry, workflows)
    first = subscriptions.add("echo", event_type("a"))
    second = subscriptions.add("relay", event_type("a"))
    assert subscriptions.all() == (first, second)
    assert (first.kind, second.kind) == ("function", "workflow")
    for one in (first, second):
        subscriptions.remove(one.id)
        with pytest.raises(NotFound):
            subscriptions.remove(one.id)
    with pytest.raises(NotFound):
        subscriptions.add("nope", event_type("a"))


def test_what_is_pinned_outlives_its_function_until_it_is_released(
    connection: apsw.Connection, path: Path
) -> None:
    registry = Registry(connection, SystemClock())
    old, new = make_revision(1), make_revision(3)
    registry.register(old)
    registry.register(new)
    registry.pinned = lambda: {old.id}
    registry.delete("echo")
    with pytest.raises(NotFound):
        registry.route("echo")
    with pytest.raises(NotFound):
        registry.revision(new.id)
    assert registry.functions() == () and registry.retained() == (old,)
    for seen in (registry, Registry(connect(path, ""), SystemClock())):
        assert seen.revision(old.id) == old
    registry.quarantine(old.id, "it is damaged")
    kept = registry.revision(old.id)
    assert kept.snapshot is not None and kept.snapshot.quarantined
    assert registry.release() == 0
    registry.pinned = frozenset
    assert registry.release() == 1
    assert registry.find(old.id) is None and registry.retained() == ()


def test_a_pinned_revision_that_is_deployed_again_is_retained_no_more(
    connection: apsw.Connection,
) -> None:
    registry = Registry(connection, SystemClock())
    revision = make_revision(1)
    registry.register(revision)
    registry.pinned = lambda: {revision.id}
    registry.delete("echo")
    registry.register(revision)
    assert registry.retained() == ()
    assert registry.route("echo") == revision
