"""Cron expressions: five fields, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from dsfn.functions.errors import DefinitionError

_FIELDS = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def check_schedule(expression: str) -> None:
    """Raises `DefinitionError` unless this is a cron expression whose time will come."""
    how = "write its five fields like '0 6 * * 1' (minute, hour, day of month, month, day of week)"
    if len(expression.split()) != _FIELDS:
        raise DefinitionError(f"The schedule {expression!r} is no cron expression; {how}.")
    try:
        next_us(expression, 0)
    except CronSimError as error:
        reason = str(error)[:1].lower() + str(error)[1:]
        raise DefinitionError(
            f"The schedule {expression!r} is no cron expression ({reason}); {how}."
        ) from error
    except StopIteration:
        raise DefinitionError(f"The time of the schedule {expression!r} never comes.") from None


def next_us(expression: str, after_us: int) -> int:
    """The first time of a schedule after another, in microseconds since the epoch."""
    return _to_us(next(CronSim(expression, _of_us(after_us))))


def latest_us(expression: str, now_us: int) -> int:
    """The last time of a schedule that has come, in microseconds since the epoch."""
    following = next_us(expression, now_us)
    return _to_us(next(CronSim(expression, _of_us(following), reverse=True)))


def _of_us(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)


def _to_us(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND
