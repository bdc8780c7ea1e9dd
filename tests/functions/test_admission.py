"""Calls that are refused for their headers and their size, before any code runs for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from dsfn import Event, File, Image, Json, Text
from dsfn.functions.codec import Limits, check_call, decode_arguments
from dsfn.functions.errors import (
    DsfnError,
    InvalidInput,
    NotAcceptable,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from dsfn.functions.interface import Interface
from dsfn.functions.signature import signature_of

JSON = "application/json"
LIMIT_BYTES = 100


def order(count: int) -> Json: ...
def defaults(count: int = 1) -> Json: ...
def classify(image: Image) -> Json: ...
def read(text: Text) -> Json: ...
def keep(file: File) -> Json: ...
def compose(image: Image, caption: Text) -> Image: ...
def handle(event: Event) -> None: ...
def words(count: int) -> Iterator[Text]: ...


def interface_of(target: Callable[..., object]) -> Interface:
    """What a node knows of a function: the document that its deployment has left."""
    return Interface.from_document(signature_of(target).interface("").to_document())


def check(
    target: Callable[..., object], content_type: str, body: bytes = b"?", accept: str = "*/*"
) -> None:
    check_call(interface_of(target), content_type, accept, len(body), LIMIT_BYTES)


REFUSED = [
    (order, "text/plain", b"1", UnsupportedMediaType),
    (order, "", b"1", UnsupportedMediaType),
    (order, "multipart/form-data; boundary=edge", b"1", UnsupportedMediaType),
    (handle, "image/png", b"1", UnsupportedMediaType),
    (classify, "text/plain", b"1", UnsupportedMediaType),
    (classify, "multipart/form-data; boundary=edge", b"1", UnsupportedMediaType),
    (read, "text/plain; charset=koi8-r", b"1", UnsupportedMediaType),
    (compose, "image/png", b"1", UnsupportedMediaType),
    (order, JSON, b"", InvalidInput),
    (classify, "", b"", InvalidInput),
    (order, JSON, b"1" * (LIMIT_BYTES + 1), PayloadTooLarge),
]


@pytest.mark.parametrize(("target", "content_type", "body", "kind"), REFUSED)
def test_what_is_refused_ahead_is_what_the_function_itself_refuses(
    target: Callable[..., object], content_type: str, body: bytes, kind: type[DsfnError]
) -> None:
    with pytest.raises(kind) as ahead:
        check(target, content_type, body)
    with pytest.raises(kind) as itself:
        signature, limits = signature_of(target), Limits(LIMIT_BYTES)
        decode_arguments(signature, content_type, body, lambda _: (b"", ""), limits)
    assert ahead.value.to_document() == itself.value.to_document()


@pytest.mark.parametrize(
    ("target", "content_type", "body"),
    [
        (order, JSON, b"{"),
        (order, "APPLICATION/JSON; charset=utf-8", b"{}"),
        (order, "application/cloudevents+json", b"{}"),
        (defaults, "", b""),
        (handle, "application/cloudevents+json", b"{}"),
        (classify, "image/png", b"not a picture"),
        (classify, "", b"?"),
        (classify, JSON, b"{}"),
        (read, "text/plain; charset=utf-16", b"?"),
        (keep, "what/ever", b"?"),
        (compose, "multipart/form-data; boundary=edge", b"?"),
    ],
)
def test_what_only_the_body_can_tell_is_left_to_the_function(
    target: Callable[..., object], content_type: str, body: bytes
) -> None:
    check(target, content_type, body)


@pytest.mark.parametrize(
    ("target", "accept"), [(order, "image/png"), (compose, "text/html"), (words, "image/*")]
)
def test_a_result_that_nobody_takes_is_refused_ahead(
    target: Callable[..., object], accept: str
) -> None:
    check(target, "application/cloudevents+json", accept="*/*")
    with pytest.raises(NotAcceptable):
        check(target, "application/cloudevents+json", accept=accept)
