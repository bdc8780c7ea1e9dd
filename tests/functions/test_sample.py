from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from dsfn.functions.errors import DefinitionError
from dsfn.functions.function import function
from dsfn.functions.parts import File, Json, Text
from dsfn.functions.sample import check_sample
from dsfn.functions.signature import signature_of


class Box(BaseModel):
    side: float


def describe(text: Text, box: Box, extra: Json = None, file: File | None = None) -> str:
    return f"{text}{box}{extra}{file}"


SIGNATURE = signature_of(describe)


def test_precision_needs_a_sample() -> None:
    class Model:
        def __call__(self) -> int:
            return 1

    class Sampled(Model):
        def sample(self) -> dict[str, object]:
            return {}

    def plain() -> int:
        return 1

    for target in (Model, plain):
        wanted: Any = function(precision="int8")(target)
        with pytest.raises(DefinitionError, match="needs a class with a sample"):
            wanted.interface()
    accepted: Any = function(precision="fp8")(Sampled)
    assert accepted.interface().result.kind == "json"
    assert accepted.options.precision == "fp8"
    unasked: Any = function(precision=None)(Model)
    assert unasked.options == unasked.options.from_document(unasked.options.to_document())
    assert unasked.options.digest != accepted.options.digest


def test_a_precision_that_is_none_is_refused() -> None:
    with pytest.raises(DefinitionError, match="'int4' must be 'int8' or 'fp8', or left out"):
        function(precision="int4")(describe)  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match="precision must be of type str, not int"):
        function(precision=8)(describe)  # type: ignore[call-overload]


def test_a_sample_becomes_the_arguments_that_a_call_would_get() -> None:
    given = {"text": "hi", "box": {"side": 2}, "extra": [1], "file": None}
    found = check_sample(SIGNATURE, given)
    assert found == {"text": "hi", "box": Box(side=2), "extra": [1], "file": None}
    assert type(found["text"]) is Text
    assert check_sample(SIGNATURE, {"text": Text("hi"), "box": Box(side=2)})["box"] == Box(side=2)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "it gives a NoneType, not a dict of arguments by name"),
        (["hi"], "it gives a list"),
        ({"text": "hi"}, "'box' is missing"),
        ({"text": "hi", "box": {"side": 1}, "colour": 1}, "'colour' is not something"),
        ({"text": b"hi", "box": {"side": 1}}, "'text' is a bytes, not Text"),
        ({"text": "hi", "box": {"side": "wide"}}, "'box.side' does not fit: input should be"),
        ({"text": "hi", "box": {"side": 1}, "file": b""}, "'file' is a bytes, not File"),
    ],
)
def test_a_sample_that_no_call_could_have_is_explained(given: Any, words: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        check_sample(SIGNATURE, given)
    assert caught.value.message.startswith("sample() of 'describe' does not fit its signature: ")
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_a_sample_that_needs_arguments_is_refused_where_it_is_written() -> None:
    with pytest.raises(DefinitionError, match=r"^sample of 'Draws' takes no arguments"):

        @function
        class Draws:
            def sample(self, count: int) -> list[int]:
                return [count]

            def __call__(self) -> int:
                return 1
