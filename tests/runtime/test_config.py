from __future__ import annotations

from pathlib import Path

import pytest

from dsfn.functions.errors import UsageError
from dsfn.runtime.config import load_settings


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


def test_limits_are_read_by_name(tmp_path: Path) -> None:
    write(tmp_path, "[limits]\nmax_body_bytes = 1000\nqueue_timeout_s = 2\n")
    limits = load_settings(data_dir=tmp_path).limits
    assert (limits.max_body_bytes, limits.queue_timeout_s) == (1000, 2.0)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("port = 70000", "70000"),
        ("prot = 1", "prot"),
        ("[limits]\nmax_boddy = 1", "max_boddy"),
        ('[limits]\nmax_body_bytes = "big"', "max_body_bytes"),
        ("[limits]\nspares = -1", "spares"),
        ("= nonsense", "TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(UsageError, match=word):
        load_settings(data_dir=write(tmp_path, text))
