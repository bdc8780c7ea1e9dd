"""The commands of docs/events.md do what the page says, on a node of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ports import free_port

PAGE = Path(__file__).parents[2] / "docs" / "events.md"
WAIT_S = 30.0

Shell = Callable[[str], str]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Runs commands of the page in an empty directory; its node is stopped in the end."""
    port = free_port()
    environment = {**os.environ, "DSFN_DATA": str(tmp_path / "data")}
    environment.pop("DSFN_URL", None)

    def run(commands: str) -> str:
        text = commands.replace("127.0.0.1:8700", f"127.0.0.1:{port}")
        text = text.replace("dsfn up", f"dsfn up --port {port}")
        ended = subprocess.run(
            ["bash", "-ec", f'dsfn() {{ {sys.executable} -m dsfn "$@"; }}\n{text}'],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, f"{text}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    yield run
    run("dsfn down")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def test_the_commands_of_the_page_work(shell: Shell, tmp_path: Path) -> None:
    [source] = blocks("python")
    (tmp_path / "app.py").write_text(source)
    first, logs, structured, batched, direct, subscribe, later = blocks("sh")
    assert '{"events":1,"deliveries":1}' in shell(first)
    assert '{"events":1,"deliveries":1}' in shell(structured)
    assert '{"events":2,"deliveries":2}' in shell(batched)
    assert shell(direct) == '{"words":3}'
    assert "letter.sent" in shell(subscribe)
    ended = shell(later)
    assert '"state":"succeeded"' in ended and ended.endswith('{"words":3}')
    deadline = time.monotonic() + WAIT_S
    while (noted := shell(logs)).count("counted") < 4 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "counted 6 for 1" in noted and "counted 2 for 4" in noted
