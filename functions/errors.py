"""Every error that dsfn raises, as one tree.

    DsfnError
    ├── RequestError                 the caller's mistake
    │   ├── InvalidInput             a value does not fit the signature (`field` says which)
    │   ├── MalformedBody            the bytes are not what their content type says
    │   ├── UnsupportedMediaType     the content type is not one the function takes
    │   ├── NotAcceptable            the result cannot be given in the type asked for
    │   ├── PayloadTooLarge          the body is over a limit
    │   ├── HeadTooLarge             the head of an HTTP request is over the limit
    │   ├── NotFound                 no such function, revision, invocation, ...
    │   ├── NoPlan                   no deployed functions lead from the inputs to the output
    │   ├── Unauthenticated          no API key, or none that is valid
    │   ├── Forbidden                the API key may not do this
    │   ├── Conflict                 the request does not fit the state of what it names
    │   └── IdempotencyMismatch      the same key again with another body
    ├── DeployError                  the author's mistake, found while deploying (see `traceback`)
    │   ├── BundleError              what was sent is not a deployable file or directory
    │   ├── DefinitionError          a decorator's arguments or a signature make no sense
    │   ├── SourceError              importing the file failed
    │   └── SetupError               `setup()` raised, hung or exited
    ├── FunctionError                the function failed while it ran a call
    │   ├── HandlerRaised            user code raised
    │   ├── HandlerTimedOut          user code took longer than `timeout`
    │   ├── HandlerCrashed           the worker's process ended under the call
    │   ├── OutOfMemory              the call went over the function's `memory`
    │   ├── OutputTooLarge           printed or returned more than the limit
    │   └── CallCancelled            the client went away, or the call was cancelled
    ├── RunError                     a run of a workflow ended without a result
    │   ├── BudgetExceeded           going on would have cost more than it may
    │   ├── RunTimedOut              it took longer than the workflow's `timeout`
    │   └── RunCancelled             somebody called it off
    ├── Unavailable                  cannot be served now (`retry_after_s` says when to try again)
    │   ├── QueueFull                too many calls wait already
    │   ├── BudgetReserved           what is left of a budget is set aside for calls under way
    │   ├── QueueTimeout             no replica came before the deadline
    │   ├── ReplicaStartFailed       a replica could not be started
    │   ├── ReplicaLost              the replica ended while it ran this call among others
    │   ├── ShuttingDown             the node is draining
    │   ├── MemoryFull               a device or the arena has no room: nothing was taken
    │   ├── StoreUnavailable         a store (of snapshots, the ledger) is away, or refuses
    │   └── OwnerLost                the memory owner has gone or does not answer
    ├── StorageFull                  the disk has no room: nothing was done
    ├── CorruptBlob                  a stored input or result is not what was put
    ├── SnapshotError                a snapshot cannot be captured, is damaged, or does not fit
    │   ├── CaptureError             the state holds something that cannot be captured
    │   ├── CorruptSnapshot          bytes differ from what was captured
    │   ├── DeviceFault              a device's driver refused
    │   └── BadMessage               what came from or to the memory owner is not of its protocol
    ├── ClusterError                 a Kubernetes cluster did not do what it was asked for
    │   ├── ClusterUnreachable       its API server does not answer
    │   ├── ClusterRefused           it does not take an object
    │   ├── MissingRights            the user may not do this there
    │   ├── MissingKinds             it lacks kinds of objects, Knative's say
    │   └── NotReady                 an object did not become ready (`log` has its last lines)
    └── UsageError                   the command line or configuration is wrong (exit code 2)

Errors are values: a sentence and JSON-able fields. They cross processes as
`to_document()` / `from_document()`; only the gateway turns them into HTTP statuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class DsfnError(Exception):
    """Root of the tree.

    `message` is a complete sentence for a person; `fields` are JSON-able facts
    that a program can use.
    """

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields: Mapping[str, object] = fields

    def add_fields(self, **fields: object) -> None:
        """Adds facts that are known only further up: what the call cost, say."""
        self.fields = {**self.fields, **fields}

    def to_document(self) -> dict[str, object]:
        """This error as a JSON-able document that `from_document` reads back."""
        return {"error": type(self).__name__, "message": self.message, "fields": dict(self.fields)}


class RequestError(DsfnError):
    """The caller's mistake."""


class InvalidInput(RequestError):
    """A value does not fit the signature. Fields: `field`, `errors` (list of {field, message})."""


class MalformedBody(RequestError):
    """The bytes are not what their content type says. Fields: `field`."""


class UnsupportedMediaType(RequestError):
    """Fields: `content_type`, `expected` (list of content types)."""


class NotAcceptable(RequestError):
    """Fields: `accept`, `available`."""


class PayloadTooLarge(RequestError):
    """Fields: `field` ("body" or what a `$ref` stands for), `limit_bytes`."""


class HeadTooLarge(RequestError):
    """Fields: `limit_bytes`."""


class NotFound(RequestError):
    """Fields: `kind`, `name`."""


class NoPlan(RequestError):
    """No deployed functions lead from the inputs to the output. Fields: `inputs`, `output`,
    `unused` (inputs that nothing takes), `reachable` and `giving` (names of functions that can
    be called, and that give the output)."""


