"""Deploying from end to end: what fails changes nothing, what works serves."""

from __future__ import annotations

import hashlib
import re
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from deadlines import eventually
from live_node import DeployFailed, LiveNode

GREETER = """
import dsfn


@dsfn.function
def greeter(name: str) -> str:
    return f"Hello {name}"
"""

LOADER = """
import os
import sys
import time

import dsfn


@dsfn.function(name="greeter")
class Greeter:
    def setup(self) -> None:
        print("loading")
        load()

    def __call__(self, name: str) -> str:
        return "never"


def load() -> None:
    {}
"""


RESTORER = """
import time

import dsfn


@dsfn.function(name="greeter")
class Greeter:
    def setup(self) -> None:
        self.greeting = "Hello"

    def after_restore(self) -> None:
        time.sleep(3600)

    def __call__(self, name: str) -> str:
        return "never"
"""


def app(place: Path, source: str, **siblings: str) -> Path:
    """A file app.py of this source, with its siblings."""
    for name, text in siblings.items():
        (place / f"{name}.py").write_text(text, encoding="utf-8")
    path = place / "app.py"
    path.write_text(source, encoding="utf-8")
    return path


def foreign_files(traceback: str) -> set[str]:
    """The files of a traceback that are not the author's."""
    return set(re.findall(r'File "([^"]+)"', traceback)) - {"app.py", "helper.py"}


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("def greeter(name: str -> str:\n", "source-error", ["line 1", "SyntaxError"]),
        ("import dsfn\n\x00\n", "source-error", ["null bytes"]),
        (
            "import dsfn\nimport no_such_module\n",
            "source-error",
            ["line 2", "ModuleNotFoundError: No module named 'no_such_module'"],
        ),
        ("import helper\n", "source-error", ["helper.py", "ZeroDivisionError"]),
        ("import sys\nsys.exit(3)\n", "source-error", ["line 2", "SystemExit: 3"]),
        (LOADER.format("raise OSError('no model here')"), "setup-error", ["in load", "no model"]),
        (LOADER.format("sys.exit('enough')"), "setup-error", ["SystemExit: enough"]),
        (GREETER.replace("-> str", ""), "definition-error", ["greeter"]),
        (GREETER.replace("@dsfn.function", "@dsfn.function(cats=9)"), "definition-error", ["cats"]),
    ],
    ids=[
        "syntax error",
        "null byte",
        "import error",
        "error in a helper",
        "exit at import",
        "setup raises",
        "setup exits",
        "no annotation",
        "unknown option",
    ],
)
def test_source_that_fails_shows_its_authors_traceback_and_the_old_revision_serves(
    node: LiveNode, tmp_path: Path, source: str, error: str, words: list[str]
) -> None:
    before = node.deploy(app(tmp_path, GREETER))["greeter"]
    with pytest.raises(DeployFailed) as caught:
        node.deploy(app(tmp_path, source, helper="1 / 0\n"))
    problem = caught.value.problem
    assert (problem["type"], problem["status"]) == (f"https://dsfn.dev/errors/{error}", 422)
    told = f"{problem['detail']}\n{problem.get('traceback', '')}"
    assert all(word in told for word in words), told
    assert not foreign_files(told), told
    assert node.value("greeter", name="you") == "Hello you"
    assert node.describe("greeter")["traffic"] == {before["revision"]: 100}


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        (
            "print('reading')\nimport os\nos._exit(7)\n",
            "source-error",
            "Importing app.py ended the process with exit code 7. The last that it printed:\n"
            "reading",
        ),
        (
            "while True:\n    pass\n",
            "source-error",
            "Importing app.py took longer than 5 s.",
        ),
        (
            LOADER.format("os._exit(7)"),
            "setup-error",
            "setup() of greeter ended the process with exit code 7. The last that it printed:\n"
            "loading",
        ),
        (
            LOADER.format("time.sleep(3600)"),
            "setup-error",
            "setup() of greeter took longer than 5 s. The last that it printed:\nloading",
        ),
        (
            LOADER.format("os.kill(os.getpid(), 9)"),
            "setup-error",
            "setup() of greeter was ended by signal SIGKILL. The last that it printed:\nloading",
        ),
        (RESTORER, "setup-error", "Restoring greeter took longer than 5 s."),
    ],
    ids=[
        "exit at import",
        "hang at import",
        "exit in setup",
        "hang in setup",
        "kill in setup",
        "hang in after_restore",
    ],
)
def test_source_that_hangs_or_ends_its_process_is_said_to_and_the_old_revision_serves(
    node: LiveNode, tmp_path: Path, source: str, error: str, words: str
) -> None:
    node.deploy(app(tmp_path, GREETER))
    before = node.processes()
    with pytest.raises(DeployFailed) as caught:
        node.deploy(app(tmp_path, source))
    problem = caught.value.problem
    assert (problem["type"], problem["detail"]) == (f"https://dsfn.dev/errors/{error}", words)
    assert node.value("greeter", name="you") == "Hello you"
    hung = "took longer" in words
    told = problem["traceback"] or ""
    assert ('File "app.py", line' in told, told.endswith("KeyboardInterrupt\n")) == (hung, hung)
    assert not foreign_files(told), told
    # What hung is gone; there may be new spare workers.
    eventually(lambda: len(node.processes()) <= len(before) + 2, "the job's process to end")


