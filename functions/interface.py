"""What a function takes and gives, as a document: all that the node knows of its types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from dsfn.functions.media import OCTET_STREAM
from dsfn.functions.values import dataclass

Kind = Literal["json", "text", "image", "audio", "video", "tensor", "file", "event"]
KINDS: tuple[str, ...] = get_args(Kind)

EVENT_CONTENT_TYPE = "application/cloudevents+json"
JSON_CONTENT_TYPE = "application/json"
MULTIPART_CONTENT_TYPE = "multipart/form-data"
EVENT_STREAM = "text/event-stream"

CONTENT_TYPES: Mapping[str, str] = {
    "json": JSON_CONTENT_TYPE,
    "text": "text/*",
    "image": "image/*",
    "audio": "audio/*",
    "video": "video/*",
    "tensor": "application/vnd.safetensors",
    "file": "*/*",
    "event": EVENT_CONTENT_TYPE,
}


def stream_content_type(kind: Kind) -> str:
    """Server-sent events for JSON, Text and Event; raw parts are chunks of bytes."""
    return EVENT_STREAM if kind in ("json", "text", "event") else OCTET_STREAM


@dataclass(frozen=True, slots=True)
class ParameterInterface:
    """One parameter. `schema` is its JSON schema (kind "json" only)."""

    name: str
    kind: Kind
    required: bool
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ResultInterface:
    """The result. A streaming result is server-sent events, or chunks for raw parts."""

    kind: Kind
    streaming: bool = False
    schema: Mapping[str, Any] | None = None

    def content_types(self) -> tuple[str, ...]:
        """The content types that it can be given in, wildcards included, preferred first."""
        if self.streaming:
            return (stream_content_type(self.kind),)
        return tuple(dict.fromkeys((CONTENT_TYPES[self.kind], JSON_CONTENT_TYPE)))


@dataclass(frozen=True, slots=True)
class FilterInterface:
    """A trigger's filter on event attributes, after CloudEvents Subscriptions 1.0."""

    exact: Mapping[str, str]
    prefix: Mapping[str, str]
    suffix: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Interface:
    """A function's parameters in order, its result, its docstring and its triggers."""

    description: str
    parameters: tuple[ParameterInterface, ...]
    result: ResultInterface
    triggers: tuple[FilterInterface, ...] = ()

    def part_parameters(self) -> tuple[ParameterInterface, ...]:
        """Those that travel as bytes of their own content type."""
        return tuple(p for p in self.parameters if p.kind not in ("json", "event"))

    def request_content_types(self) -> tuple[str, ...]:
        """The content types a request body may have, wildcards included, preferred first."""
        parts = self.part_parameters()
        own: list[str] = []
        if len(self.parameters) == 1 and parts:
            own.append(CONTENT_TYPES[parts[0].kind])
        elif parts:
            own.append(MULTIPART_CONTENT_TYPE)
        return (*own, JSON_CONTENT_TYPE, EVENT_CONTENT_TYPE)

    def to_document(self) -> dict[str, object]:
        """This interface as a JSON-able document."""
        return {
            "description": self.description,
            "parameters": [
                {"name": p.name, "kind": p.kind, "required": p.required, "schema": p.schema}
                for p in self.parameters
            ],
            "result": {
                "kind": self.result.kind,
                "streaming": self.result.streaming,
                "schema": self.result.schema,
            },
            "triggers": [
                {"exact": dict(t.exact), "prefix": dict(t.prefix), "suffix": dict(t.suffix)}
                for t in self.triggers
            ],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Interface:
        """Reads back what `to_document` wrote."""
        return cls(
            description=document["description"],
            parameters=tuple(ParameterInterface(**p) for p in document["parameters"]),
            result=ResultInterface(**document["result"]),
            triggers=tuple(FilterInterface(**t) for t in document["triggers"]),
        )
