"""Images of functions with requirements, built where they are deployed from.

The requirements are collected with the pip and the indexes of whoever deploys, and installed on the
functions' image without a network, as that image itself was made.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from dsfn.functions.errors import UsageError
from dsfn.knative.images.engine import Engine, destination, find_engine
from dsfn.knative.images.wheels import collect, digest_of
from dsfn.knative.manifests.images import image_with

_RECIPE = Path(__file__).parent / "requirements" / "Containerfile"


def ensure_image(
    function_image: str,
    requirements: Collection[str],
    environ: Mapping[str, str],
    tell: Callable[[str], None],
) -> None:
    """Builds the image of functions with these requirements, and hands it over as IMAGE_LOAD or
    IMAGE_REGISTRY says, unless that was done from here before.

    Raises `UsageError` where there is nothing to build with or no place for it.
    """
    image, names = image_with(function_image, requirements), ", ".join(sorted(requirements))
    try:
        engine = find_engine()
        if engine.has(image):
            return
        to = destination(environ)
    except UsageError as error:
        raise UsageError(
            f"Functions that require {names} need an image. {error.message}"
        ) from error
    tell(f"Building {image} with {names}.")
    _build(engine, image, function_image, requirements)
    try:
        engine.hand_over((image,), to)
    except BaseException:
        engine.forget(image)  # or it would be taken for one that is there
        raise


def _build(engine: Engine, image: str, function_image: str, requirements: Collection[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="dsfn-") as place:
        wheels = Path(place)
        asked, needed = wheels / "asked", wheels / "needed"
        collect(requirements, asked, alone=True)
        collect(requirements, needed)
        built = engine.build(
            image.rpartition(":")[0],
            _RECIPE,
            wheels,
            {"IMAGE_BASE": function_image, "WHEELS_DIGEST": digest_of(needed)},
        )
        engine.name(built, image)
