"""What people write for inputs and output, read: `audio/wav`, `photos=image/*[]`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dsfn.functions.errors import InvalidInput
from dsfn.functions.media import parse_content_type
from dsfn.functions.workflow.planning.model import OBJECTIVES, Flow, Request
from dsfn.functions.workflow.planning.types import kind_of

MAX_INPUTS = 8
MAX_WISH_CHARS = 200

_MEDIA = re.compile(r"[\w!#$&^.+-]+/([\w!#$&^.+-]+|\*)", re.ASCII)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def request_of(
    inputs: Sequence[str], output: str, want: str = "", optimise: str = "latency"
) -> Request:
    """A request from texts: each input is a content type, with `NAME=` before it or not, and
    with `[]` behind it when it is a list. An input without a name is called after its kind.

    Raises `InvalidInput` naming the field.
    """
    if not 0 < len(inputs) <= MAX_INPUTS:
        raise InvalidInput(f"A plan has from 1 to {MAX_INPUTS} inputs.", field="inputs")
    if len(want) > MAX_WISH_CHARS:
        raise InvalidInput(f"'want' has more than {MAX_WISH_CHARS} characters.", field="want")
    if optimise not in OBJECTIVES:
        raise InvalidInput(
            f"'optimise' must be {' or '.join(OBJECTIVES)}, not {optimise!r}.", field="optimise"
        )
    wanted = flow_of(output, "output")
    named: dict[str, Flow] = {}
    for text in inputs:
        name, separator, media = text.rpartition("=")
        flow = flow_of(media, "inputs")
        if separator and not _NAME.fullmatch(name):
            raise InvalidInput(f"{name!r} is no name for an input.", field="inputs")
        if separator and name in named:
            raise InvalidInput(f"Two inputs are called {name!r}.", field="inputs")
        named[name or _unused(kind_of(flow.media), named)] = flow
    return Request(named, wanted, want, "cost" if optimise == "cost" else "latency")


def flow_of(text: str, field: str) -> Flow:
    """A content type, a list of such when `[]` follows. Raises `InvalidInput`."""
    many = text.endswith("[]")
    media = parse_content_type(text.removesuffix("[]"))[0]
    if not _MEDIA.fullmatch(media) or media == "*/*":
        raise InvalidInput(
            f"{text!r} is not a content type, such as audio/wav or image/*.", field=field
        )
    return Flow(media, many)


def _unused(kind: str, taken: Mapping[str, Flow]) -> str:
    number, found = 1, kind
    while found in taken:
        number += 1
        found = f"{kind}_{number}"
    return found
