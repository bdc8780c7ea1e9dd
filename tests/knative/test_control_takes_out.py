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
    return 1
"""


def objects(cluster: ActingCluster) -> set[str]:
    """The names of what the cluster has for functions."""
    return set(cluster.of_kind("Service")) | set(cluster.of_kind("Trigger"))


def test_a_leader_takes_out_what_one_before_has_deleted_or_not_made_live(
    s3: S3Server, tmp_path: Path, require: Callable[[str, str], None]
) -> None:
    require("kubernetes", "pip install 'dsfn[knative]'")
    store, port = s3_store(s3), free_port()
    secret = {**store.variables, "DSFN_API_KEY": KEY}

    def source(name: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(APP.format(name=name), encoding="utf-8")
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
            assert control.stop() == 0, control.log
        finally:
            control.end()
