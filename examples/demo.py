"""`make demo`: one machine, end to end.

Starts a node, deploys the library's functions, calls each cold and warm by HTTP and by
CloudEvent, sends a folder of mixed files through a workflow, lets one function scale to zero
and come back, prints the bill, and leaves nothing behind.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from dsfn.runtime.cli import app as cli
from dsfn.runtime.cli.bars import bars, call_spans

ROOT = Path(__file__).parents[1]
WORK = Path(".demo")
LIBRARY = Path("functions/library")
SAMPLES = LIBRARY / "samples"
EVENT = ("--event", "--type", "sample.added")
WAIT_S = 30.0
SPARES_S = 2.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A function to show: its source, what it is called with, what its result means."""

    name: str
    source: Path
    arguments: tuple[str, ...]
    words: Callable[[Any], str]


SUBJECTS = (
    Subject(
        "embed",
        LIBRARY / "embed.py",
        ("--data", '{"texts": ["Where is my parcel?"]}'),
        lambda found: f"{len(found[0])} numbers: {found[0][0]:.4f}, {found[0][1]:.4f}, ...",
    ),
    Subject(
        "classify",
        LIBRARY / "classify.py",
        ("--file", str(SAMPLES / "cat.jpg")),
        lambda found: ", ".join(f"{g['label']} {g['score']:.0%}" for g in found[:3]),
    ),
    Subject(
        "detect-speech",
        LIBRARY / "speech.py",
        ("--file", str(SAMPLES / "speech.ogg")),
        lambda found: f"{found['duration_s']:.1f} s, {len(found['segments'])} stretches of speech",
    ),
)


def dsfn(*arguments: str) -> None:
    """Shows a command and runs it, its output on the screen."""
    show(f"$ dsfn {shlex.join(arguments)}")
    _run(arguments)


def ask(*arguments: str) -> Any:
    """Runs a command for its JSON document."""
    with redirect_stdout(io.StringIO()) as out:
        _run((*arguments, "--json"))
    return json.loads(out.getvalue())


def call(subject: Subject, *more: str) -> float:
    """Shows a call with its result and its phases, and gives the milliseconds it took."""
    arguments = ("invoke", subject.name, *subject.arguments, *more)
    show(f"$ dsfn {shlex.join(arguments)} --timing")
    answer = ask(*arguments)
    result = answer["result"]["data"] if "--event" in more else answer["result"]
    show(f"  {subject.words(result)}")
    took_us: int = answer["total_us"]
    for line in bars(call_spans(answer["phases_us"], took_us), took_us):
        show(f"    {line}")
    return took_us / 1000


def _run(arguments: Sequence[str]) -> None:
    """The command line, in this process: it is the same and need not be loaded each time."""
    code = cli.run(list(arguments))
    if code == cli.INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise SystemExit(f"`dsfn {shlex.join(arguments)}` failed.")


def main() -> None:
    """The demo from start to end."""
    begun = time.monotonic()
    with data_directory():
        show("Every line that starts with `$` is a command to copy, after `. .venv/bin/activate`.")
        title("A node, and four functions")
        start()
        for subject in SUBJECTS:
            dsfn("deploy", str(subject.source))
        dsfn("deploy", "examples/notify.py")
        title("Called by HTTP: from nothing but the snapshot, then warm")
        by_http = [(call(subject), call(subject)) for subject in SUBJECTS]
        title("The node starts again: what is deployed stays, every function is absent")
        dsfn("down")
        url = start()
        title("Called by CloudEvent: from nothing but the snapshot, then warm")
        by_event = [(call(subject, *EVENT), call(subject, *EVENT)) for subject in SUBJECTS]
        title("An event that calls one function, whose result calls the next")
        chain(url)
        title("A folder of photos, recordings and notes through one workflow")
        album()
        title("To zero and back")
        scale_to_zero(url)
        title("Milliseconds from command to result")
        compare(by_http, by_event)
        title("The bill of the month")
        dsfn("bill", "report")
        dsfn("down")
    show(f"\nThat took {time.monotonic() - begun:.0f} s, and nothing is left of it.")


