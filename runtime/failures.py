"""What a call that gave no answer failed for, as its row says it."""

from __future__ import annotations

from dsfn.billing.usage import Status
from dsfn.functions.errors import (
    BudgetExceeded,
    CallCancelled,
    DsfnError,
    FunctionError,
    HandlerCrashed,
    RequestError,
)
from dsfn.runtime.model import Call


def cause_of_failure(error: BaseException, call: Call) -> DsfnError:
    """The error of the tree that a call ended in: what is none has called it off."""
    return error if isinstance(error, DsfnError) else call.called_off()


def status_of_failure(error: DsfnError) -> Status:
    """What the row of a call says that ended in this."""
    if isinstance(error, RequestError):
        return "rejected"
    if isinstance(error, CallCancelled | BudgetExceeded):
        return "cancelled"
    if isinstance(error, HandlerCrashed) and error.fields.get("signal") == "SIGKILL":
        return "platform"  # no code of a function ends that way: the kernel or somebody ended it
    return "failed" if isinstance(error, FunctionError) else "platform"
