"""A typed client of a node's HTTP API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from dsfn.functions.errors import DsfnError
from dsfn.runtime.cli.documents import (
    BudgetDocument,
    CopiedDocument,
    FunctionDocument,
    InvocationDocument,
    KeyDocument,
    LogDocument,
    NewKeyDocument,
    PinnedDocument,
    PrefetchedDocument,
    PrunedDocument,
    RatesRowDocument,
    RatesShowDocument,
    RevisionDocument,
    RollbackDocument,
    SnapshotsDocument,
    SnapshotShowDocument,
    StageDocument,
    StatusDocument,
    SubscriptionDocument,
    SummaryDocument,
    TimelineDocument,
    TrafficDocument,
    VerifiedDocument,
    VerifiedReplicasDocument,
)
from dsfn.runtime.cli.reply import Reply, reply_from
from dsfn.runtime.cli.transport import (
    ADMIN_TIMEOUT_S,
    CALL_TIMEOUT_S,
    Transport,
    json_lines,
)
from dsfn.runtime.problem_reading import problem_error

ShowProgress = Callable[[int, int], None]

BUNDLE_CONTENT_TYPE = "application/vnd.dsfn.bundle+gzip"


class Client(Transport):
    """One node: its functions, events, snapshots and bills."""

    def ready(self) -> bool:
        """Whether the node takes calls."""
        try:
            with self._open("GET", "/health/readiness"):
                return True
        except DsfnError:
            return False

    def status(self) -> StatusDocument:
        """How the node is."""
        document: StatusDocument = self._json("GET", "/status")
        return document

    def deploy(
        self, bundle: bytes, entry: str, canary: Mapping[str, str]
    ) -> Iterator[StageDocument]:
        """Sends a bundle and yields the steps of its deployment as they happen. `canary`: the terms
        on which new revisions are tried, empty for none."""
        headers = {"Content-Type": BUNDLE_CONTENT_TYPE}
        with self._open(
            "POST",
            "/deployments",
            params={"entry": entry, **canary},
            content=bundle,
            headers=headers,
            timeout_s=CALL_TIMEOUT_S,
        ) as response:
            yield from json_lines(response)

    def functions(self) -> list[SummaryDocument]:
        """Every deployed function."""
        functions: list[SummaryDocument] = self._json("GET", "/functions")["functions"]
        return functions

    def function(self, name: str) -> FunctionDocument:
        """One function in full."""
        document: FunctionDocument = self._json("GET", _path(name))
        return document

    def delete(self, name: str) -> None:
        """Removes a function and its revisions."""
        self._json("DELETE", _path(name))

    def history(self, name: str) -> list[RevisionDocument]:
        """The function's revisions, newest first."""
        revisions: list[RevisionDocument] = self._json("GET", _path(name, "history"))["revisions"]
        return revisions

    def rollback(self, name: str, revision: str | None) -> RollbackDocument:
        """Sends all calls to `revision`, or to the one before the present one."""
        document: RollbackDocument = self._json(
            "POST", _path(name, "rollback"), body={"revision": revision}
        )
        return document

    def set_traffic(self, name: str, traffic: Mapping[str, int]) -> TrafficDocument:
        """Shares calls among revisions; the percentages add up to 100."""
        document: TrafficDocument = self._json(
            "PUT", _path(name, "traffic"), body={"traffic": dict(traffic)}
        )
        return document

    def logs(self, name: str, since_s: float | None, follow: bool) -> Iterator[LogDocument]:
        """What the function printed, oldest first; with `follow` it goes on."""
        params = {"follow": "true"} if follow else {}
        if since_s is not None:
            params["since"] = f"{since_s:g}"
        timeout_s = CALL_TIMEOUT_S if follow else ADMIN_TIMEOUT_S
        with self._open("GET", _path(name, "logs"), params=params, timeout_s=timeout_s) as response:
            yield from json_lines(response)

    def subscribe(
        self, name: str, filters: Mapping[str, Mapping[str, str]]
    ) -> SubscriptionDocument:
        """Routes events to a function; `filters` maps exact, prefix, suffix to attributes."""
        document: SubscriptionDocument = self._json(
            "POST", "/subscriptions", body={"function": name, **filters}
        )
        return document

    def unsubscribe(self, subscription: str) -> None:
        """Ends a subscription."""
        self._json("DELETE", f"/subscriptions/{quote(subscription, safe='')}")

    def snapshots(self) -> SnapshotsDocument:
        """Every snapshot that the node knows of."""
        document: SnapshotsDocument = self._json("GET", "/snapshots")
        return document

    def snapshot(self, name: str) -> SnapshotShowDocument:
        """One snapshot in full."""
        document: SnapshotShowDocument = self._json("GET", _snapshot_path(name))
        return document

    def verify_snapshot(self, name: str) -> VerifiedDocument:
        """Reads all of a snapshot and tries to restore it."""
        document: VerifiedDocument = self._work(_snapshot_path(name, "verify"), {}, _ignore)
        return document

    def verify_replicas(self, name: str) -> VerifiedReplicasDocument:
        """Compares what a function's replicas have in memory with what was captured."""
        document: VerifiedReplicasDocument = self._work(_path(name, "verify"), {}, _ignore)
        return document

    def push_snapshot(self, name: str, show: ShowProgress) -> CopiedDocument:
        """Copies a snapshot to the store."""
        document: CopiedDocument = self._work(_snapshot_path(name, "push"), {}, show)
        return document

    def pull_snapshot(self, name: str, show: ShowProgress) -> CopiedDocument:
        """Copies a snapshot from the store."""
        document: CopiedDocument = self._work(_snapshot_path(name, "pull"), {}, show)
        return document

    def prefetch_snapshots(self, names: list[str], show: ShowProgress) -> list[PrefetchedDocument]:
        """Brings the snapshots of functions as far up as the node can."""
        result = self._work("/snapshots/prefetch", {"functions": names}, show)
        functions: list[PrefetchedDocument] = result["functions"]
        return functions

    def pin_snapshot(self, name: str, pinned: bool) -> PinnedDocument:
        """Keeps a snapshot on the node's disk, or keeps it no more."""
        path = _snapshot_path(name, "pin" if pinned else "unpin")
        document: PinnedDocument = self._json("POST", path, body={})
        return document

    def prune_snapshots(self, dry_run: bool) -> PrunedDocument:
        """Deletes from the disk what is not needed there."""
        document: PrunedDocument = self._json("POST", "/snapshots/prune", body={"dry_run": dry_run})
        return document

    def timeline(self, name: str) -> TimelineDocument:
        """Where the time of a function's last cold calls went."""
        document: TimelineDocument = self._json("GET", _path(name, "timeline"))
        return document

    def rates(self) -> list[RatesRowDocument]:
        """The rate cards in the order in which they were set."""
        cards: list[RatesRowDocument] = self._json("GET", "/rates")["rates"]
        return cards

    def rate_card(self, number: int) -> RatesShowDocument:
        """A rate card with all that it says."""
        card: RatesShowDocument = self._json("GET", f"/rates/{number}")
        return card

    def set_rates(self, document: Mapping[str, Any]) -> RatesShowDocument:
        """Adds a rate card."""
        card: RatesShowDocument = self._json("POST", "/rates", body=document)
        return card

    def budgets(self, tenant: str | None) -> list[BudgetDocument]:
        """The budgets of all tenants, or of one."""
        params = {} if tenant is None else {"tenant": tenant}
        budgets: list[BudgetDocument] = self._json("GET", "/budgets", params=params)["budgets"]
        return budgets

    def set_budget(self, document: Mapping[str, Any]) -> BudgetDocument:
        """Sets a budget."""
        budget: BudgetDocument = self._json("POST", "/budgets", body=document)
        return budget

    def remove_budget(self, budget_id: str) -> None:
        """Takes a budget back."""
        self._json("DELETE", f"/budgets/{quote(budget_id, safe='')}")

    def keys(self) -> list[KeyDocument]:
        """Every API key, the oldest first."""
        keys: list[KeyDocument] = self._json("GET", "/keys")["keys"]
        return keys

    def create_key(self, document: Mapping[str, Any]) -> NewKeyDocument:
        """Makes an API key."""
        key: NewKeyDocument = self._json("POST", "/keys", body=document)
        return key

    def revoke_key(self, key_id: str) -> KeyDocument:
        """Takes an API key back."""
        key: KeyDocument = self._json("DELETE", f"/keys/{quote(key_id, safe='')}")
        return key

    @contextmanager
    def call(self, name: str, body: bytes, headers: Mapping[str, str]) -> Iterator[Reply]:
        """Calls a function; the reply's chunks are read inside the `with`."""
        with self._open(
            "POST", _path(name), content=body, headers=headers, timeout_s=CALL_TIMEOUT_S
        ) as response:
            yield reply_from(response.headers, response.iter_bytes())

    def call_later(self, name: str, body: bytes, headers: Mapping[str, str]) -> str:
        """Queues a call and returns the invocation's id."""
        with self._open(
            "POST", _path(name), content=body, headers={**headers, "Prefer": "respond-async"}
        ) as response:
            response.read()
            location: str = response.headers.get("location", "")
            return location.rpartition("/")[2]

    def invocation(self, call_id: str) -> InvocationDocument:
        """How far an asynchronous call is."""
        document: InvocationDocument = self._json("GET", f"/invocations/{quote(call_id, safe='')}")
        return document

    @contextmanager
    def result(self, call_id: str) -> Iterator[Reply]:
        """The stored answer of an asynchronous call that succeeded."""
        path = f"/invocations/{quote(call_id, safe='')}/result"
        with self._open("GET", path) as response:
            yield reply_from(response.headers, response.iter_bytes())

    def _work(self, path: str, body: Mapping[str, object], show: ShowProgress) -> Any:
        """Has the node do what takes long; `show` gets how far it is, in bytes of bytes."""
        content = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        with self._open(
            "POST", path, content=content, headers=headers, timeout_s=CALL_TIMEOUT_S
        ) as response:
            for line in json_lines(response):
                if "problem" in line:
                    raise problem_error(line["problem"])
                if "result" in line:
                    return line["result"]
                show(line["done_bytes"], line["total_bytes"])
        raise DsfnError("The node broke off the work; its log says why.")


def _path(name: str, *more: str) -> str:
    return "/".join(("/functions", quote(name, safe=""), *more))


def _snapshot_path(name: str, *more: str) -> str:
    return "/".join(("/snapshots", quote(name, safe=""), *more))


def _ignore(done_bytes: int, total_bytes: int) -> None:
    """For work that tells of no progress."""
