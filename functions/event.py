"""CloudEvents 1.0: the event, its JSON format, and the filters that triggers are.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, NoReturn

from dsfn.functions.attributes import CORE, REQUIRED, check_attributes
from dsfn.functions.interface import FilterInterface
from dsfn.functions.invalid import invalid
from dsfn.functions.media import OCTET_STREAM, is_json, parse_content_type
from dsfn.functions.part import Part, nested_error
from dsfn.functions.values import dataclass

# Where the data of an event are that it does not carry itself.
# Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/extensions/dataref.md
DATAREF = "dataref"


@dataclass(frozen=True, slots=True)
class Event:
    """One CloudEvent. `data` is bytes of `datacontenttype`; `time` is RFC 3339.

    Raises `InvalidInput` naming the attribute that breaks the specification.
    """

    id: str
    source: str
    type: str
    specversion: str = "1.0"
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: bytes = field(default=b"", repr=False)
    extensions: Mapping[str, str | int | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_attributes(self)

    @classmethod
    def of(
        cls,
        *,
        type: str,
        data: Any = None,
        source: str = "/dsfn",
        id: str | None = None,
        time: str | None = None,
        subject: str | None = None,
        datacontenttype: str | None = None,
        dataschema: str | None = None,
        **extensions: str | int | bool,
    ) -> Event:
        """A new event; `id` and `time` are made up when absent.

        `data` may be bytes, a part, None, or anything that has a JSON form.
        """
        body, guessed = _body_of(data)
        return cls(
            id=id if id is not None else _new_id(),
            source=source,
            type=type,
            subject=subject,
            time=time or datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            datacontenttype=datacontenttype or guessed,
            dataschema=dataschema,
            data=body,
            extensions=extensions,
        )

    def json(self) -> Any:
        """The data as a JSON value. Raises `InvalidInput` when it is not JSON."""
        try:
            return json.loads(self.data)
        except ValueError as error:
            raise invalid("data", f"is not JSON ({error})") from error

    def attribute(self, name: str) -> str | None:
        """An attribute or extension in its canonical text, None when it is not there."""
        value = getattr(self, name) if name in CORE else self.extensions.get(name)
        if isinstance(value, bool):
            return "true" if value else "false"
        return None if value is None else str(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> NoReturn:
        raise nested_error(cls)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a trigger asks of an event: every named attribute must be there and fit."""

    exact: Mapping[str, str] = field(default_factory=dict)
    prefix: Mapping[str, str] = field(default_factory=dict)
    suffix: Mapping[str, str] = field(default_factory=dict)

    def matches(self, event: Event) -> bool:
        """Whether every condition holds; a filter without any matches every event."""
        return (
            all(event.attribute(name) == text for name, text in self.exact.items())
            and all((event.attribute(n) or "").startswith(t) for n, t in self.prefix.items())
            and all((event.attribute(n) or "").endswith(t) for n, t in self.suffix.items())
        )

    def interface(self) -> FilterInterface:
        """This filter as a part of an `Interface`."""
        return FilterInterface(dict(self.exact), dict(self.prefix), dict(self.suffix))

    @classmethod
    def of(cls, interface: FilterInterface) -> Filter:
        """Reads back what `interface` gave."""
        return cls(interface.exact, interface.prefix, interface.suffix)


def to_document(event: Event) -> dict[str, Any]:
    """The event in the JSON format (structured mode)."""
    document: dict[str, Any] = {name: getattr(event, name) for name in CORE}
    document = {name: value for name, value in document.items() if value is not None}
    document.update(event.extensions)
    if event.data:
        document.update(_data_member(event))
    return document


def from_document(document: object) -> Event:
    """Reads the JSON format. Raises `InvalidInput` naming the attribute at fault."""
    if not isinstance(document, Mapping):
        raise invalid("event", "must be a JSON object in the CloudEvents format")
    values = {name: value for name, value in document.items() if value is not None}
    for name in ("specversion", *REQUIRED):
        if name not in values:
            raise invalid(name, "is missing; every event has it")
    body = _read_data(values)
    core = {name: values.pop(name) for name in CORE if name in values}
    return Event(**core, data=body, extensions=values)


def _new_id() -> str:
    import uuid  # with what it asks of the platform: few processes make events

    return str(uuid.uuid4())


def _data_member(event: Event) -> dict[str, Any]:
    media = parse_content_type(event.datacontenttype or "application/json")[0]
    try:
        if is_json(media):
            return {"data": json.loads(event.data, parse_constant=_refuse_constant)}
        if media.startswith("text/"):
            return {"data": event.data.decode()}
    except (ValueError, RecursionError):
        # Not what its content type says: it travels as it is.
        pass
    return {"data_base64": b64encode(event.data).decode()}


def _read_data(values: dict[str, Any]) -> bytes:
    has_data, has_base64 = "data" in values, "data_base64" in values
    if has_data and has_base64:
        raise invalid("data", "and 'data_base64' cannot both be there")
    if has_base64:
        text = values.pop("data_base64")
        try:
            return b64decode(text, validate=True)
        except (Base64Error, ValueError, TypeError) as error:
            raise invalid("data_base64", "is not base64") from error
    if not has_data:
        return b""
    data = values.pop("data")
    content_type = values.get("datacontenttype", "application/json")
    media = parse_content_type(content_type)[0] if isinstance(content_type, str) else ""
    if isinstance(data, str) and not is_json(media):
        return data.encode("utf-8", "surrogatepass")
    return _dump(data)


def _body_of(data: Any) -> tuple[bytes, str | None]:
    if data is None:
        return b"", None
    if isinstance(data, bytes):
        return data, OCTET_STREAM
    if isinstance(data, Part):
        content_type: str = data.content_type  # type: ignore[attr-defined]  # every part has one
        return data.encoded(), content_type
    return _dump(data), "application/json"


def _dump(data: Any) -> bytes:
    from pydantic_core import to_jsonable_python

    try:
        plain = to_jsonable_python(data, inf_nan_mode="constants")
        return json.dumps(
            plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")
        ).encode()
    except (ValueError, RecursionError) as error:
        raise invalid("data", f"has no JSON form ({error})") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
