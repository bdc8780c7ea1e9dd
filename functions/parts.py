"""The parts: typed values over bytes that functions take and give.

Their names are all that a function's types need; NumPy's, torch's and Pillow's
own types never appear in a signature.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

from dsfn.functions.audio import MAX_AUDIO_S, MAX_AUDIO_SAMPLES, Audio
from dsfn.functions.image import MAX_IMAGE_PIXELS, Image
from dsfn.functions.interface import Kind
from dsfn.functions.part import Media, Part
from dsfn.functions.tensor import Tensor
from dsfn.functions.values import dataclass

__all__ = [
    "MAX_AUDIO_S",
    "MAX_AUDIO_SAMPLES",
    "MAX_IMAGE_PIXELS",
    "PARTS",
    "Audio",
    "File",
    "Image",
    "Json",
    "Media",
    "Part",
    "Tensor",
    "Text",
    "Video",
]

Json: TypeAlias = Any
"""Any JSON value."""


class Text(Part, str):
    """Plain text. It is a `str`; a function that gives one may return any `str`."""

    __slots__ = ()
    kind: ClassVar[Kind] = "text"
    content_type: ClassVar[str] = "text/plain; charset=utf-8"

    def encoded(self) -> bytes:
        """The text in UTF-8."""
        return self.encode()


@dataclass(frozen=True)
class Video(Media):
    """An encoded film: `data` with its content type, such as `video/mp4`. Not looked into."""

    kind: ClassVar[Kind] = "video"


@dataclass(frozen=True)
class File(Media):
    """Bytes of any content type, with the name they came under if there was one."""

    name: str | None = None

    kind: ClassVar[Kind] = "file"


PARTS: tuple[type[Part], ...] = (Text, Image, Audio, Video, Tensor, File)
