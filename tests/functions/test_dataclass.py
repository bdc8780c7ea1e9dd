"""`dsfn.functions.values.dataclass` makes what the standard library's makes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from pathlib import Path
from typing import Any

import pytest

from dsfn.functions.values import compile_all, dataclass

KINDS = [
    {"frozen": True, "slots": True},
    {"frozen": True},
    {"slots": True},
    {"eq": False},
    {"eq": False, "slots": True, "weakref_slot": True},
]


def specimen() -> type:
    """A class with a little of everything, to decorate."""

    class Specimen:
        """A specimen."""

        name: str
        count: int = 1
        parts: list[int] = field(default_factory=list)
        secret: str = field(default="", repr=False, compare=False)
        total: int = field(init=False, default=0)
        made: list[int] = field(init=False, default_factory=list)

        def __post_init__(self) -> None:
            object.__setattr__(self, "total", self.count + len(self.parts))

    return Specimen


def both(kind: dict[str, bool]) -> tuple[Any, Any]:
    """The class by either decorator."""
    theirs: Callable[..., Any] = dataclasses.dataclass
    return dataclass(**kind)(specimen()), theirs(**kind)(specimen())


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_as_the_standard_librarys(kind: dict[str, bool]) -> None:
    ours, theirs = both(kind)
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    for given in (("a",), ("a", 2, [3]), ("a", 2, [3], "hidden")):
        mine, its = ours(*given), theirs(*given)
        assert repr(mine) == repr(its)
        assert dataclasses.asdict(mine) == dataclasses.asdict(its)
        more = dataclasses.replace(mine, count=9)
        assert (more.count, more.total) == (9, 9 + len(more.parts))
    assert ours("a").parts is not ours("a").parts
    with pytest.raises(TypeError):
        ours()
    assert ours.__match_args__ == theirs.__match_args__
    assert hasattr(ours("a"), "__dict__") == hasattr(theirs("a"), "__dict__")


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_equal_where_the_standard_librarys_are(kind: dict[str, bool]) -> None:
    for cls in both(kind):
        by_value = kind.get("eq", True)
        assert (cls("a") == cls("a", 1, [], "hidden")) == by_value
        assert cls("a") != cls("b")
        assert cls("a") != "a"
        if by_value and not kind.get("frozen"):
            assert cls.__hash__ is None


def test_what_is_frozen_is_hashed_by_its_values_and_refuses_others() -> None:
    @dataclass(frozen=True, slots=True)
    class Pair:
        left: int
        right: str

    assert {Pair(1, "a"): "found"}[Pair(1, "a")] == "found"
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'left'"):
        Pair(1, "a").left = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'left'"):
        del Pair(1, "a").left


@dataclass(frozen=True, slots=True)
class Base:
    """Of another one's kind."""

    name: str


@dataclass(frozen=True, slots=True)
class More(Base):
    """Adds to it."""

    count: int = 0

    def __repr__(self) -> str:
        return "more"


def test_one_class_extends_another() -> None:
    base, more = Base("a"), More("a", 2)
    assert (base, more) == (Base(name="a"), More(name="a", count=2))
    assert (repr(base), repr(more)) == ("Base(name='a')", "more")
    assert base != More("a")


def test_copies_and_pickles_are_equal() -> None:
    more = More("a", 2)
    for copied in (copy.copy(more), copy.deepcopy(more), pickle.loads(pickle.dumps(more))):
        assert copied == more
        assert type(copied) is More


def test_a_recursive_value_can_be_printed() -> None:
    @dataclass(slots=True)
    class Node:
        others: list[object]

    node = Node([])
    node.others.append(node)
    assert repr(node).endswith("Node(others=[...])")


def test_who_forks_leaves_nothing_to_compile_to_the_forks() -> None:
    @dataclass(frozen=True, slots=True)
    class Pair:
        left: int
        right: str = "b"

    @dataclass()
    class Own:
        left: int

        def __init__(self) -> None:
            self.left = 3

    compile_all()
    assert inspect.isfunction(vars(Pair)["__init__"])
    assert (Pair(1), Own().left) == (Pair(1, "b"), 3)


def test_no_room_pays_the_standard_librarys_price() -> None:
    root = Path(__file__).parents[2]
    rooms = ("billing", "functions", "knative", "runtime", "snapshots")
    taken = re.compile(r"^from dataclasses import .*\bdataclass\b|^@dataclasses\.dataclass", re.M)
    files = (path for room in rooms for path in (root / room).rglob("*.py"))
    assert [path.name for path in files if taken.search(path.read_text(encoding="utf-8"))] == []
