"""The PostgreSQL and the S3 server of `make demo-cluster`: those of `stores/stores.yaml`."""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
from pathlib import Path

import yaml

from dsfn.knative.cluster.objects import Objects
from dsfn.knative.cluster.waiting import wait_gone, wait_ready
from dsfn.knative.manifests.words import Manifest
from examples.demo import show

STORES = Path(__file__).parent / "stores" / "stores.yaml"
START_S = 300.0
_BUCKET = "dsfn"


def start(objects: Objects) -> dict[str, str]:
    """Starts both; what a platform is told of them, as its environment has it. Raises
    `ClusterError`."""
    namespace, *rest = _manifests()
    told = {name: secrets.token_hex(16) for name in ("password", "key", "secret")}
    show(f"$ kubectl apply -f {STORES.relative_to(Path.cwd())}")
    for each in (namespace, _secret(namespace, told), *rest):
        objects.apply(each)
    for each in rest:
        wait_ready(objects, each, START_S, show)
    inside = f"{namespace['metadata']['name']}.svc.cluster.local"
    return {
        "DSFN_LEDGER": f"postgresql://dsfn:{told['password']}@postgres.{inside}:5432/postgres",
        "DSFN_STORE": f"s3://{_BUCKET}/demo",
        "AWS_ACCESS_KEY_ID": told["key"],
        "AWS_SECRET_ACCESS_KEY": told["secret"],
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://s3.{inside}:7070",
    }


def stop(objects: Objects) -> None:
    """Stops both, and what they kept goes with them. Raises `ClusterError`."""
    namespace = _manifests()[0]
    if objects.delete(namespace):
        wait_gone(objects, namespace, START_S, show)


def _manifests() -> list[Manifest]:
    """Their objects, the namespace first, with the images that the environment names."""
    found: list[Manifest] = list(yaml.safe_load_all(STORES.read_text(encoding="utf-8")))
    for each in found:
        name = each["metadata"]["name"]
        image = os.environ.get(f"DSFN_{name.upper()}_IMAGE")
        if each["kind"] == "Deployment" and image:
            pod = each["spec"]["template"]["spec"]
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                container["image"] = image
    return found


def _secret(namespace: Manifest, told: dict[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "stores", "namespace": namespace["metadata"]["name"]},
        "data": {name: b64encode(value.encode()).decode() for name, value in told.items()},
    }