def test_a_file_with_one_bad_function_deploys_none_of_them(node: LiveNode, tmp_path: Path) -> None:
    both = GREETER.replace("greeter", "companion") + LOADER.format("raise ValueError('no')")
    node.deploy(app(tmp_path, GREETER))
    with pytest.raises(DeployFailed):
        node.deploy(app(tmp_path, both))
    assert node.call("companion", name="you").status_code == 404
    assert node.value("greeter", name="you") == "Hello you"


def test_the_same_source_again_is_the_same_revision(node: LiveNode, tmp_path: Path) -> None:
    source = GREETER.replace("Hello", "Good day")
    first = node.deploy(app(tmp_path, source))["greeter"]
    other = node.deploy(app(tmp_path, GREETER))["greeter"]
    again = node.deploy(app(tmp_path, source))["greeter"]
    assert first["created"]
    assert not again["created"]
    assert again["revision"] == first["revision"] != other["revision"]
    assert node.value("greeter", name="you") == "Good day you"
    assert re.fullmatch("greeter-[0-9a-f]{10}", first["revision"])


def test_deploying_tells_of_each_stage(node: LiveNode, tmp_path: Path) -> None:
    source = LOADER.format("time.time()").replace("greeter", "told")
    steps = node.deploy_steps(app(tmp_path, source))
    stages = [(step["stage"], step.get("function")) for step in steps]
    assert stages == [
        ("discover", None),
        ("setup", "told"),
        ("verify", "told"),
        ("publish", "told"),
        ("done", None),
    ]
    deployed = steps[-1]["result"][0]
    assert deployed["url"] == f"{node.url}/functions/told"
    assert {"digest", "bytes"} < set(deployed["snapshot"])


def test_state_that_cannot_be_captured_deploys_and_is_set_up_at_each_start(
    node: LiveNode, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    source = f"""
import threading

import dsfn


@dsfn.function(park_after=0.1, remove_after=0.2, env={{"STARTS": {str(starts)!r}}})
class Locked:
    def setup(self) -> None:
        import os

        with open(os.environ["STARTS"], "a") as file:
            file.write("x")
        self.lock = threading.Lock()

    def __call__(self) -> bool:
        with self.lock:
            return True
"""
    deployed = node.deploy(app(tmp_path, source))["locked"]
    assert deployed["snapshot"] is None
    assert "lock" in deployed["snapshot_reason"]
    assert node.describe("locked")["snapshot_reason"] == deployed["snapshot_reason"]
    for calls in (1, 2):
        assert node.value("locked") is True
        assert len(starts.read_text()) == 1 + calls  # one of them while it was deployed
        eventually(lambda: node.describe("locked")["state"] == "absent", "the replica to go")


def test_a_plain_function_has_no_snapshot_and_says_why(node: LiveNode, tmp_path: Path) -> None:
    deployed = node.deploy(app(tmp_path, GREETER))["greeter"]
    assert deployed["snapshot"] is None
    assert deployed["snapshot_reason"] == "A plain function has no state to capture."


def test_a_function_gets_its_requirements_and_no_other_function_does(
    node: LiveNode, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path, "farewells", "def bye(name):\n    return f'Bye {name}'\n")
    source = f"""
import dsfn
import farewells


@dsfn.function(requirements=["farewells @ {wheel.as_uri()}"])
def leaver(name: str) -> str:
    return farewells.bye(name)
"""
    steps = node.deploy_steps(app(tmp_path, source))
    assert steps[0]["stage"] == "environment"
    assert steps[-1]["stage"] == "done", steps[-1]
    assert node.value("leaver", name="you") == "Bye you"
    with pytest.raises(DeployFailed, match="No module named 'farewells'"):
        node.deploy(app(tmp_path, "import dsfn\nimport farewells\n"))
    with pytest.raises(DeployFailed) as caught:
        node.deploy(app(tmp_path, source.replace(".whl", ".absent.whl")))
    assert "could not install" in caught.value.problem["detail"]
    assert node.value("leaver", name="you") == "Bye you"
    assert node.http.delete("/functions/leaver").status_code == 204


@pytest.mark.parametrize("data", [b"", b"hello", b"\x1f\x8b\x08\x00"], ids=["empty", "text", "cut"])
def test_a_bundle_that_is_none_is_refused(node: LiveNode, data: bytes) -> None:
    answer = node.http.post(
        "/deployments?entry=app.py",
        content=data,
        headers={"Content-Type": "application/vnd.dsfn.bundle+gzip"},
    )
    assert '"type":"https://dsfn.dev/errors/bundle-error"' in answer.text.replace('": "', '":"')


def make_wheel(directory: Path, name: str, source: str) -> Path:
    """A wheel of one module, which pip installs without a network."""
    path = directory / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
        digests = (
            f"{file},sha256={urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()},"
            for file, text in files.items()
        )
        wheel.writestr(f"{info}/RECORD", "\n".join([*digests, f"{info}/RECORD,,"]))
    return path
