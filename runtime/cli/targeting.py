"""Commands that can be told whom to talk to."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any, TypeVar

from dsfn.runtime.cli.options import TargetOption

R = TypeVar("R")


def targeted(command: Callable[..., R]) -> Callable[..., R]:
    """The command with `--target`, which names the context that it talks to, this once."""

    @wraps(command)
    def run(*given: Any, target: str | None = None, **options: Any) -> R:
        if target is not None:
            os.environ["DSFN_TARGET"] = target
        return command(*given, **options)

    own = signature(command, eval_str=True)
    option = Parameter("target", Parameter.KEYWORD_ONLY, default=None, annotation=TargetOption)
    run.__signature__ = own.replace(  # type: ignore[attr-defined]  # what typer reads
        parameters=[*own.parameters.values(), option]
    )
    return run
