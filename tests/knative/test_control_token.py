"""A replica of the control service whose token the cluster does not take any more: its pod was
deleted, and it serves for some moments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from acting_cluster import acting_cluster
from live_node import DeployFailed
from live_pod import s3_store
from node_on_cluster import KEY, start_control
from ports import free_port
from s3_server import S3Server

APP = """
import dsfn


@dsfn.function
def one() -> int:
    return 1
"""


def test_whoever_deploys_is_told_to_try_again_and_not_that_credentials_are_wrong(
    s3: S3Server, tmp_path: Path, require: Callable[[str, str], None]
) -> None:
    require("kubernetes", "pip install 'dsfn[knative]'")
    store = s3_store(s3)
    source = tmp_path / "app.py"
    source.write_text(APP, encoding="utf-8")
    secret = {**store.variables, "DSFN_API_KEY": KEY}
    with acting_cluster(tmp_path / "acting", secret) as cluster:
        control = start_control(tmp_path / "control", cluster, store, free_port())
        try:
            cluster.knows_users = False
            with pytest.raises(DeployFailed) as failed:
                control.deploy(source)
            problem = failed.value.problem
            assert (problem["status"], problem["type"]) == (
                503,
                "https://dsfn.dev/errors/unavailable",
            )
            assert problem["detail"] == (
                "This replica of the control service is ending, or its ServiceAccount is another"
                " one: the cluster does not take its token. Another replica takes over in some"
                " seconds: try again."
            )
            cluster.knows_users = True
            control.deploy(source)
            assert control.value("one") == 1
            assert control.stop() == 0, control.log
        finally:
            control.end()