class Unauthenticated(RequestError):
    """No API key, or none that is valid: which of the two, and why, is not told."""


class Forbidden(RequestError):
    """The API key is valid and may not do this."""


class Conflict(RequestError):
    """The request does not fit the state of what it names."""


class IdempotencyMismatch(RequestError):
    """Fields: `key`."""


class DeployError(DsfnError):
    """The author's mistake. Fields: `function`, `traceback` (frames of the author's own code)."""


class BundleError(DeployError):
    """What was sent is not a deployable file or directory."""


class DefinitionError(DeployError):
    """A decorator's arguments or a signature make no sense."""


class SourceError(DeployError):
    """Importing the author's file failed."""


class SetupError(DeployError):
    """`setup()` raised, hung or exited."""


class FunctionError(DsfnError):
    """The function failed while it ran a call."""


class HandlerRaised(FunctionError):
    """Fields: `exception` (type's name), `traceback`."""


class HandlerTimedOut(FunctionError):
    """Fields: `timeout_s`."""


class HandlerCrashed(FunctionError):
    """Fields: `exit_code` or `signal`."""


class OutOfMemory(FunctionError):
    """Fields: `limit_bytes`."""


class OutputTooLarge(FunctionError):
    """Fields: `limit_bytes`."""


class CallCancelled(FunctionError):
    """The client went away, or the call was cancelled."""


class RunError(DsfnError):
    """A run of a workflow ended without a result. Fields: `run`."""


class BudgetExceeded(RunError):
    """Going on would have cost more than it may. Fields: `budget_nano`, `of` ("run", "step",
    "tenant", "key" or "function"); of the last three `budget` (its id), `spent_nano`,
    `reserved_nano` and `resets_at`, too."""


class RunTimedOut(RunError):
    """Fields: `timeout_s`."""


class RunCancelled(RunError):
    """Somebody called it off."""


class Unavailable(DsfnError):
    """Cannot be served now. Fields: `retry_after_s`."""


class QueueFull(Unavailable):
    """Too many calls wait already. Fields: `max_queue`, `retry_after_s`."""


class BudgetReserved(Unavailable):
    """What is left of a budget is set aside for calls under way, which will not use all of it.
    Fields: those of `BudgetExceeded`, `retry_after_s`."""


class QueueTimeout(Unavailable):
    """No replica came before the deadline. Fields: `waited_s`, `retry_after_s`."""


class ReplicaStartFailed(Unavailable):
    """A replica could not be started. Fields: `reason`, `retry_after_s`, and the `traceback` where
    the author's code failed."""


class ReplicaLost(Unavailable):
    """The replica ended while it ran this call among others, and nobody can tell which of
    them ended it. Fields: `reason`, `retry_after_s`."""


class ShuttingDown(Unavailable):
    """The node is draining. Fields: `retry_after_s`."""


class MemoryFull(Unavailable):
    """Nothing was taken. Fields: `what` ("arena", "device" or "host"), `needed_bytes`,
    `free_bytes`, `retry_after_s`."""


class StoreUnavailable(Unavailable):
    """A store cannot be reached, or refuses. Fields: `reason`, `retry_after_s`."""


class OwnerLost(Unavailable):
    """The memory owner has gone or does not answer. Fields: `reason`, `retry_after_s`."""


class StorageFull(DsfnError):
    """The disk has no room: nothing was done."""


class CorruptBlob(DsfnError):
    """A stored input or result is not what was put. Fields: `blob` (its digest)."""


class SnapshotError(DsfnError):
    """A snapshot cannot be captured, is damaged, or does not fit."""


class CaptureError(SnapshotError):
    """Fields: `path` (of the attribute that cannot be captured), `reason`."""


class CorruptSnapshot(SnapshotError):
    """Fields: `digest`, `reason`."""


class DeviceFault(SnapshotError):
    """A device's driver refused. Fields: `operation`, `code`."""


class BadMessage(SnapshotError):
    """What came from or to the memory owner is not of its protocol."""


class ClusterError(DsfnError):
    """A Kubernetes cluster did not do what it was asked for."""


class ClusterUnreachable(ClusterError):
    """Its API server does not answer. Fields: `address`, `reason`."""


class ClusterRefused(ClusterError):
    """It does not take an object. Fields: `reason`, and `object` where it is known which."""


class MissingRights(ClusterError):
    """The user may not do this there. Fields: `user`, `verb`, `resource`, `namespace`."""


class MissingKinds(ClusterError):
    """It lacks kinds of objects. Fields: `api_version`, `kind`."""


class NotReady(ClusterError):
    """An object did not become ready. Fields: `object`, `reason`, `log` (its last lines)."""


class UsageError(DsfnError):
    """The command line or configuration is wrong."""


def from_document(document: Mapping[str, object]) -> DsfnError:
    """Rebuilds an error from `DsfnError.to_document()`; unknown names become `DsfnError`."""
    kind = _BY_NAME.get(str(document.get("error")), DsfnError)
    fields = document.get("fields")
    known = {str(k): v for k, v in fields.items()} if isinstance(fields, Mapping) else {}
    return kind(str(document.get("message", "")), **known)


def _tree(kind: type[DsfnError]) -> Iterator[type[DsfnError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


_BY_NAME = {kind.__name__: kind for kind in _tree(DsfnError)}
