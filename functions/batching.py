"""What a function must look like for its calls to be run in batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_origin

from dsfn.functions.errors import DefinitionError
from dsfn.functions.shape import call_of
from dsfn.functions.signature import Signature

# What one item may weigh: the sums of a batch then stay far inside 64 bits.
MAX_WEIGHT = 2**32


def check_weight(weight: object, max_batch: int) -> None:
    """Refuses a `weight` that is not a function, and one without batches to divide.

    Raises `DefinitionError`.
    """
    if not callable(weight):
        raise DefinitionError(
            "weight must be a function from one item of the list to a whole number, such as len."
        )
    if max_batch == 1:
        raise DefinitionError("weight is for functions with max_batch: it divides a batch's time.")


def check_batches(name: str, target: Callable[..., Any], signature: Signature) -> None:
    """Refuses `max_batch` on what is no plain function from one list to a list.

    Raises `DefinitionError`.
    """
    call = call_of(target) if isinstance(target, type) else target
    takes_a_list = (
        len(signature.parameters) == 1
        and signature.parameters[0].required
        and get_origin(signature.parameters[0].annotation) is list
    )
    gives_a_list = (
        get_origin(signature.result.annotation) is list and not signature.result.streaming
    )
    if not takes_a_list or not gives_a_list or inspect.iscoroutinefunction(call):
        raise DefinitionError(
            f"max_batch of '{name}' needs a plain function with one parameter that is a list,"
            " and a list as its result: calls are joined into one list, the result is cut up"
            " again.",
            function=name,
        )
