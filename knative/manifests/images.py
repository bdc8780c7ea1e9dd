"""What the image of a function's pods is called."""

from __future__ import annotations

import json
from collections.abc import Collection
from hashlib import sha256

_DIGITS = 12


def image_with(function_image: str, requirements: Collection[str]) -> str:
    """The functions' image with these requirements in it: the same name for whoever builds it and
    for whoever has pods run it. Without any it is that image itself."""
    if not requirements:
        return function_image
    text = json.dumps([function_image, sorted(set(requirements))])
    tag = sha256(text.encode()).hexdigest()[:_DIGITS]
    return f"{_repository(function_image)}-with:{tag}"


def _repository(image: str) -> str:
    """An image's name without its tag and digest. A registry's port is before the last slash."""
    before, slash, last = image.partition("@")[0].rpartition("/")
    return f"{before}{slash}{last.partition(':')[0]}"
