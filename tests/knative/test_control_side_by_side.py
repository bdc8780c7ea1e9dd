"""What does not come up on a cluster holds up its own function alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from acting_cluster import acting_cluster
from deadlines import eventually
from live_pod import s3_store
from node_on_cluster import KEY, start_control
from ports import free_port
from s3_server import S3Server

APP = """
import dsfn


@dsfn.function
def {name}() -> int:
    return 1
"""


def test_a_function_is_deployed_while_another_does_not_come_up(
    s3: S3Server, tmp_path: Path, require: Callable[[str, str], None]
) -> None:
    require("kubernetes", "pip install 'dsfn[knative]'")
    store, port = s3_store(s3), free_port()
    secret = {**store.variables, "DSFN_API_KEY": KEY}

    def source(name: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(APP.format(name=name), encoding="utf-8")
        return path

    with acting_cluster(tmp_path / "acting", secret) as cluster, ThreadPoolExecutor(1) as threads:
        control = start_control(tmp_path / "control", cluster, store, port)
        try:
            cluster.unready.add("slow")
            deploying = threads.submit(control.deploy, source("slow"))
            eventually(lambda: "slow" in cluster.of_kind("Service"), "the slow one to be there")
            control.deploy(source("quick"))
            assert control.value("quick") == 1
            assert not deploying.done()
            cluster.unready.clear()
            deploying.result()
            assert control.value("slow") == 1
            assert control.stop() == 0, control.log
        finally:
            control.end()
