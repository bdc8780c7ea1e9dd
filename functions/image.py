"""Images, decoded through Pillow when asked for."""

from __future__ import annotations

import io
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from dsfn.functions.errors import InvalidInput
from dsfn.functions.interface import Kind
from dsfn.functions.invalid import invalid
from dsfn.functions.part import Media
from dsfn.functions.values import dataclass

if TYPE_CHECKING:
    import PIL.Image

MAX_IMAGE_PIXELS = 64_000_000
# Only formats that Pillow decodes in its own process: EPS, for one, would run Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "AVIF")


@dataclass(frozen=True)
class Image(Media):
    """An encoded image: `data` with its content type, such as `image/png`."""

    kind: ClassVar[Kind] = "image"
    needs: ClassVar[str] = "PIL"

    def pil(self) -> PIL.Image.Image:
        """The (first) picture, decoded once; each call gives a copy of its own.

        Raises `InvalidInput` when the bytes are no complete image or it is over
        `MAX_IMAGE_PIXELS`.
        """
        return self._decoded.copy()

    @classmethod
    def prepare(cls) -> None:
        """Imports Pillow and its decoders."""
        from PIL import Image as Pillow

        Pillow.init()

    def check(self, field: str) -> None:
        """Decodes the image. Raises `InvalidInput` naming `field`."""
        self.__dict__["_decoded"] = _decode(self.data, field)

    @classmethod
    def of(cls, picture: PIL.Image.Image, format: str = "PNG") -> Image:
        """Encodes a Pillow image in a format that Pillow writes."""
        out = io.BytesIO()
        picture.save(out, format=format)
        return cls(out.getvalue(), f"image/{format.lower()}")

    @cached_property
    def _decoded(self) -> PIL.Image.Image:
        return _decode(self.data, "image")


def _decode(data: bytes, field: str) -> PIL.Image.Image:
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    Pillow.init()
    known = tuple(name for name in FORMATS if name in Pillow.OPEN)
    try:
        picture = Pillow.open(io.BytesIO(data), formats=known)
        if picture.width * picture.height > MAX_IMAGE_PIXELS:
            raise _too_large(field, f"{picture.width} x {picture.height} pixels are")
        picture.load()
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise _too_large(field, "its pixels are") from error
    except UnidentifiedImageError as error:
        raise invalid(field, "is not an image in a known format") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, ArithmeticError) as error:
        # What Pillow's plugins raise on damaged files; OSError is the usual one.
        raise invalid(field, f"is a damaged or truncated image ({error})") from error
    return picture


def _too_large(field: str, what: str) -> InvalidInput:
    return invalid(field, f"is too large an image: {what} over the limit of {MAX_IMAGE_PIXELS}")
