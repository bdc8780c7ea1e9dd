"""What an API server's refusal means, as one error with one sentence."""

from __future__ import annotations

import json
import re
from typing import Any

from dsfn.functions.errors import (
    ClusterRefused,
    ClusterUnreachable,
    DsfnError,
    MissingRights,
    NotFound,
    Unavailable,
)

# services.serving.knative.dev "a" is forbidden: User "eve" cannot patch resource "services" in
# API group "serving.knative.dev" in the namespace "dsfn"
_MAY_NOT = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)"'
    r'(?: in API group "(?P<group>[^"]*)")?(?: in the namespace "(?P<namespace>[^"]+)")?'
)
# Of a namespace itself an API server says "in the namespace", too; it lies in the cluster.
_NAMESPACES = ("", "namespaces")
_WEBHOOK = re.compile(r'admission webhook "[^"]*" denied the request: ')
# Knative's words for fields of pods whose feature flag is off.
_NOT_ALLOWED = "must not set the field"
_ALLOWS = "; `dsfn platform upgrade --enable-features` has Knative allow them"
_UNAVAILABLE = (429, 502, 503, 504)
# A Lease of the control service that nobody renews ends by then.
_TAKEN_OVER_S = 15.0


def refusal_of(status: int, body: bytes | str | None, where: str) -> DsfnError:
    """The error for an answer with this status; `where`: which cluster, for the sentence."""
    document = _document(body)
    message = one_line(document.get("message") or f"it answered with status {status}")
    if status == 401:
        return MissingRights(
            f"The cluster of {where} does not know the user: its credentials are wrong or too old."
        )
    if status == 403 and (found := _MAY_NOT.search(message)):
        return _missing_rights(found)
    if status == 404:
        details = document.get("details") or {}
        kind, name = str(details.get("kind", "")), str(details.get("name", ""))
        return NotFound(f"The cluster of {where}: {message}.", kind=kind, name=name)
    if status in _UNAVAILABLE:
        return ClusterUnreachable(
            f"The cluster of {where} cannot answer now: {message}.", reason=message
        )
    reason = _WEBHOOK.sub("", message) + (_ALLOWS if _NOT_ALLOWED in message else "")
    return ClusterRefused(f"The cluster of {where} refuses that: {reason}.", reason=reason)


def own_token_refused() -> Unavailable:
    """The error of the control service, whose users know nothing of its token. That ends with its
    pod: what it serves in its last moments is not the users' mistake."""
    return Unavailable(
        "This replica of the control service is ending, or its ServiceAccount is another one: the"
        " cluster does not take its token. Another replica takes over in some seconds: try again.",
        retry_after_s=_TAKEN_OVER_S,
    )


def one_line(text: object) -> str:
    """A cluster's words without line breaks and a full stop at their end."""
    return " ".join(str(text).split()).rstrip(".")


def _missing_rights(found: re.Match[str]) -> MissingRights:
    group, namespace = found["group"] or "", found["namespace"] or ""
    if (group, found["resource"]) == _NAMESPACES:
        namespace = ""
    resource = f"{found['resource']}.{group}" if group else found["resource"]
    where = f"in the namespace {namespace}" if namespace else "in the cluster"
    role = "Role" if namespace else "ClusterRole"
    return MissingRights(
        f"{found['user']} may not {found['verb']} {resource} {where}: whoever administers the"
        f" cluster can grant it with a {role}.",
        user=found["user"],
        verb=found["verb"],
        resource=resource,
        namespace=namespace,
    )


def _document(body: bytes | str | None) -> dict[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