def start() -> str:
    """Starts the node and gives its URL. The demo takes any free port, a reader the usual one."""
    show("$ dsfn up --detach")
    node = ask("up", "--detach", "--port", "0")
    show(f"  {node['url']}, pid {node['pid']}")
    # The first workers are being forked: a call now would wait for them and show that instead.
    time.sleep(SPARES_S)
    return str(node["url"])


def chain(url: str) -> None:
    """Posts an event that `detect-speech` subscribes to; `notify` is told of its result."""
    dsfn("subscribe", "detect-speech", "--exact", "type=recording.added")
    recording = SAMPLES / "speech.ogg"
    headers = {
        "Content-Type": "audio/ogg",
        "ce-specversion": "1.0",
        "ce-type": "recording.added",
        "ce-source": "/demo",
        "ce-id": "recording-1",
    }
    options = " ".join(f"-H {shlex.quote(f'{k}: {v}')}" for k, v in headers.items())
    show(f"$ curl {options} --data-binary @{recording} http://127.0.0.1:8700/events")
    answer = httpx.post(f"{url}/events", headers=headers, content=recording.read_bytes())
    show(f"  {answer.status_code} {answer.reason_phrase}: {answer.text}")
    wait_for("notify to print", lambda: bool(ask("logs", "notify")))
    dsfn("logs", "notify")


def album() -> None:
    """Deploys a workflow over the library's functions, and sends it a folder."""
    dsfn("deploy", "examples/album/app.py")
    dsfn("workflow", "show", "index-folder")
    command = ["examples/album/run.py", str(SAMPLES), "examples/album/files"]
    show(f"$ python {shlex.join(command)}")
    subprocess.run([sys.executable, *command], check=True)
    dsfn("runs", "list")


def scale_to_zero(url: str) -> None:
    """Deploys `embed` with little patience, watches it go, and calls it again."""
    subject = SUBJECTS[0]
    copy = WORK / "embed.py"
    patience = 'name="embed", park_after="1s", remove_after="2s"'
    source = subject.source.read_text(encoding="utf-8")
    copy.write_text(source.replace('name="embed"', patience), encoding="utf-8")
    show(f"$ mkdir -p {WORK}")
    show(f"$ sed 's/name=\"embed\"/{patience}/' {subject.source} > {copy}")
    dsfn("deploy", str(copy))
    call(subject)
    states: list[str] = []

    def gone() -> bool:
        states.append(ask("describe", subject.name)["state"])
        return states[-1] == "absent"

    wait_for("embed to be absent", gone)
    show(f"  Then nobody calls, and embed is {', then '.join(dict.fromkeys(states))}.")
    call(subject)


def compare(
    by_http: Sequence[tuple[float, float]], by_event: Sequence[tuple[float, float]]
) -> None:
    """A line for each function."""
    kinds = ("cold HTTP", "warm HTTP", "cold event", "warm event")
    show(f"{'':<14}" + "".join(f"{kind:>12}" for kind in kinds))
    for subject, http, event in zip(SUBJECTS, by_http, by_event, strict=True):
        show(f"{subject.name:<14}" + "".join(f"{took_ms:>12.1f}" for took_ms in (*http, *event)))


def wait_for(what: str, happened: Callable[[], bool], limit_s: float = WAIT_S) -> None:
    """Waits until it has happened."""
    deadline = time.monotonic() + limit_s
    while not happened():
        if time.monotonic() > deadline:
            raise SystemExit(f"Waited {limit_s:.0f} s for {what}.")
        time.sleep(0.1)


@contextmanager
def data_directory() -> Iterator[None]:
    """A data directory of the demo's own, gone at the end however that comes."""
    os.chdir(ROOT)
    os.environ["DSFN_DATA"] = str(WORK / "data")
    os.environ.pop("DSFN_URL", None)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    leave_nothing()  # of a demo that was killed
    WORK.mkdir()
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(cli.INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        leave_nothing()


def leave_nothing() -> None:
    """Stops the demo's node and removes all that it wrote."""
    ask("down")
    shutil.rmtree(WORK, ignore_errors=True)


def title(text: str) -> None:
    """A heading."""
    show(f"\n== {text}")


def show(line: str) -> None:
    """One line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
