"""Errors, options and interfaces as the documents in which they cross processes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsfn.functions import errors
from dsfn.functions.durations import parse_seconds
from dsfn.functions.errors import DefinitionError, DsfnError, InvalidInput
from dsfn.functions.interface import (
    FilterInterface,
    Interface,
    ParameterInterface,
    ResultInterface,
)
from dsfn.functions.options import Options, parse_bytes


def tree(kind: type[DsfnError]) -> list[type[DsfnError]]:
    """The errors that cross processes; others may be imported by other tests."""
    children = (c for c in kind.__subclasses__() if c.__module__ == errors.__name__)
    return [kind, *(found for child in children for found in tree(child))]


@pytest.mark.parametrize("kind", tree(DsfnError))
def test_every_error_survives_its_document(kind: type[DsfnError]) -> None:
    document = json.loads(json.dumps(kind("A sentence.", field="a.0", count=3).to_document()))
    again = errors.from_document(document)
    assert type(again) is kind
    assert (again.message, again.fields) == ("A sentence.", {"field": "a.0", "count": 3})


def test_the_tree_drawn_in_the_module_is_the_tree() -> None:
    drawn = errors.__doc__ or ""
    assert all(kind.__name__ in drawn for kind in tree(DsfnError))


def test_an_unknown_error_becomes_the_root() -> None:
    assert type(errors.from_document({"error": "Newer", "message": "m"})) is DsfnError
    assert issubclass(InvalidInput, DsfnError)


@given(
    st.builds(
        Options,
        name=st.from_regex(r"[a-z][a-z0-9]{0,20}", fullmatch=True),
        gpu=st.sampled_from([0.0, 0.25, 1.0, 2.0]),
        memory_bytes=st.none() | st.integers(1, 2**40),
        concurrency=st.integers(1, 1000),
        env=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3).map(
            lambda env: tuple(sorted(env.items()))
        ),
        requirements=st.lists(st.text(max_size=8), max_size=3).map(tuple),
    )
)
def test_options_survive_their_document(options: Options) -> None:
    assert Options.from_document(json.loads(json.dumps(options.to_document()))) == options


@pytest.mark.parametrize(
    ("value", "bytes_"),
    [
        (5, 5),
        ("2GiB", 2 << 30),
        ("1.5 MB", 1_500_000),
        ("10B", 10),
        ("3kB", 3000),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes_are_read_in_their_units(value: int | str, bytes_: int) -> None:
    assert parse_bytes(value) == bytes_


@pytest.mark.parametrize(
    ("value", "seconds"), [(5, 5.0), ("90s", 90.0), ("1.5m", 90.0), ("2h", 7200.0), ("20ms", 0.02)]
)
def test_durations_are_read_in_their_units(value: float | str, seconds: float) -> None:
    assert parse_seconds(value, "timeout") == pytest.approx(seconds)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "-a"},
        {"name": "a" * 64},
        {"name": "a\n"},
        {"gpu": -1.0},
        {"gpu": 1.5},
        {"gpu": float("inf")},
        {"gpu": float("nan")},
        {"memory_bytes": 0},
        {"concurrency": 0},
        {"min_replicas": 9},
        {"park_after_s": 700.0},
        {"timeout_s": 0.0},
        {"max_queue": -1},
        {"precision": "int4"},
    ],
)
def test_options_out_of_range_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DefinitionError, match="In the function's options"):
        Options(**{"name": "a", **changes})  # type: ignore[arg-type]


def test_tags_are_words_and_not_too_many() -> None:
    tagged = Options("a", tags=("speech", "2-fast"))
    assert Options.from_document(json.loads(json.dumps(tagged.to_document()))) == tagged
    for tags in (("Speech",), ("a b",), ("",), ("a" * 64,), ("a", "a"), tuple(map(str, range(33)))):
        with pytest.raises(DefinitionError, match="tag"):
            Options("a", tags=tags)


def test_options_that_say_nothing_new_are_as_before_there_was_any() -> None:
    document = Options("a").to_document()
    assert not {"tags", "placement", "retries", "backoff_policy", "backoff_delay_s"} & set(document)
    assert Options.from_document(document) == Options("a")


def test_how_deliveries_are_retried_survives_its_document() -> None:
    patient = Options("a", retries=0, backoff_policy="linear", backoff_delay_s=0.5)
    assert Options.from_document(json.loads(json.dumps(patient.to_document()))) == patient


def test_an_interface_survives_its_document() -> None:
    interface = Interface(
        "Doc.",
        (
            ParameterInterface("image", "image", True),
            ParameterInterface("top", "json", False, {"type": "integer"}),
        ),
        ResultInterface("text", streaming=True),
        (FilterInterface({"type": "a"}, {}, {"subject": ".png"}),),
    )
    assert Interface.from_document(json.loads(json.dumps(interface.to_document()))) == interface
    assert interface.request_content_types()[0] == "multipart/form-data"
