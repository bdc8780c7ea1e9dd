"""`@function` and `@on`, used well and used wrongly."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from dsfn import Event, Image, Json, Text, function, on
from dsfn.functions.errors import DefinitionError
from dsfn.functions.event import Filter
from dsfn.functions.function import Function
from dsfn.functions.interface import Interface
from dsfn.functions.option_values import kebab


@function
def shout(text: Text, times: int = 1) -> Text:
    """Louder."""
    return Text(text.upper() * times)


@function(name="counter", memory="2GiB", timeout="5m", env={"B": "2", "A": "1"})
class Counter:
    """Counts."""

    def setup(self) -> None:
        self.setups = getattr(self, "setups", 0) + 1
        self.calls = 0

    def __call__(self, step: int) -> list[int]:
        self.calls += step
        return [self.setups, self.calls]


@function
async def later(x: int) -> int:
    return x + 1


@function
def tokens(n: int) -> Iterator[int]:
    yield from range(n)


@function
async def ticks(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


def test_a_bare_decorator_keeps_name_and_doc_and_calls_the_plain_function() -> None:
    assert shout.options.name == "shout"
    assert (shout.__name__, shout.__doc__) == ("shout", "Louder.")
    assert shout.__wrapped__ is shout.target
    assert not shout.is_class
    assert shout(Text("ab"), times=2) == "ABAB"


def test_a_class_is_made_and_set_up_once_at_the_first_call() -> None:
    assert Counter.is_class
    assert Counter(2) == [1, 2]
    assert Counter(3) == [1, 5]


def test_async_functions_and_generators_give_what_they_gave_before() -> None:
    async def gathered() -> list[int]:
        return [i async for i in ticks(3)]

    assert asyncio.run(later(1)) == 2
    assert list(tokens(3)) == [0, 1, 2]
    assert asyncio.run(gathered()) == [0, 1, 2]


def test_options_take_sizes_durations_and_mappings() -> None:
    options = Counter.options
    assert options.memory_bytes == 2 << 30
    assert options.timeout_s == 300.0
    assert options.env == (("A", "1"), ("B", "2"))
    assert options.name == "counter"


@pytest.mark.parametrize(
    ("python", "deployed"),
    [
        ("ImageTagger", "image-tagger"),
        ("embed_text", "embed-text"),
        ("HTTPServer2", "http-server2"),
        ("_private", "private"),
        ("A", "a"),
    ],
)
def test_a_name_comes_from_the_target_in_kebab_case(python: str, deployed: str) -> None:
    assert kebab(python) == deployed


def test_triggers_go_above_and_below_and_keep_their_order() -> None:
    @on(type="first", prefix={"subject": "a/"})
    @on(type="second")
    @function
    @on(type="third", suffix={"source": "/z"})
    @on(custom="fourth")
    def handler(event: Event) -> None: ...

    assert handler.triggers == (
        Filter({"type": "first"}, {"subject": "a/"}),
        Filter({"type": "second"}),
        Filter({"type": "third"}, {}, {"source": "/z"}),
        Filter({"custom": "fourth"}),
    )


def test_a_subclass_does_not_inherit_triggers() -> None:
    @on(type="a")
    class Base:
        def __call__(self, event: Event) -> None: ...

    class Child(Base):
        pass

    assert function(Child).triggers == ()


def test_an_interface_survives_its_document() -> None:
    interface = shout.interface()
    assert interface.description == "Louder."
    assert [p.name for p in interface.parameters] == ["text", "times"]
    assert Interface.from_document(interface.to_document()) == interface


def test_a_function_is_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(shout)) is shout


class NoCall:
    pass


class NeedsPath:
    def __init__(self, path: str) -> None: ...

    def __call__(self, x: int) -> int: ...


class AsyncSetup:
    async def setup(self) -> None: ...

    def __call__(self, x: int) -> int: ...


class SetupWithArguments:
    def setup(self, device: str) -> None: ...

    def __call__(self, x: int) -> int: ...


def collects(*values: int) -> int: ...
def collects_named(**values: int) -> int: ...
def positional(x: int, /) -> int: ...
def unannotated(x: int, y) -> int: ...  # type: ignore[no-untyped-def]
def no_result(x: int): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (NoCall, "Class 'NoCall' has no __call__"),
        (NeedsPath, "Class 'NeedsPath' needs 'path' to be made"),
        (AsyncSetup, "setup of 'AsyncSetup' must be a plain method"),
        (SetupWithArguments, "setup of 'SetupWithArguments' takes no arguments"),
        (collects, "Parameter 'values' of 'collects' collects any arguments"),
        (collects_named, "Parameter 'values' of 'collects_named' collects any arguments"),
        (positional, "Parameter 'x' of 'positional' is positional-only"),
        (unannotated, "Parameter 'y' of 'unannotated' has no annotation"),
        (no_result, "The result of 'no_result' has no annotation"),
        (3, "on a function or a class, not on a int"),
        (shout, "'shout' is decorated with @function twice"),
    ],
)
def test_wrong_targets_are_refused_with_a_sentence(target: Any, sentence: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        function(target)
    assert sentence in caught.value.message


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"concurrency": "4"}, "concurrency must be of type int, not str"),
        ({"concurrency": True}, "concurrency must be of type int, not bool"),
        ({"gpu": "1"}, "gpu must be of type int or float"),
        ({"memory": "2 gigs"}, "memory '2 gigs' is not a size"),
        ({"timeout": "soon"}, "timeout 'soon' is not a duration"),
        ({"timeout": True}, "timeout must be a duration, not bool"),
        ({"retries": 101}, "retries must be a whole number from 0 to 100"),
        ({"retries": 1.5}, "retries must be of type int, not float"),
        ({"backoff_policy": "cubic"}, "backoff_policy must be 'linear' or 'exponential'"),
        ({"backoff_delay": "2h"}, "backoff_delay must be from 0 to 3600 seconds"),
        ({"name": "No Good"}, "name 'No Good' must be lower-case"),
        ({"name": "newline\n"}, "must be lower-case"),
        (
            {"remove_after": "30s"},
            "remove_after is 30 s, and must not be before park_after, which is 60 s",
        ),
        ({"env": {"A": 1}}, "env must hold texts only"),
        ({"env": {"DSFN_DISK_BYTES": "1"}}, "env must not set DSFN_DISK_BYTES: names with DSFN_"),
        ({"env": {"": "1"}}, "env cannot set '': no process can have such a variable"),
        ({"env": {"A=B": "1"}}, "env cannot set 'A=B'"),
        ({"env": {"A": "1\0"}}, "env cannot set 'A'"),
        ({"requirements": "httpx"}, "requirements must be a list"),
        ({"colour": "red"}, "@function has no option 'colour'"),
    ],
)
def test_wrong_options_are_refused_with_a_sentence(options: dict[str, Any], sentence: str) -> None:
    def target(x: int) -> int: ...

    with pytest.raises(DefinitionError) as caught:
        function(**options)(target)
    assert sentence in caught.value.message


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        ({}, "@on needs a condition"),
        ({"Type": "a"}, "'Type' is not the name of an event's attribute"),
        ({"type": ""}, "type must be a text that is not empty"),
        ({"prefix": {"source": 3}}, "source must be a text"),
    ],
)
def test_wrong_triggers_are_refused_with_a_sentence(
    conditions: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        on(**conditions)
    assert sentence in caught.value.message


def test_a_static_result_type_is_kept_for_type_checkers() -> None:
    def plain(image: Image) -> Json: ...

    assert isinstance(function(plain), Function)
