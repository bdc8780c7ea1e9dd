"""A node alone on its directory and port; who comes second hears a sentence."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from live_node import LiveNode, environment


def refused(*arguments: str) -> tuple[int, str]:
    """The exit code and the words of `dsfn up`, which must end at once."""
    done = subprocess.run(
        [sys.executable, "-m", "dsfn", "up", *arguments],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip()


def test_a_second_node_on_one_directory_is_refused_and_the_first_goes_on(node: LiveNode) -> None:
    code, words = refused("--port", "0", "--data", str(node.data))
    assert code == 2
    assert words.startswith(f"Another node already uses {node.data};")
    assert words.count("\n") == 0
    assert node.http.get("/health/readiness").status_code == 200
    assert (node.data / "node.json").exists()


def test_a_taken_port_is_a_sentence(node: LiveNode, tmp_path: Path) -> None:
    port = node.url.rpartition(":")[2]
    code, words = refused("--port", port, "--data", str(tmp_path / "data"))
    assert code == 2
    assert words == (
        f"The node cannot listen on 127.0.0.1 port {port}: address already in use."
        " Choose another with --port."
    )
    assert not (tmp_path / "data" / "node.json").exists()


def test_a_port_held_by_another_program_is_a_sentence_too(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        code, words = refused("--port", port, "--data", str(tmp_path / "data"))
    assert (code, f"port {port}: address already in use" in words) == (2, True)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("[limits]\nspeed = 3\n", "speed"),
        ("[limits]\nqueue_timeout_s = 'long'\n", "queue_timeout_s"),
        ("colour = 'red'\n", "colour"),
        ("[limits\n", "config.toml"),
        ("[billing.devices.cpu]\npico_per_second = 1.5\n", "pico_per_second"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_a_sentence(
    tmp_path: Path, config: str, word: str
) -> None:
    (tmp_path / "config.toml").write_text(config)
    code, words = refused("--port", "0", "--data", str(tmp_path))
    assert code == 2
    assert word in words
    assert words.count("\n") == 0


def test_a_data_directory_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, words = refused("--port", "0", "--data", str(tmp_path / "file"))
    assert code == 2
    assert "cannot be used as a data directory" in words or "cannot be read" in words


def test_a_database_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("this is no database, but it is long enough for one\n" * 99)
    code, words = refused("--port", "0", "--data", str(tmp_path))
    assert code == 2
    assert words == f"{tmp_path / 'ledger.db'} is not a database of dsfn; move it away."


def test_an_address_that_is_not_of_this_machine_is_a_sentence(tmp_path: Path) -> None:
    code, words = refused("--host", "192.0.2.1", "--port", "0", "--data", str(tmp_path))
    assert code == 2
    assert "cannot listen on 192.0.2.1" in words
