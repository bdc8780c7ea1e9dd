"""The platform's Secrets, whose keys are environment variables."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256

from dsfn.billing.address import Address, require_address
from dsfn.billing.signing import SigningKey
from dsfn.functions.errors import UsageError
from dsfn.functions.urls import read_http_url
from dsfn.knative.manifests.accounts import CONTROL, CONTROL_NAME
from dsfn.knative.manifests.agent import AGENT, AGENT_NAME
from dsfn.knative.manifests.function import FUNCTION, FUNCTION_ACCOUNT
from dsfn.knative.manifests.network import agents_namespace
from dsfn.knative.manifests.settings import PlatformSettings
from dsfn.knative.manifests.words import Manifest, labels

API_KEY, LEDGER, LEDGER_KEY = "DSFN_API_KEY", "DSFN_LEDGER", "DSFN_LEDGER_KEY"
# As boto3 has them.
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_SERVERS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
_TOKEN = "AWS_SESSION_TOKEN"
AWS = (*_CREDENTIALS, _TOKEN, *_REGIONS, *_SERVERS)
# Told as "", they are none, whatever they were before.
OPTIONAL = (_TOKEN, *_REGIONS, *_SERVERS)
# All that can be told.
VARIABLES = (API_KEY, LEDGER, LEDGER_KEY, *AWS)
_LOCAL_KEY = re.compile(r"dsfn_local_[A-Za-z0-9_-]{16,}")
# Functions and agents ask the control service and read the store; the books are not theirs.
_SHARED = (API_KEY, *AWS)
_REGION = re.compile(r"(?![0-9]+$)(?!-)[a-zA-Z0-9-]{1,63}(?<!-)")  # as boto3 has it


def require_sound_secrets(told: Mapping[str, str]) -> None:
    """Raises `UsageError` for a variable that is told and cannot be right. What may be secret is
    not shown."""
    for name, value in told.items():
        _require_text(name, value)
    if API_KEY in told and _LOCAL_KEY.fullmatch(told[API_KEY]) is None:
        raise UsageError(
            f"{API_KEY} must begin with dsfn_local_, and go on with 16 or more letters, digits, -"
            " and _ that nobody guesses."
        )
    for name in (*_CREDENTIALS, _TOKEN):
        if not all("!" <= each <= "~" for each in told.get(name, "")):
            raise UsageError(f"{name} has characters that no key has, such as blanks.")
    if LEDGER_KEY in told:
        SigningKey.of_pem(told[LEDGER_KEY].encode(), LEDGER_KEY)
    if LEDGER in told:
        require_ledger(told[LEDGER])
    for name in _SERVERS:
        if told.get(name):
            _require_server(told[name], name)
    for name in _REGIONS:
        if told.get(name) and _REGION.fullmatch(told[name]) is None:
            raise UsageError(f"{name} is {told[name]!r}, and no region, such as eu-central-1.")


def together(before: Mapping[str, str], told: Mapping[str, str]) -> dict[str, str]:
    """What is told now, and before. A session's token is of the credentials that it came with."""
    if any(told.get(name, before.get(name)) != before.get(name) for name in _CREDENTIALS):
        before = {name: value for name, value in before.items() if name != _TOKEN}
    return {name: value for name, value in {**before, **told}.items() if value}


def require_whole_credentials(told: Mapping[str, str]) -> None:
    """Raises `UsageError` for one half of the store's credentials. Without any, pods have them from
    elsewhere, such as a cloud."""
    there = [name for name in _CREDENTIALS if name in told]
    if len(there) == 1:
        (missing,) = set(_CREDENTIALS).difference(there)
        raise UsageError(f"{there[0]} is told without {missing}: say both, or neither.")


def require_ledger(url: str) -> None:
    """Raises `UsageError` for what is no address of a database that pods reach."""
    require_address(url, LEDGER)
    if Address(url).is_of_this_machine_alone:
        raise UsageError(
            f"{LEDGER} names no host, and a pod has no PostgreSQL beside it: say"
            " postgresql://USER:PASSWORD@HOST/DATABASE."
        )


def secret_objects(settings: PlatformSettings) -> tuple[Manifest, ...]:
    """The control service's Secret, the functions' and the agents'."""
    namespace, told = settings.namespace, settings.secrets
    shared = {name: told[name] for name in _SHARED if name in told}
    agents = agents_namespace(namespace)
    return (
        _secret(CONTROL_NAME, namespace, CONTROL, told),
        _secret(FUNCTION_ACCOUNT, namespace, FUNCTION, shared),
        *((_secret(AGENT_NAME, agents, AGENT, shared),) if settings.agents else ()),
    )


def read_secret(secret: Manifest) -> dict[str, str]:
    """The variables of a Secret."""
    data = secret.get("data") or {}
    return {name: b64decode(value).decode() for name, value in data.items()}


def digest_of(secrets: Mapping[str, str]) -> str:
    """Another one when a variable is: pods that have it as an annotation are started anew then."""
    return sha256(json.dumps(dict(secrets), sort_keys=True).encode()).hexdigest()[:16]


def _require_server(url: str, name: str) -> None:
    read_http_url(url, name)
    if set("?#") & set(url):
        raise UsageError(f"{name} is {url!r}, and a server's URL has no ? and no #.")


def _require_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name} is not text in UTF-8.") from None


def _secret(name: str, namespace: str, component: str, told: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": labels(component)},
        "type": "Opaque",
        "data": {key: b64encode(value.encode()).decode() for key, value in sorted(told.items())},
    }
