"""What all parts share: a value over bytes that travels with its content type."""

from __future__ import annotations

from dataclasses import field
from importlib import import_module
from typing import Any, ClassVar, NoReturn

from dsfn.functions.errors import DefinitionError
from dsfn.functions.interface import Kind
from dsfn.functions.media import OCTET_STREAM, sniff
from dsfn.functions.values import dataclass


class Part:
    """A value that travels as bytes of its own content type instead of JSON.

    `needs` is the module that reads its bytes, "" when none does.
    """

    __slots__ = ()
    kind: ClassVar[Kind]
    needs: ClassVar[str] = ""

    def encoded(self) -> bytes:
        """The bytes that travel."""
        raise NotImplementedError

    def check(self, field: str) -> None:
        """Raises `InvalidInput` naming `field` when the bytes are not what the kind says."""

    @classmethod
    def prepare(cls) -> None:
        """Imports what decoding needs, so that no call waits for it."""
        if cls.needs:
            import_module(cls.needs)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> NoReturn:
        raise nested_error(cls)


@dataclass(frozen=True)
class Media(Part):
    """Bytes with a content type; without one it is guessed from the first bytes."""

    data: bytes = field(repr=False)
    content_type: str = ""

    def __post_init__(self) -> None:
        if not self.content_type:
            guessed = sniff(self.data)
            fits = self.kind == "file" or guessed.startswith(f"{self.kind}/")
            object.__setattr__(self, "content_type", guessed if fits else OCTET_STREAM)

    def encoded(self) -> bytes:
        """The bytes that travel."""
        return self.data

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}


def nested_error(kind: type) -> DefinitionError:
    """The error for a part (or Event) inside a model, list or other JSON type."""
    return DefinitionError(
        f"{kind.__name__} cannot be inside a list, model or other JSON type;"
        " make it a parameter of its own, or the whole result."
    )
