"""Signatures read from annotations, and annotations that are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import PIL.Image
import pytest
import torch
from pydantic import BaseModel, Field

from dsfn import Event, Image, Json, Tensor, Text
from dsfn.functions.errors import DefinitionError
from dsfn.functions.signature import Signature, signature_of


class Order(BaseModel):
    sku: str
    price: float = 0.0


@dataclass
class Size:
    width: int


def everything(
    image: Image,
    mask: Image | None,
    order: Order,
    sizes: list[Size],
    anything: Json,
    top: Annotated[int, Field(ge=1)] = 3,
    tensor: Tensor | None = None,
) -> dict[str, float]: ...


def kinds(signature: Signature) -> list[str]:
    return [p.kind for p in signature.parameters]


def test_every_kind_is_read_from_its_annotation() -> None:
    signature = signature_of(everything)
    assert kinds(signature) == ["image", "image", "json", "json", "json", "json", "tensor"]
    assert [p.required for p in signature.parameters] == [True] * 5 + [False] * 2
    assert [p.name for p in signature.parameters if p.optional] == ["mask", "tensor"]
    assert signature.result.kind == "json"
    assert not signature.result.streaming


def test_an_interface_has_json_schemas_for_json_kinds_only() -> None:
    interface = signature_of(everything).interface("doc")
    schemas = {p.name: p.schema for p in interface.parameters}
    assert schemas["image"] is None
    assert schemas["top"] == {"minimum": 1, "type": "integer"}
    assert schemas["order"] is not None and schemas["order"]["required"] == ["sku"]
    assert interface.result.schema == {"additionalProperties": {"type": "number"}, "type": "object"}


def test_the_content_types_follow_from_the_parameters() -> None:
    def one(image: Image) -> None: ...
    def two(image: Image, top: int) -> None: ...
    def plain(top: int) -> None: ...

    common = ("application/json", "application/cloudevents+json")
    assert signature_of(one).outline.request_content_types() == ("image/*", *common)
    assert signature_of(two).outline.request_content_types() == ("multipart/form-data", *common)
    assert signature_of(plain).outline.request_content_types() == common


def test_streams_are_read_from_iterators_of_every_kind() -> None:
    def words() -> Iterator[Text]:
        yield Text("a")

    async def orders() -> AsyncIterator[Order]:
        yield Order(sku="a")

    assert signature_of(words).result.kind == "text"
    assert signature_of(words).result.streaming
    assert signature_of(orders).result.annotation is Order
    assert signature_of(orders).result.streaming


def test_a_class_is_read_by_its_call_method() -> None:
    class Tagger:
        def __call__(self, image: Image) -> Event | None: ...

    signature = signature_of(Tagger)
    assert signature.function == "Tagger"
    assert kinds(signature) == ["image"]
    assert (signature.result.kind, signature.result.optional) == ("event", True)


def test_a_missing_name_in_an_annotation_is_named() -> None:
    def broken(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(DefinitionError, match=r"annotations of 'broken'.*Nowhere"):
        signature_of(broken)


def numpy_in(x: np.ndarray[Any, Any]) -> None: ...
def torch_in(x: list[torch.Tensor]) -> None: ...
def pil_in(x: PIL.Image.Image) -> None: ...
def numpy_out() -> dict[str, np.float32]: ...
def bytes_in(x: bytes) -> None: ...
def images_in(x: list[Image]) -> None: ...
def choice_in(x: Image | Text) -> None: ...
def two_events(a: Event, b: Event) -> None: ...
def generator() -> str:  # type: ignore[misc]
    yield "a"


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (numpy_in, "Parameter 'x' of 'numpy_in' has the type numpy.ndarray"),
        (numpy_in, "use Tensor"),
        (torch_in, "Parameter 'x' of 'torch_in' has the type torch.Tensor"),
        (pil_in, "use Image (Image.of(picture), image.pil())"),
        (numpy_out, "The result of 'numpy_out' has the type numpy.float32"),
        (bytes_in, "has the type bytes, which JSON lacks; use File"),
        (images_in, "Parameter 'x' of 'images_in' has Image inside another type"),
        (choice_in, "Parameter 'x' of 'choice_in' has Image inside another type"),
        (two_events, "'two_events' takes more than one Event: a, b"),
        (generator, "'generator' yields, so its result must be annotated as Iterator"),
    ],
)
def test_unsupported_annotations_are_refused_by_name(
    target: Callable[..., object], sentence: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        signature_of(target)
    assert sentence in caught.value.message


def test_a_part_inside_a_model_is_refused() -> None:
    with pytest.raises(DefinitionError, match="Image cannot be inside a list, model"):

        class Holder(BaseModel):
            image: Image


def test_a_part_inside_a_dataclass_is_refused() -> None:
    @dataclass
    class Holder:
        image: Image

    def takes(holder: Holder) -> None: ...

    takes.__annotations__["holder"] = Holder
    with pytest.raises(DefinitionError, match="Image cannot be inside a list, model"):
        signature_of(takes).interface("")


def test_a_type_without_a_json_form_is_refused_by_name() -> None:
    class Opaque:
        pass

    def takes(x: Callable[[], int]) -> None: ...

    with pytest.raises(DefinitionError, match="The type of 'x' of 'takes' has no JSON form"):
        signature_of(takes).interface("")

    takes.__annotations__["x"] = Opaque
    with pytest.raises(DefinitionError, match="The type of 'x' of 'takes' has no JSON form"):
        signature_of(takes).interface("")


def test_prepare_builds_everything_ahead() -> None:
    signature = signature_of(everything)
    signature.prepare()
    assert "body_adapter" in vars(signature)
    assert "result_adapter" in vars(signature)
