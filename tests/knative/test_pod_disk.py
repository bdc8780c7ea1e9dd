"""A pod without volumes keeps what it writes within a limit, and writes where it may."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from as_in_pods import PYTHON
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


def test_a_pod_whose_function_keeps_files_without_names_ends(
    start_pod: StartPod, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    told = {"DSFN_DISK_BYTES": str(MAX_BYTES), "TMPDIR": str(scratch)}
    pod = start_pod("hoard", variables=told)
    assert pod.call(folder=str(scratch), size_bytes=MAX_BYTES + 1).json() == 0
    assert list(scratch.rglob("hoarded")) == []
    assert pod.wait() == 0
    assert f"where {MAX_BYTES} may be" in pod.log


def test_a_file_that_is_open_counts_once_and_until_it_is_closed(tmp_path: Path) -> None:
    with TemporaryFile(dir=tmp_path) as file, TemporaryFile(dir=tmp_path.parent):
        file.write(bytes(1_000_000))
        file.flush()
        again = os.dup(file.fileno())
        try:
            assert 1_000_000 <= used((tmp_path,)) < 1_200_000
        finally:
            os.close(again)
    assert used((tmp_path,)) < 200_000


# In a process without root's rights, for which nothing is shut.
_SHUT = """
import sys
from pathlib import Path
from dsfn.knative.pod.disk import used

place = Path(sys.argv[1])
for mode in (0o000, 0o600, 0o300):
    inside = place / f"{mode:o}"
    inside.mkdir()
    (inside / "full").write_bytes(bytes(1_000_000))
    inside.chmod(mode)
print(used((place,)))
"""


def test_what_is_in_directories_that_nobody_may_read_counts(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PYTHON, "-c", _SHUT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert 3_000_000 <= int(done.stdout) < 3_200_000


def test_directories_within_directories_count_and_end_where_no_path_leads(
    tmp_path: Path,
) -> None:
    deep, here = tmp_path, os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1100):
            os.mkdir("d", dir_fd=here)
            here, above = os.open("d", os.O_RDONLY, dir_fd=here), here
            os.close(above)
        assert used((tmp_path,)) >= 0
        name = "n" * 250
        for _ in range(16):
            os.mkdir(name, dir_fd=here)
            here, above = os.open(name, os.O_RDONLY, dir_fd=here), here
            os.close(above)
        with pytest.raises(OSError, match="name too long"):
            used((tmp_path,))
    finally:
        os.close(here)
        subprocess.run(["rm", "-rf", str(deep / "d")], check=True, timeout=60)


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
