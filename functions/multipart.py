"""`multipart/form-data` bodies, cut into their fields (RFC 7578)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from dsfn.functions.errors import MalformedBody
from dsfn.functions.values import dataclass

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELDS = 256


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form. `content_type` is "" when the field says none."""

    name: str
    filename: str | None
    content_type: str
    data: bytes


def read_form(
    parameters: tuple[tuple[str, str], ...], body: bytes, max_fields: int = MAX_FIELDS
) -> list[Field]:
    """The fields of a form, in order. `parameters` are those of its content type.

    Raises `MalformedBody`.
    """
    boundary = dict(parameters).get("boundary", "")
    if not boundary:
        raise _malformed("its content type has no boundary")
    reader = _Reader(max_fields)
    try:
        parser = MultipartParser(boundary.encode(), reader.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _malformed(str(error)) from error
    if not reader.ended:
        raise _malformed("it ends before its last boundary")
    return reader.fields


class _Reader:
    """Gathers what the parser calls back with."""

    def __init__(self, max_fields: int) -> None:
        self._max_fields = max_fields
        self.fields: list[Field] = []
        self.ended = False
        self._headers: dict[str, bytes] = {}
        self._name, self._value, self._data = bytearray(), bytearray(), bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_part_data": lambda data, start, end: self._data.extend(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.fields) >= self._max_fields:
            raise _malformed(f"it has more than {self._max_fields} fields")
        self._headers.clear()
        self._data = bytearray()

    def _header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        if b"name" not in options:
            raise _malformed("one of its fields has no name")
        filename = options.get(b"filename")
        field = Field(
            name=options[b"name"].decode("utf-8", "replace"),
            filename=None if filename is None else filename.decode("utf-8", "replace"),
            content_type=self._headers.get("content-type", b"").decode("latin-1"),
            data=bytes(self._data),
        )
        self.fields.append(field)

    def _finish(self) -> None:
        self.ended = True


def _malformed(reason: str) -> MalformedBody:
    return MalformedBody(f"The body is not a form: {reason}.", field="body")
