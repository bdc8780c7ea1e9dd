"""What torch's operations do with their tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload


@cache
def reads_nothing(func: Callable[..., Any]) -> bool:
    """Whether `func` gives another view of the same bytes, whatever it is given.

    Torch calls an operation a view whose result may be one, `aten::to` and `aten::reshape` among
    them; those are made of others, which in inference mode are not seen by themselves.
    """
    if not isinstance(func, OpOverload) or func.namespace != "aten" or not func.is_view:
        return False
    return not torch._C._dispatch_has_kernel_for_dispatch_key(
        func.name(),  # type: ignore[no-untyped-call]  # torch leaves it so
        "CompositeImplicitAutograd",
    )
