"""What may be set of a step and of a workflow: from what an author wrote to the DAG's options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TypedDict

from dsfn.functions.durations import Seconds, check_seconds, parse_seconds
from dsfn.functions.errors import DefinitionError
from dsfn.functions.option_values import tags_of
from dsfn.functions.options import NAME_PATTERN
from dsfn.functions.retrying import Policy, check_retrying
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import (
    MAX_PARALLEL,
    Fallback,
    StepOptions,
    WorkflowOptions,
)

MAX_TIMEOUT_S = 7 * 86_400.0
MAX_BUDGET_NANO = 10**18

Money = str | int | Decimal

_NANO = 10**9
_CRON = re.compile(r"[\w*/,#?-]+(\s+[\w*/,#?-]+){4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class StepSettings:
    """What an author set of a step: its options, and its name if it is to have one."""

    options: StepOptions
    name: str | None = None


PLAIN = StepSettings(StepOptions())


class StepWords(TypedDict, total=False):
    """What an author may say of a step: see `Callee.step`."""

    retries: int
    backoff_policy: Policy
    backoff_delay: Seconds
    timeout: Seconds
    cache: bool
    budget: Money
    fallback: Any
    name: str


def step_settings(words: StepWords, fallback: Fallback | None) -> StepSettings:
    """A step's settings, checked. Raises `DefinitionError`."""
    unknown = words.keys() - StepWords.__annotations__.keys()
    if unknown:
        raise DefinitionError(f"A step has no option '{min(unknown)}'.")
    standard = StepOptions()
    options = StepOptions(
        retries=words.get("retries", standard.retries),
        backoff_policy=words.get("backoff_policy", standard.backoff_policy),
        backoff_delay_s=parse_seconds(
            words.get("backoff_delay", standard.backoff_delay_s), "backoff_delay"
        ),
        timeout_s=parse_seconds(words["timeout"], "timeout") if "timeout" in words else None,
        cache=words.get("cache", standard.cache),
        budget_nano=nano(words["budget"]) if "budget" in words else None,
        fallback=fallback,
    )
    check_step_options(options)
    name = words.get("name")
    if name is not None:
        check_name("The name of a step", name)
    return StepSettings(options, name)


def workflow_options(
    *,
    name: str,
    timeout: Seconds = 86_400.0,
    budget: Money | None = None,
    parallel: int = 64,
    schedule: str | None = None,
    tags: Sequence[str] = (),
) -> WorkflowOptions:
    """A workflow's options, checked. Raises `DefinitionError`."""
    options = WorkflowOptions(
        name=name,
        timeout_s=parse_seconds(timeout, "timeout"),
        budget_nano=None if budget is None else nano(budget),
        parallel=parallel,
        schedule=schedule,
        tags=tags_of(tags),
    )
    check_workflow_options(options)
    return options


def check_step_options(options: StepOptions) -> None:
    """Raises `DefinitionError` for options out of their range."""
    check_retrying(options.retries, options.backoff_policy, options.backoff_delay_s)
    if options.timeout_s is not None:
        check_seconds("timeout", options.timeout_s, 0.001, MAX_TIMEOUT_S)
    if not isinstance(options.cache, bool):
        raise DefinitionError(f"cache must be True or False, not {options.cache!r}.")
    if options.budget_nano is not None:
        _whole("budget (in billionths)", options.budget_nano, 1, MAX_BUDGET_NANO)


def check_workflow_options(options: WorkflowOptions) -> None:
    """Raises `DefinitionError` for options out of their range."""
    check_name("The name of a workflow", options.name)
    check_seconds("timeout", options.timeout_s, 0.001, MAX_TIMEOUT_S)
    if options.budget_nano is not None:
        _whole("budget (in billionths)", options.budget_nano, 1, MAX_BUDGET_NANO)
    check_parallel(options.parallel)
    if options.schedule is not None and not (
        isinstance(options.schedule, str) and _CRON.fullmatch(options.schedule.strip())
    ):
        raise DefinitionError(
            f"schedule {options.schedule!r} is no cron expression; write its five fields like"
            " '0 6 * * 1' (minute, hour, day of month, month, day of week; in UTC)."
        )
    tags_of(options.tags)


def check_parallel(parallel: int) -> int:
    """Raises `DefinitionError` unless so many may be under way at once."""
    return _whole("parallel", parallel, 1, MAX_PARALLEL)


def check_name(what: str, name: str) -> None:
    """Raises `DefinitionError` unless it is a name as functions have them."""
    if not isinstance(name, str) or NAME_PATTERN.fullmatch(name) is None:
        raise DefinitionError(
            f"{what} must be lower-case letters, digits and '-', start with a letter, and have at"
            f" most 63 characters; {name!r} is not."
        )


def nano(value: Money) -> int:
    """Billionths of the currency's unit from a decimal text such as "0.05".

    Raises `DefinitionError`.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise DefinitionError(
            f"budget must be a decimal text such as '0.05', not {type(value).__name__}."
        )
    try:
        amount = Decimal(value) * _NANO
    except InvalidOperation as error:
        raise DefinitionError(f"budget {value!r} is no amount; write it like '0.05'.") from error
    if not amount.is_finite() or amount != amount.to_integral_value():
        raise DefinitionError(f"budget {value!r} must have at most nine decimal places.")
    return int(amount)


def _whole(option: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise DefinitionError(f"{option} must be a whole number from {least} to {most}.")
    return value
