"""A pod without volumes keeps what it writes within a limit, and writes where it may."""

from __future__ import annotations

from pathlib import Path

import pytest
from live_pod import StartPod

from dsfn.functions.errors import UsageError
from dsfn.knative.pod.disk import used
from dsfn.knative.pod.settings import read_settings

MAX_BYTES = 20_000_000
GIVEN = {
    "DSFN_STORE": "s3://bucket/prefix",
    "DSFN_REVISION": "0" * 64,
    "DSFN_CONTROL": "http://control",
}


def test_a_pod_that_has_written_too_much_ends(start_pod: StartPod, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    told = {"DSFN_DISK_BYTES": str(MAX_BYTES), "TMPDIR": str(scratch)}
    pod = start_pod("rest", variables=told)
    assert pod.call(seconds=0).status_code == 200
    (scratch / "deep").mkdir()
    (scratch / "deep" / "large").write_bytes(bytes(MAX_BYTES + 1))
    assert pod.wait() == 0
    assert f"where {MAX_BYTES} may be" in pod.log


def test_what_counts_is_what_files_take_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "full").write_bytes(bytes(1_000_000))
    with (tmp_path / "a" / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "linked").symlink_to("/usr")
    assert 1_000_000 <= used((tmp_path, tmp_path / "none")) < 1_200_000


def test_where_the_usual_directory_cannot_be_written_to_memory_is_taken() -> None:
    assert not Path("/dsfn").exists()
    assert read_settings(dict(GIVEN)).data_dir == Path("/dev/shm/dsfn")
    told = {**GIVEN, "DSFN_DATA": "/somewhere"}
    assert read_settings(told).data_dir == Path("/somewhere")


@pytest.mark.parametrize("text", ["2GiB", "-1", "٣"])
def test_a_limit_that_is_no_number(text: str) -> None:
    with pytest.raises(UsageError, match="DSFN_DISK_BYTES"):
        read_settings({**GIVEN, "DSFN_DISK_BYTES": text})


@pytest.mark.parametrize(
    "address",
    ["agent.sock", "tcp://agent", "tcp://:8701", "tcp://a:b", "http://a:1", "tcp://a:1/x"],
)
def test_an_address_of_an_agent_that_is_none(address: str) -> None:
    with pytest.raises(UsageError, match="DSFN_AGENT"):
        read_settings({**GIVEN, "DSFN_AGENT": address})
