"""How far a run is: which steps are ready, for which items, and when all is over.

Pure and in memory; what it is told is stored elsewhere, and replayed after a restart. Each
step that settles costs what waits for it, however many items there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import field

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Call, Decide, Each
from dsfn.runtime.workflows.model import Path
from dsfn.runtime.workflows.plan import ROOT, Plan

Instance = tuple[str, Path]
"""A step, and the items that it is to run for."""

_NO_STEPS: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Fan:
    """An `Each` whose items are on their way: the next to begin, and how many are not through."""

    count: int
    parallel: int
    next: int
    left: int


@dataclass(slots=True)
class Progress:
    """Where one run of `plan` is.

    `ready`: the instances that can go on, in the order in which they became so; whoever takes
    one tells later, by `settle`, what came of it. `instances`: how many there are so far.
    `over`: every step has settled.
    """

    plan: Plan
    ready: deque[Instance] = field(default_factory=deque)
    instances: int = 0
    over: bool = False
    _settled: dict[tuple[str, Path], set[str]] = field(default_factory=dict)
    _left: dict[tuple[str, Path], int] = field(default_factory=dict)
    _missing: dict[Instance, int] = field(default_factory=dict)
    _waiting: dict[Instance, list[Instance]] = field(default_factory=dict)
    _fans: dict[Instance, _Fan] = field(default_factory=dict)
    _news: deque[Instance] = field(default_factory=deque)

    def begin(self) -> None:
        """Opens what is in no scope."""
        self.instances = self.plan.root_steps
        if not self.plan.nodes:
            self.over = True
            return
        self._left[ROOT, ()] = self.plan.root_steps
        self._open(self.plan.roots, ())

    def settle(self, instance: Instance, outcome: int | None = None) -> None:
        """A step that was ready is done: `outcome` is the branch that a `Decide` took (0, 1), the
        number of items of an `Each`, None for a call."""
        step, path = instance
        node = self.plan.nodes[step]
        match node.step:
            case Call():
                self._news.append(instance)
            case Decide():
                taken = bool(outcome)
                self._open(node.opens[taken], path)
                self._news.extend((skipped, path) for skipped in node.covers[not taken])
                self._news.append(instance)
            case Each(parallel=parallel):
                assert outcome is not None
                self._fan_out(instance, outcome, parallel)
        while self._news:
            self._spread(self._news.popleft())

    def replay(self, outcomes: Mapping[Instance, int | None]) -> None:
        """Settles what was stored; what is ready afterwards has no outcome yet."""
        pending: list[Instance] = []
        while self.ready:
            instance = self.ready.popleft()
            if instance in outcomes:
                self.settle(instance, outcomes[instance])
            else:
                pending.append(instance)
        self.ready.extend(pending)

    def more_instances(self, each: str, count: int) -> int:
        """How many instances there would be if `each` fanned out over `count` items."""
        return self.instances + count * self.plan.nodes[each].item_steps

    def _fan_out(self, instance: Instance, count: int, parallel: int) -> None:
        each, _ = instance
        node = self.plan.nodes[each]
        self.instances = self.more_instances(each, count)
        if count == 0 or node.item_steps == 0:
            self._news.append(instance)
            return
        fan = self._fans[instance] = _Fan(count, parallel, next=0, left=count)
        while fan.next < min(count, parallel):
            self._open_item(instance, fan)

    def _open_item(self, instance: Instance, fan: _Fan) -> None:
        each, path = instance
        node, inside = self.plan.nodes[each], (*path, fan.next)
        fan.next += 1
        self._left[each, inside] = node.item_steps
        self._open(node.opens[None], inside)

    def _open(self, steps: tuple[str, ...], path: Path) -> None:
        """Steps of a scope begin to wait for what they need."""
        for step in steps:
            instance = (step, path)
            missing = 0
            for need, depth in self.plan.nodes[step].needs:
                needed = (need, path[:depth])
                if not self._has_settled(needed):
                    missing += 1
                    self._waiting.setdefault(needed, []).append(instance)
            if missing:
                self._missing[instance] = missing
            else:
                self.ready.append(instance)

    def _has_settled(self, instance: Instance) -> bool:
        step, path = instance
        return step in self._settled.get((self.plan.nodes[step].each, path), _NO_STEPS)

    def _spread(self, instance: Instance) -> None:
        """Lets those know who wait for a step that settled."""
        step, path = instance
        scope = (self.plan.nodes[step].each, path)
        self._settled.setdefault(scope, set()).add(step)
        for waiting in self._waiting.pop(instance, ()):
            self._missing[waiting] -= 1
            if not self._missing[waiting]:
                del self._missing[waiting]
                self.ready.append(waiting)
        self._left[scope] -= 1
        if self._left[scope]:
            return
        if scope[0] == ROOT:
            self.over = True
        else:
            self._item_through(*scope)

    def _item_through(self, each: str, inside: Path) -> None:
        """All steps of an item have settled: what is outside sees only the whole `Each`."""
        del self._settled[each, inside], self._left[each, inside]
        instance = (each, inside[:-1])
        fan = self._fans[instance]
        fan.left -= 1
        if fan.next < fan.count:
            self._open_item(instance, fan)
        elif not fan.left:
            del self._fans[instance]
            self._news.append(instance)


def restored(plan: Plan, outcomes: Mapping[Instance, int | None]) -> Progress:
    """The progress of a run of which these outcomes are stored."""
    progress = Progress(plan)
    progress.begin()
    progress.replay(outcomes)
    return progress
