from __future__ import annotations

from pathlib import Path

import pytest

from dsfn.functions.errors import UsageError
from dsfn.runtime.config import GpuSettings, SnapshotSettings, load_settings
from dsfn.runtime.libraries import LIBRARIES


def write(directory: Path, text: str) -> Path:
    (directory / "config.toml").write_text(text)
    return directory


def test_a_directory_without_a_configuration_gets_the_defaults(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    assert (settings.host, settings.port) == ("127.0.0.1", 8700)


def test_arguments_win_over_the_file(tmp_path: Path) -> None:
    write(tmp_path, 'port = 9000\nhost = "0.0.0.0"\n')
    settings = load_settings(port=0, data_dir=tmp_path)
    assert (settings.host, settings.port) == ("0.0.0.0", 0)


def test_what_workers_are_born_with_is_all_that_there_is_or_what_the_file_says(
    tmp_path: Path,
) -> None:
    assert load_settings(data_dir=tmp_path).libraries == LIBRARIES
    write(tmp_path, 'libraries = ["numpy"]\n')
    assert load_settings(data_dir=tmp_path).libraries == ("numpy",)


def test_limits_are_read_by_name(tmp_path: Path) -> None:
    write(tmp_path, "[limits]\nmax_body_bytes = 1000\nqueue_timeout_s = 2\n")
    limits = load_settings(data_dir=tmp_path).limits
    assert (limits.max_body_bytes, limits.queue_timeout_s) == (1000, 2.0)


def test_the_memory_of_gpus_is_read_with_its_units(tmp_path: Path) -> None:
    write(tmp_path, '[gpu]\ndevices = ["cuda:1"]\narena = "2GiB"\nreserve = 1000\nwarm = 0\n')
    assert load_settings(data_dir=tmp_path).gpu == GpuSettings(
        devices=("cuda:1",), arena_bytes=2 << 30, reserve_bytes=1000, warm=0
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("port = 70000", "70000"),
        ("prot = 1", "prot"),
        ('libraries = "torch"', "list of texts"),
        ('libraries = ["torch", "os"]', "names 'os'"),
        ("[limits]\nmax_boddy = 1", "max_boddy"),
        ('[limits]\nmax_body_bytes = "big"', "max_body_bytes"),
        ("[limits]\nspares = -1", "spares"),
        ("= nonsense", "TOML"),
        ('[snapshots]\nstore = "https://bucket"', "s3://BUCKET"),
        ('[snapshots]\nstore = "s3://"', "s3://BUCKET"),
        ('[snapshots]\nstore = "file://relative"', "file:///DIRECTORY"),
        ('[snapshots]\nstore = "file:///"', "file:///DIRECTORY"),
        ('[snapshots]\nstore = "s3:///p"', "neither file:///DIRECTORY nor s3://BUCKET/PREFIX"),
        ('[snapshots]\nstore = "s3://bucket/a#b"', "snapshots.store is .* whose prefix"),
        ("[snapshots]\nstore = 7", "snapshots.store must be a text"),
        ('[snapshots]\nendpoint_url = "minio:9000"', "minio:9000"),
        ('[snapshots]\nendpoint_url = "http://"', "snapshots.endpoint_url is 'http://', and not"),
        ('[snapshots]\nmax_disk = "1GiB"', "unknown entry snapshots.max_disk"),
        ("[snapshots]\nmax_disk_bytes = -1", "snapshots.max_disk_bytes"),
        ('[blobs]\nstore = "file:///blobs"', "s3://BUCKET"),
        ('[blobs]\nstore = "s3://a bucket"', "blobs.store is 's3://a bucket', and not s3://BUCKET"),
        ("[blobs]\nstore = 7", "blobs.store must be a text"),
        ('[blobs]\nendpoint_url = "minio:9000"', "blobs.endpoint_url"),
        ('[blobs]\nmax_disk_bytes = "1GiB"', "unknown entry blobs.max_disk_bytes"),
        ('[gpu]\ndevices = "cuda:0"', "gpu.devices"),
        ('[gpu]\ndevices = ["cuda:0", "cuda:0"]', "twice"),
        ('[gpu]\narena = "much"', "gpu.arena"),
        ('[gpu]\narena = "0B"', "gpu.arena"),
        ("[gpu]\nreserve = -1", "gpu.reserve"),
        ("[gpu]\nwarm = 17", "gpu.warm"),
        ("[gpu]\ncolour = 1", "gpu.colour"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        load_settings(data_dir=write(tmp_path, text))


def test_the_store_of_snapshots_and_the_limit_of_the_disk_are_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        '[snapshots]\nstore = "s3://bucket/some/prefix"\nendpoint_url = "http://minio:9000"\n'
        'region = "eu-central-1"\nmax_disk_bytes = "200GiB"\n',
    )
    assert load_settings(data_dir=tmp_path).snapshots == SnapshotSettings(
        store="s3://bucket/some/prefix",
        endpoint_url="http://minio:9000",
        region="eu-central-1",
        max_disk_bytes=200 << 30,
    )
