"""`make demo-cluster`: dsfn on the cluster of KUBECONFIG, end to end.

Installs the platform, with a PostgreSQL and an S3 server of its own in the cluster; deploys the
library's functions, calls each from nothing and warm, has an event come through the Broker, lets
them scale to zero and come back, prints the bill, and takes everything away. KEEP=1 leaves it up,
and `dsfn context` set. DSFN_POSTGRES_IMAGE and DSFN_S3_IMAGE are for clusters that reach no
registry: `make store-images` builds them.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from dsfn.functions.errors import DsfnError
from dsfn.knative.cli.commands import add_commands
from dsfn.knative.cluster.connection import open_cluster
from dsfn.knative.cluster.objects import Objects
from dsfn.knative.manifests.platform import BROKER
from dsfn.knative.manifests.trigger import EVENTING
from dsfn.runtime.cli import app as cli
from dsfn.runtime.cli.contexts import load_contexts
from examples import demo_stores
from examples.demo import ROOT, SUBJECTS, Subject, ask, call, dsfn, show, title, wait_for

WORK = Path(".demo-cluster").absolute()
NAMESPACE = "dsfn-demo"
CONTEXT = "demo"
ZERO_S = 180.0
PATIENCE = 'park_after="6s", remove_after="6s"'
# What a recording's result is when somebody else sends it.
FOUND = {"duration_s": 2.0, "segments": [{"start_s": 0.5, "end_s": 1.5}]}


def main() -> None:
    """The demo from start to end."""
    begun, keep = time.monotonic(), os.environ.get("KEEP") == "1"
    os.chdir(ROOT)
    add_commands()
    with platform(keep):
        title("The library's functions")
        for subject in SUBJECTS:
            dsfn("deploy", str(impatient(subject)))
        dsfn("deploy", "examples/notify.py")
        title("From no pod at all, then warm")
        times = [(call_cold(subject), call(subject)) for subject in SUBJECTS]
        title("An event through the Broker")
        send_event()
        title("To zero and back")
        back = [call_cold(subject) for subject in SUBJECTS]
        title("Milliseconds from command to result")
        for subject, (cold_ms, warm_ms), back_ms in zip(SUBJECTS, times, back, strict=True):
            show(
                f"{subject.name:<14}{cold_ms:>10.1f} from zero{warm_ms:>10.1f} warm"
                f"{back_ms:>10.1f} from zero again"
            )
        title("The bill of the month")
        dsfn("bill", "report")
    kept = f"Left up: dsfn context is {CONTEXT}" if keep else "Nothing is left of it"
    show(f"\nThat took {time.monotonic() - begun:.0f} s. {kept}.")


@contextmanager
def platform(keep: bool) -> Iterator[None]:
    """The platform of the demo, gone at the end however that comes, unless it is to be kept."""
    usual = {name: os.environ.get(name) for name in ("XDG_CONFIG_HOME", "DSFN_API_KEY")}
    take_away()  # of a demo before
    key = f"dsfn_local_{secrets.token_hex(16)}"
    done = False
    try:
        WORK.mkdir()
        title("A platform, its ledger and its object store")
        told = {**demo_stores.start(Objects(open_cluster())), "DSFN_API_KEY": key}
        os.environ.update(told)
        dsfn("platform", "install", "--namespace", NAMESPACE, "--enable-features")
        os.environ["XDG_CONFIG_HOME"] = str(WORK / "config")
        choose(key)
        yield
        done = True
    except KeyboardInterrupt:
        raise SystemExit(cli.INTERRUPTED) from None
    finally:
        for name, value in usual.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        if keep and done:
            choose(key)
        else:
            take_away()


def choose(key: str) -> None:
    """Has commands talk to the demo's control service."""
    ask("context", "set", CONTEXT, f"kubernetes:///{NAMESPACE}", "--key", key)
    dsfn("context", "use", CONTEXT)


def take_away() -> None:
    """Takes the platform and its stores out of the cluster, removes what the demo wrote."""
    ask("platform", "uninstall", "--namespace", NAMESPACE, "--with-functions")
    demo_stores.stop(Objects(open_cluster()))
    if CONTEXT in load_contexts().named:
        ask("context", "remove", CONTEXT)
    if WORK.exists():
        for each in sorted(WORK.rglob("*"), reverse=True):
            each.rmdir() if each.is_dir() else each.unlink()
        WORK.rmdir()


def impatient(subject: Subject) -> Path:
    """A copy of a function's source whose pods go soon."""
    name = f'name="{subject.name}"'
    copy = WORK / subject.source.name
    source = subject.source.read_text(encoding="utf-8")
    copy.write_text(source.replace(name, f"{name}, {PATIENCE}"), encoding="utf-8")
    show(f"$ sed 's/{name}/{name}, {PATIENCE}/' {subject.source} > {copy.name}")
    return copy


def call_cold(subject: Subject) -> float:
    """Calls a function once it has scaled to zero."""
    wait_for(f"{subject.name} to have no pod", lambda: not pods(subject.name), ZERO_S)
    return call(subject)


def pods(function: str) -> list[str]:
    """The names of a function's pods that are not about to go."""
    query = {"labelSelector": f"serving.knative.dev/service={function}"}
    found = Objects(open_cluster()).list("v1", "Pod", NAMESPACE, query)
    return [
        each["metadata"]["name"] for each in found if "deletionTimestamp" not in each["metadata"]
    ]


def send_event() -> None:
    """Sends a CloudEvent to the Broker, whose Trigger calls `notify`."""
    objects = Objects(open_cluster())
    metadata = {"name": BROKER, "namespace": NAMESPACE}
    broker = objects.read({"apiVersion": EVENTING, "kind": "Broker", "metadata": metadata})
    assert broker is not None
    url = urlsplit(broker["status"]["address"]["url"])
    service, namespace, *_ = (url.hostname or "").split(".")
    event = {
        "specversion": "1.0",
        "id": secrets.token_hex(8),
        "type": "dev.dsfn.function.completed",
        "source": "/functions/detect-speech",
        "datacontenttype": "application/json",
        "data": FOUND,
    }
    kind = "application/cloudevents+json"
    show(f"$ curl -H 'Content-Type: {kind}' -d '{json.dumps(event)}' {url.geturl()}")
    # Brokers have addresses inside the cluster: the way there is through the API server.
    path = f"/api/v1/namespaces/{namespace}/services/{service}:80/proxy{url.path}"
    objects.cluster.request("POST", path, body=event, content_type=kind)
    wait_for("notify to print", lambda: bool(ask("logs", "notify")), 120.0)
    dsfn("logs", "notify")


if __name__ == "__main__":
    try:
        main()
    except DsfnError as error:
        sys.exit(error.message)
