"""Two replicas of the control service: one leads, whichever of them is asked, and nothing is lost
when it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_control import LiveControl, live_control
from live_pod import s3_store
from s3_server import S3Server

APPS = Path(__file__).parent / "apps"
BOTH = APPS / "both.py"


@pytest.fixture
def control(
    s3: S3Server, database: str, tmp_path: Path, require: Callable[[str, str], None]
) -> Iterator[LiveControl]:
    require("kubernetes", "pip install 'dsfn[knative]'")
    with live_control(tmp_path / "platform", s3_store(s3), database) as control:
        yield control


@pytest.fixture
def both(control: LiveControl) -> LiveControl:
    """Both replicas are there, and one leads."""
    for each in control.replicas:
        each.start()
    control.leader()
    return control


def test_whoever_is_asked_the_leader_answers(both: LiveControl) -> None:
    leader = both.leader()
    follower = both.other(leader)
    with both.client(follower.url) as http:
        deployed = both.deploy(http, BOTH)
        assert deployed["shout"]["url"] == "http://shout.functions.example.com"
        answer = http.post("/functions/measure", json={"text": "four"})
        assert (answer.status_code, answer.json()) == (200, 4)
        streamed = http.post("/functions/count-up", json={"to": 3})
        assert streamed.text.count("data:") == 4
    with both.client(leader.url) as http:
        assert http.get("/functions/measure").json()["name"] == "measure"
    assert len(both.rows("measure")) == 1
