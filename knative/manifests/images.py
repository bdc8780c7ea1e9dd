"""Names of images."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from hashlib import sha256

from dsfn.functions.errors import UsageError
from dsfn.functions.values import dataclass

_DIGITS = 12
# Source: https://pkg.go.dev/github.com/distribution/reference
_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"({_LABEL}(\.{_LABEL})*|\[[a-fA-F0-9:]+\])(:[0-9]{{1,5}})?"
_WORD = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}"
_DIGEST = r"[a-zA-Z][a-zA-Z0-9]*([-_+.][a-zA-Z][a-zA-Z0-9]*)*:[a-fA-F0-9]{32,}"
_IMAGE = re.compile(
    rf"(?P<repository>({_HOST}/)?{_WORD}(/{_WORD})*)(?P<version>(:{_TAG})?(@{_DIGEST})?)"
)
_REGISTRY = re.compile(rf"{_HOST}(/{_WORD})*")
_MAX_REPOSITORY = 255


@dataclass(frozen=True, slots=True)
class Image:
    """What an image is called: where it is, and ":TAG", "@DIGEST", both, or "" for the latest."""

    repository: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.repository}{self.version}"


def read_image(text: str, name: str = "The image") -> Image:
    """An image by what it is called; `name`: what is to be one. Raises `UsageError`."""
    found = _IMAGE.fullmatch(text)
    if found is None or len(found["repository"]) > _MAX_REPOSITORY:
        raise UsageError(
            f"{name} is {text!r}, and not what an image is called, such as"
            " registry.example/team/image:1."
        )
    return Image(found["repository"], found["version"])


def read_registry(text: str, name: str) -> str:
    """Where images are pushed to; `name`: what is to be one. Raises `UsageError`."""
    if _REGISTRY.fullmatch(text) is None:
        raise UsageError(f"{name} is {text!r}, and no registry, such as registry.example/team.")
    return text


def image_with(function_image: str, requirements: Collection[str]) -> str:
    """What the image of a function's pods is called: the functions' image with these requirements
    in it, the same for whoever builds it and for whoever has pods run it. Without any it is that
    image itself. Raises `UsageError`."""
    if not requirements:
        return function_image
    text = json.dumps([function_image, sorted(set(requirements))])
    tag = sha256(text.encode()).hexdigest()[:_DIGITS]
    return f"{read_image(function_image).repository}-with:{tag}"
