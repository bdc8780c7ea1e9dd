"""What one leader brings to a cluster, or is taking out of it, the next one takes out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
from acting_cluster import ActingCluster, acting_cluster
from deadlines import eventually
from live_node import LiveNode
from live_pod import s3_store
from node_on_cluster import KEY, start_control
from ports import free_port
from s3_server import S3Server

APP = """
import dsfn


@dsfn.on(type="word.due")
@dsfn.function
def {name}(word: str = "") -> int:
    return {value}
"""


def objects(cluster: ActingCluster) -> set[str]:
    """The names of what the cluster has for functions."""
    return set(cluster.of_kind("Service")) | set(cluster.of_kind("Trigger"))


def template(cluster: ActingCluster) -> str:
    """What Knative calls the newest revision of the function that stays."""
    name: str = cluster.of_kind("Service")["stays"]["spec"]["template"]["metadata"]["name"]
    return name


def test_a_leader_takes_out_what_one_before_has_deleted_or_not_made_live(
    s3: S3Server, tmp_path: Path, require: Callable[[str, str], None]
) -> None:
    require("kubernetes", "pip install 'dsfn[knative]'")
    store, port = s3_store(s3), free_port()
    secret = {**store.variables, "DSFN_API_KEY": KEY}

    def source(name: str, value: int = 1) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(APP.format(name=name, value=value), encoding="utf-8")
        return path

    def start() -> LiveNode:
        return start_control(tmp_path / "control", cluster, store, port)

    with acting_cluster(tmp_path / "acting", secret) as cluster, ThreadPoolExecutor(1) as threads:
        control = start()
        try:
            for name in ("stays", "goes"):
                control.deploy(source(name))
            # Deleted, and the cluster was not told before the end.
            cluster.is_away = True
            assert control.http.delete("/functions/goes").status_code == 204
            control.kill()
            cluster.is_away = False
            assert objects(cluster) == {"stays", "goes"}
            control = start()
            eventually(lambda: objects(cluster) == {"stays"}, "the deleted one to be gone")
            # Brought there, and the end came before it was ready.
            cluster.unready.add("comes")
            deploying = threads.submit(control.deploy, source("comes"))
            eventually(lambda: "comes" in objects(cluster), "the new one to be there")
            control.kill()
            with suppress(httpx.HTTPError):
                deploying.result()
            control = start()
            eventually(lambda: objects(cluster) == {"stays"}, "the new one to be gone")
            assert control.value("stays") == 1
            # The same of one that was there before: that comes back, and the other one goes.
            before, revisions = template(cluster), set(cluster.of_kind("Revision"))
            cluster.unready.add("stays")
            deploying = threads.submit(control.deploy, source("stays", 2))
            eventually(lambda: template(cluster) != before, "the next one to be there")
            control.kill()
            with suppress(httpx.HTTPError):
                deploying.result()
            cluster.unready.clear()
            cluster.is_away = True
            control = start()
            eventually(lambda: "is not as it was" in control.log, "it to be tried")
            cluster.is_away = False
            eventually(lambda: template(cluster) == before, "the one before to be back")
            gone = "the next one to be gone"
            eventually(lambda: set(cluster.of_kind("Revision")) == revisions, gone)
            assert control.value("stays") == 1
            # Made live, and the end came right after.
            control.deploy(source("stays", 2))
            live = template(cluster)
            control.kill()
            control = start()
            assert control.value("stays") == 2
            assert control.stop() == 0, control.log
            assert template(cluster) == live != before
        finally:
            control.end()
