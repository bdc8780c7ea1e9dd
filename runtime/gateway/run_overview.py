"""A run at a glance: of each of its steps how many items are where, since when and for how much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from dsfn.functions.workflow.dag import Dag, Each, Step
from dsfn.runtime.workflows.drawing import Progress
from dsfn.runtime.workflows.model import Path, RunState, StepRecord, StepState

_THROUGH = (StepState.SUCCEEDED, StepState.SKIPPED)


def overview(
    dag: Dag, steps: Iterable[StepRecord], run: RunState, now_us: int
) -> Mapping[str, Progress]:
    """How far each step of a run is, by its id, from all that is known of its items.

    Items that a fan-out has and of which nothing is known wait, or are cancelled with the run.
    An item of the fan-out itself is through when all that is in it is. It costs nothing: its
    steps do.
    """
    return _Overview(dag, steps, run, now_us).build()


class _Overview:
    def __init__(self, dag: Dag, steps: Iterable[StepRecord], run: RunState, now_us: int) -> None:
        self._dag = dag
        self._now_us = now_us
        self._rest = StepState.WAITING if run is RunState.RUNNING else StepState.CANCELLED
        self._records: dict[str, list[StepRecord]] = {step.id: [] for step in dag.steps}
        for record in steps:
            self._records[record.step].append(record)
        by_id = dag.by_id
        self._around = {step.id: _fan_out(step, by_id) for step in dag.steps}
        self._members = Counter(each for each in self._around.values() if each is not None)
        # Of each item of a fan-out how many of the steps in it are through.
        self._through: dict[str, Counter[Path]] = {
            step.id: Counter() for step in dag.steps if isinstance(step, Each)
        }

    def build(self) -> Mapping[str, Progress]:
        """Goes backwards: what is in a fan-out comes after it."""
        found: dict[str, Progress] = {}
        for step in reversed(self._dag.steps):
            records = self._records[step.id]
            if isinstance(step, Each):
                inner = [found[id_] for id_, each in self._around.items() if each == step.id]
                found[step.id] = self._fan_out(step, records, inner)
            else:
                self._count(step.id, [r.path for r in records if r.state in _THROUGH])
                found[step.id] = self._progress(step, records)
        return {step.id: found[step.id] for step in self._dag.steps}

    def _count(self, id_: str, paths: Iterable[Path]) -> None:
        """A step is through for these items."""
        around = self._around[id_]
        if around is not None:
            self._through[around].update(paths)

    def _progress(self, step: Step, records: Sequence[StepRecord]) -> Progress:
        states = Counter(record.state for record in records)
        around = self._around[step.id]
        if around is not None:
            states[self._rest] += max(0, self._items(around) - len(records))
        return Progress(
            states=_ordered(states),
            wall_us=self._wall_us(records),
            held_us=sum(record.held_us for record in records),
            cost_nano=sum(record.cost_nano for record in records),
            retried=sum(record.attempts > 1 for record in records),
            cached=sum(record.cached for record in records),
        )

    def _fan_out(
        self, step: Each, records: Sequence[StepRecord], inner: Sequence[Progress]
    ) -> Progress:
        items, members = self._items(step.id), self._members[step.id]
        done = Counter(p[:-1] for p, count in self._through[step.id].items() if count == members)
        if not members:
            done = Counter({record.path: record.outcome or 0 for record in records})
        self._count(
            step.id,
            [r.path for r in records if r.state is StepState.SKIPPED or r.outcome == done[r.path]],
        )
        if not items:
            return Progress(_ordered(Counter(record.state for record in records)))
        states = Counter({StepState.SUCCEEDED: done.total()})
        states[_worst(inner)] += items - done.total()
        walls_us = [each.wall_us for each in inner if each.wall_us is not None]
        return Progress(_ordered(states), max(walls_us, default=None))

    def _items(self, each: str) -> int:
        """How many items a fan-out has, all the times that it was reached."""
        return sum(record.outcome or 0 for record in self._records[each])

    def _wall_us(self, records: Sequence[StepRecord]) -> int | None:
        """From the first start to the last end, or until now."""
        begun = [r.started_at_us for r in records if r.started_at_us is not None]
        ended = [r.finished_at_us for r in records if r.finished_at_us is not None]
        if any(record.state is StepState.RUNNING for record in records):
            ended.append(self._now_us)
        return max(0, max(ended) - min(begun)) if begun and ended else None


def _fan_out(step: Step, by_id: Mapping[str, Step]) -> str | None:
    """The innermost fan-out around a step."""
    while step.within is not None:
        if step.within.taken is None:
            return step.within.step
        step = by_id[step.within.step]
    return None


def _worst(inner: Iterable[Progress]) -> StepState:
    """What keeps a fan-out from being through."""
    states = {state for each in inner for state in each.states}
    for state in (StepState.FAILED, StepState.CANCELLED):
        if state in states:
            return state
    return StepState.RUNNING


def _ordered(states: Counter[StepState]) -> Mapping[str, int]:
    return {state: states[state] for state in StepState if states[state]}
