from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from worker_client import ForkServer, Worker, write_app

from dsfn.functions.interface import Interface
from dsfn.functions.options import Options
from dsfn.functions.workflow.document import from_document
from dsfn.runtime.worker.frames import Frame, Kind
from dsfn.runtime.worker.messages import Capture, Discover, Prove, Verify
from dsfn.snapshots.reading import read_manifest

Spawn = Callable[[], Worker]

MODEL = """
    import torch

    class Scale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.full((1000,), 3.0))

        def forward(self, x: float) -> float:
            return (self.factor[0] * x).item()

    @dsfn.function(env={"LOADED": "yes"})
    class Model:
        def setup(self) -> None:
            print("setting up")
            self.network = Scale()
            self.restores = 0

        def after_restore(self) -> None:
            self.restores += 1

        def __call__(self, x: float) -> list[float]:
            return [self.network(x), self.restores]
"""


def _failure(frame: Frame) -> tuple[str, str, str]:
    """Error, message and traceback of a FAILED frame."""
    assert frame.kind is Kind.FAILED
    document = frame.json()
    return document["error"], document["message"], document["fields"].get("traceback") or ""


def _done(frame: Frame) -> Any:
    assert frame.kind is Kind.DONE, frame.json()
    return frame.json()


def _discover(spawn: Spawn, bundle: Path) -> Frame:
    return spawn().job(Discover(str(bundle), "app.py"))


def test_discovery_tells_options_and_interface_of_each_function(
    server: ForkServer, spawn: Spawn, tmp_path: Path
) -> None:
    bundle = write_app(
        tmp_path,
        """
        from other import second

        @dsfn.function(concurrency=3)
        @dsfn.on(type="a.b")
        def first(text: str) -> int:
            "Counts."
            return len(text)
        """,
    )
    write_app(
        bundle,
        """
        @dsfn.function
        def second(image: dsfn.Image) -> dsfn.Text:
            return "a picture"
        """,
        "other.py",
    )
    worker = spawn()
    found = _done(worker.job(Discover(str(bundle), "app.py")))["functions"]
    options = [Options.from_document(each["options"]) for each in found]
    interfaces = [Interface.from_document(each["interface"]) for each in found]
    assert [o.name for o in options] == ["second", "first"]
    assert options[1].concurrency == 3
    assert interfaces[1].description == "Counts."
    assert interfaces[1].triggers[0].exact == {"type": "a.b"}
    assert interfaces[0].parameters[0].kind == "image"
    with pytest.raises(EOFError):
        worker.receive()
    assert server.exit_status(worker) == 0


def test_a_function_of_an_installed_package_is_not_the_authors(
    spawn: Spawn, tmp_path: Path
) -> None:
    bundle = write_app(
        tmp_path,
        """
        from dsfn.functions.library.speech import DetectSpeech

        @dsfn.function
        def own() -> None: ...
        """,
    )
    found = _done(_discover(spawn, bundle))["functions"]
    assert [each["options"]["name"] for each in found] == ["own"]


def test_the_workflows_of_a_source_are_traced(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path,
        """
        @dsfn.function
        def double(number: int) -> int: ...

        @dsfn.on(type="number.came")
        @dsfn.workflow(schedule="0 6 * * *")
        def twice(number: int = 1) -> int:
            return double(double(number))
        """,
    )
    found = _done(_discover(spawn, bundle))
    assert [each["options"]["name"] for each in found["functions"]] == ["double"]
    (dag,) = map(from_document, found["workflows"])
    assert (dag.name, dag.functions) == ("twice", ("double",))
    assert len(dag.steps) == 2 and dag.options.schedule == "0 6 * * *"
    assert [dict(trigger.exact) for trigger in dag.triggers] == [{"type": "number.came"}]


@pytest.mark.parametrize(
    ("source", "error", "message", "trace"),
    [
        ("x = (", "SourceError", "SyntaxError: '(' was never closed", 'File "app.py", line 2'),
        ("import no_such", "SourceError", "No module named 'no_such'", "import no_such"),
        ("def f(): raise OSError('hm')\nf()", "SourceError", "OSError: hm", "in f"),
        ("raise SystemExit(4)", "SourceError", "SystemExit: 4", "raise SystemExit"),
        ("x = 1", "DefinitionError", "has no functions", ""),
        (
            "@dsfn.function\ndef f(x) -> int: ...",
            "DefinitionError",
            "'x' of 'f' has no annotation",
            "@dsfn.function",
        ),
        (
            "@dsfn.function(memory='9 XB')\ndef f() -> int: ...",
            "DefinitionError",
            "is not a size",
            "9 XB",
        ),
        (
            "@dsfn.function(name='f')\ndef f() -> int: ...\n"
            "@dsfn.function(name='f')\ndef g() -> int: ...",
            "DefinitionError",
            "two functions",
            "",
        ),
        (
            "@dsfn.workflow(name='f')\ndef g() -> int: ...\n"
            "@dsfn.function(name='f')\ndef h() -> int: ...",
            "DefinitionError",
            "two functions or workflows of the name 'f'",
            "",
        ),
        (
            "@dsfn.workflow\ndef f(x: int) -> int:\n    return 1 if x > 1 else 2",
            "DefinitionError",
            "'f'",
            "",
        ),
        (
            "class Odd: pass\n@dsfn.function\ndef f(x: Odd) -> int: ...",
            "DefinitionError",
            "'f'",
            "",
        ),
    ],
)
def test_a_source_that_cannot_be_deployed_is_explained(
    spawn: Spawn, tmp_path: Path, source: str, error: str, message: str, trace: str
) -> None:
    bundle = write_app(tmp_path, source)
    found, said, shown = _failure(_discover(spawn, bundle))
    assert found == error
    assert message in said
    assert trace in shown
    assert "dsfn/" not in shown


@pytest.mark.parametrize("name", ["random", "torch", "dsfn"])
def test_a_file_that_hides_a_module_must_be_renamed(
    spawn: Spawn, tmp_path: Path, name: str
) -> None:
    write_app(tmp_path, "", f"{name}.py")
    error, message, _ = _failure(spawn().job(Discover(str(tmp_path), f"{name}.py")))
    assert error == "SourceError"
    assert "rename" in message


def test_a_captured_state_comes_back_without_setup(spawn: Spawn, tmp_path: Path) -> None:
    bundle, staging = write_app(tmp_path / "bundle", MODEL), tmp_path / "staging"
    staging.mkdir()
    worker = spawn()
    captured = _done(worker.job(Capture(str(bundle), "app.py", "model", str(staging), {})))
    assert captured["captured"] is True and captured["reason"] is None
    assert captured["setup_us"] > 0
    assert "setting up" in worker.printed("setting up")
    verified = _done(spawn().job(Verify(str(bundle), "app.py", "model", str(staging), {})))
    assert verified["tensors"] == 1 and verified["bytes"] > 4000
    replica = spawn()
    ready = replica.load(bundle, "model", snapshot=str(staging)).json()
    assert ready["setup_us"] == 0 and ready["restore_us"] > 0
    assert replica.call(x=2.0) == [6.0, 1]
    replica.request(Kind.PARK)
    assert replica.receive().kind is Kind.PARKED
    replica.request(Kind.UNPARK)
    assert replica.receive().kind is Kind.UNPARKED
    assert replica.call(x=2.0) == [6.0, 2]
    os.set_blocking(replica.output, False)
    with pytest.raises(BlockingIOError):
        os.read(replica.output, 1)


def test_a_damaged_snapshot_is_not_verified_and_not_loaded(spawn: Spawn, tmp_path: Path) -> None:
    bundle, staging = write_app(tmp_path / "bundle", MODEL), tmp_path / "staging"
    staging.mkdir()
    _done(spawn().job(Capture(str(bundle), "app.py", "model", str(staging), {})))
    slab = staging / "slab-cpu.safetensors"
    slab.chmod(0o600)
    data = bytearray(slab.read_bytes())
    data[-1] ^= 1
    slab.write_bytes(data)
    verify = Verify(str(bundle), "app.py", "model", str(staging), {})
    assert _failure(spawn().job(verify))[0] == "CorruptSnapshot"
    slab.write_bytes(data[:-4])
    assert _failure(spawn().load(bundle, "model", snapshot=str(staging)))[0] == "CorruptSnapshot"


def test_a_plain_function_has_nothing_to_capture(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(tmp_path, "@dsfn.function\ndef f() -> int: return 1")
    captured = _done(spawn().job(Capture(str(bundle), "app.py", "f", str(tmp_path / "s"), {})))
    assert (captured["captured"], captured["reason"]) == (False, None)


def test_a_state_that_cannot_be_captured_is_named(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path / "bundle",
        """
        import threading

        @dsfn.function
        class Locked:
            def setup(self) -> None:
                self.door = threading.Lock()

            def __call__(self) -> None: ...
        """,
    )
    staging = tmp_path / "staging"
    staging.mkdir()
    captured = _done(spawn().job(Capture(str(bundle), "app.py", "locked", str(staging), {})))
    assert captured["captured"] is False
    assert "door" in captured["reason"]


def test_the_installed_modules_that_a_start_needs_are_listed(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path / "bundle",
        """
        import yaml
        import wave

        @dsfn.function
        class Model:
            def setup(self) -> None:
                import markdown_it.token
                self.token = markdown_it.token.Token("a", "b", 0)
                import pygments.lexers

            def __call__(self) -> None: ...
        """,
    )
    staging = tmp_path / "staging"
    staging.mkdir()
    job = Capture(str(bundle), "app.py", "model", str(staging), {})
    modules = _done(spawn().job(job))["modules"]
    assert {"yaml", "yaml.loader"} <= set(modules)
    assert not {"wave", "app", "dsfn", "pygments"} & set(modules)
    verified = _done(spawn().job(Verify(str(bundle), "app.py", "model", str(staging), {})))
    assert {"yaml", "markdown_it.token"} <= set(verified["modules"])
    assert not {"wave", "app", "dsfn", "pygments"} & set(verified["modules"])


@pytest.mark.parametrize("hook", ["setup", "after_restore"])
def test_a_hook_that_raises_fails_its_job(spawn: Spawn, tmp_path: Path, hook: str) -> None:
    bundle = write_app(
        tmp_path / "bundle",
        f"""
        @dsfn.function
        class Broken:
            def {hook}(self) -> None:
                self.missing_attribute

            def __call__(self) -> None: ...
        """,
    )
    staging = tmp_path / "staging"
    staging.mkdir()
    failed = spawn().job(Capture(str(bundle), "app.py", "broken", str(staging), {}))
    if hook == "after_restore":
        _done(failed)
        failed = spawn().job(Verify(str(bundle), "app.py", "broken", str(staging), {}))
    error, message, trace = _failure(failed)
    assert error == "SetupError"
    assert message.startswith(f"{hook}() of 'broken' failed: AttributeError")
    assert "self.missing_attribute" in trace and "dsfn/" not in trace


def test_an_unknown_function_is_not_found(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(tmp_path, "@dsfn.function\ndef f() -> int: return 1")
    assert _failure(spawn().load(bundle, "g"))[0] == "NotFound"


def test_a_job_that_is_interrupted_shows_where_it_hung(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(tmp_path, "while True: print('hanging', flush=True)")
    worker = spawn()
    worker.begin_job(Discover(str(bundle), "app.py"))
    worker.printed("hanging")
    os.kill(worker.pid, signal.SIGUSR1)
    error, message, trace = _failure(worker.receive())
    assert (error, message) == ("SourceError", "Importing app.py failed: KeyboardInterrupt")
    assert "while True: print" in trace


def _captured(spawn: Spawn, tmp_path: Path, source: str, name: str = "model") -> Any:
    """What the capture of a function tells; the bundle and the snapshot are left there."""
    bundle, staging = write_app(tmp_path / "bundle", source), tmp_path / "staging"
    staging.mkdir()
    return _done(spawn().job(Capture(str(bundle), "app.py", name, str(staging), {})))


def _verify(spawn: Spawn, tmp_path: Path) -> Frame:
    bundle, staging = tmp_path / "bundle", tmp_path / "staging"
    return spawn().job(Verify(str(bundle), "app.py", "model", str(staging), {}))


SAMPLED = """
    import torch

    @dsfn.function
    class Model:
        def setup(self) -> None:
            self.first = torch.ones(4)
            self.second = torch.full((4,), 2.0)
            self.never = torch.zeros(4)
            self.calls = 0

        def after_restore(self) -> None:
            self.door = open("/dev/null")
            self.scale = 3.0

        def sample(self) -> dict[str, object]:
            return {"x": 2}

        def __call__(self, x: float) -> dict[str, float]:
            self.calls += 1
            print("called", self.calls)
            return {"y": float((self.second * x + self.first).sum()) * self.scale}
"""


def test_a_sample_gives_a_golden_output_and_the_order_of_the_slab(
    spawn: Spawn, tmp_path: Path
) -> None:
    found = _captured(spawn, tmp_path, SAMPLED)
    assert found["captured"] and found["golden"] and found["why_no_golden"] is None
    assert (found["first_use"], found["workspace_bytes"]) == (2, 0)
    staging = tmp_path / "staging"
    manifest = read_manifest(staging)[1]
    assert [storage.name for storage in manifest.storages] == ["second", "first", "never"]
    assert manifest.golden is not None
    assert manifest.golden.content_type == "application/json"
    assert (staging / "golden.bin").read_bytes() == b'{"y":60.0}'
    assert "yaml" not in _done(_verify(spawn, tmp_path))["modules"]
    replica = spawn()
    replica.load(tmp_path / "bundle", "model", snapshot=str(staging))
    assert replica.call(x=2.0) == {"y": 60.0}


@pytest.mark.parametrize(
    ("changes", "proved"),
    [
        ({}, True),
        ({"@dsfn.function\n": "@dsfn.function(concurrency=2)\n"}, False),
        ({"def __call__": "async def __call__"}, False),
        ({"def sample": "def example"}, False),
    ],
    ids=["", "side by side", "async", "no sample"],
)
def test_only_lone_calls_that_give_the_golden_output_again_are_proved_to_stream(
    spawn: Spawn, tmp_path: Path, changes: dict[str, str], proved: bool
) -> None:
    source = SAMPLED
    for old, new in changes.items():
        source = source.replace(old, new)
    assert _captured(spawn, tmp_path, source)["captured"]
    bundle, staging = tmp_path / "bundle", tmp_path / "staging"
    job = Prove(str(bundle), "app.py", "model", str(staging), {})
    assert _done(spawn().job(job)) == {"streams": proved}


def test_what_the_sample_leaves_is_captured_and_what_after_restore_sets_is_not(
    spawn: Spawn, tmp_path: Path
) -> None:
    found = _captured(spawn, tmp_path, SAMPLED)
    assert found["reason"] is None, "an open file would be one"
    replica = spawn()
    replica.load(tmp_path / "bundle", "model", snapshot=str(tmp_path / "staging"))
    replica.call(x=1.0)
    replica.printed("called 3")


def test_what_the_sample_leaves_and_cannot_be_captured_is_left_out(
    spawn: Spawn, tmp_path: Path
) -> None:
    source = SAMPLED.replace("self.calls += 1", "self.calls += 1; self.log = open('/dev/null')")
    found = _captured(spawn, tmp_path, source)
    assert (found["reason"], found["golden"]) == (None, True)
    _done(_verify(spawn, tmp_path))
    replica = spawn()
    replica.load(tmp_path / "bundle", "model", snapshot=str(tmp_path / "staging"))
    replica.call(x=1.0)
    replica.printed("called 1")


def test_a_restored_function_that_answers_otherwise_is_found(spawn: Spawn, tmp_path: Path) -> None:
    _captured(spawn, tmp_path, SAMPLED)
    write_app(tmp_path / "bundle", SAMPLED.replace("self.scale = 3.0", "self.scale = 5.0"))
    error, message, trace = _failure(_verify(spawn, tmp_path))
    assert (error, trace) == ("CorruptSnapshot", "")
    assert "answers its sample otherwise: at 'y' it is 100.0, not 60.0" in message


def test_a_restored_function_that_fails_with_its_sample_is_found(
    spawn: Spawn, tmp_path: Path
) -> None:
    _captured(spawn, tmp_path, SAMPLED)
    write_app(tmp_path / "bundle", SAMPLED.replace("self.scale = 3.0", "self.scale = None"))
    error, message, trace = _failure(_verify(spawn, tmp_path))
    assert (error, trace) == ("SnapshotError", "")
    assert message.startswith("Restored, the function fails with its sample. The call")


LOWERED = """
    import torch

    @dsfn.function(precision="fp8")
    class Model:
        def setup(self) -> None:
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(64, 64)
            self.last = None

        def after_restore(self) -> None:
            self.rows = len(self.layer.weight)

        def sample(self) -> dict[str, object]:
            return {"x": 2.0}

        def __call__(self, x: float) -> dict[str, object]:
            if self.last is None:
                self.last = self.layer(torch.full((64,), x)).tolist()
            return {"y": self.last, "rows": self.rows}
"""


def test_lower_precision_is_measured_and_restored(spawn: Spawn, tmp_path: Path) -> None:
    found = _captured(spawn, tmp_path, LOWERED)
    assert found["golden"]
    lowered = found["precision"]
    assert (lowered["kind"], lowered["equal_share"]) == ("fp8", 1.0)
    assert 0.001 < lowered["relative_error"] < 0.05, "an answer that was kept would be exact"
    assert (lowered["bytes_before"], lowered["bytes_after"]) == (16640, 4608)
    staging = tmp_path / "staging"
    _done(_verify(spawn, tmp_path))
    replica = spawn()
    replica.load(tmp_path / "bundle", "model", snapshot=str(staging))
    assert replica.call(x=2.0) == json.loads((staging / "golden.bin").read_bytes())


def test_code_that_cannot_do_with_lower_precision_fails_the_deployment_with_a_sentence(
    spawn: Spawn, tmp_path: Path
) -> None:
    source = LOWERED.replace("self.layer(torch", "self.layer._parameters['weight'].mv(torch")
    bundle, staging = write_app(tmp_path / "bundle", source), tmp_path / "staging"
    staging.mkdir()
    error, message, trace = _failure(
        spawn().job(Capture(str(bundle), "app.py", "model", str(staging), {}))
    )
    assert error == "SetupError"
    assert message.startswith("With its weights in fp8: The call with the sample of 'model' failed")
    assert "in __call__" in trace


def test_outputs_that_vary_are_no_golden_output(spawn: Spawn, tmp_path: Path) -> None:
    source = SAMPLED.replace('{"y":', '{"calls": self.calls, "y":')
    found = _captured(spawn, tmp_path, source)
    assert found["captured"] and not found["golden"]
    assert "two outputs: at 'calls' it is 2.0, not 1.0" in found["why_no_golden"]
    assert found["first_use"] == 2
    _done(_verify(spawn, tmp_path))


def test_a_function_that_draws_has_a_golden_output(spawn: Spawn, tmp_path: Path) -> None:
    source = SAMPLED.replace('{"y":', '{"drawn": float(torch.rand(())), "y":')
    assert _captured(spawn, tmp_path, source)["golden"]
    _done(_verify(spawn, tmp_path))


@pytest.mark.parametrize(
    ("call", "content_type", "golden"),
    [
        (
            "async def __call__(self, x: int) -> int:\n"
            "        self.held = getattr(self, 'held', None) or asyncio.Semaphore(1)\n"
            "        await asyncio.gather(*(self.hold() for _ in range(2)))\n        return x\n\n"
            "    async def hold(self) -> None:\n"
            "        async with self.held:\n            await asyncio.sleep(0)",
            "application/json",
            b"2",
        ),
        (
            "def __call__(self, x: int) -> Iterator[int]:\n        yield x\n        yield 3",
            "text/event-stream",
            b"data: 2\n\ndata: 3\n\n",
        ),
        (
            "async def __call__(self, x: int) -> AsyncIterator[dsfn.File]:\n"
            "        yield dsfn.File(b'ab', 'a/b')\n        yield dsfn.File(b'c', 'a/b')",
            "application/octet-stream",
            b"abc",
        ),
        (
            "def __call__(self, x: int) -> dsfn.Text:\n        return 'hi'",
            "text/plain; charset=utf-8",
            b"hi",
        ),
    ],
    ids=["async", "stream", "async stream", "part"],
)
def test_every_kind_of_function_can_have_a_golden_output(
    spawn: Spawn, tmp_path: Path, call: str, content_type: str, golden: bytes
) -> None:
    source = f"""
import asyncio
from collections.abc import AsyncIterator, Iterator
@dsfn.function
class Model:
    def sample(self) -> dict[str, object]:
        return {{"x": 2}}

    {call}
"""
    assert _captured(spawn, tmp_path, source)["golden"]
    manifest = read_manifest(tmp_path / "staging")[1]
    assert manifest.golden is not None
    assert manifest.golden.content_type == content_type
    assert (tmp_path / "staging" / "golden.bin").read_bytes() == golden
    _done(_verify(spawn, tmp_path))


def test_a_stream_without_end_has_no_golden_output(spawn: Spawn, tmp_path: Path) -> None:
    source = """
    from collections.abc import Iterator

    @dsfn.function
    class Model:
        def sample(self) -> dict[str, object]:
            return {}

        def __call__(self) -> Iterator[dsfn.File]:
            while True:
                yield dsfn.File(b"x" * (8 << 20), "a/b")
    """
    found = _captured(spawn, tmp_path, source)
    assert found["captured"] and not found["golden"]
    assert "over the limit of 67108864" in found["why_no_golden"]


@pytest.mark.parametrize(
    ("sample", "error", "words", "trace"),
    [
        ("return {'y': 1}", "DefinitionError", "'y' is not something that", ""),
        ("return {'x': 'two'}", "DefinitionError", "'x' does not fit: input should", ""),
        ("return None", "DefinitionError", "it gives a NoneType, not a dict", ""),
        ("raise OSError('gone')", "SetupError", "sample() of 'model' failed: OSError", "gone"),
        ("return {'x': -1}", "SetupError", "The call with the sample of 'model' failed", "sqrt"),
    ],
)
def test_a_sample_that_does_not_work_fails_the_deployment_with_a_sentence(
    spawn: Spawn, tmp_path: Path, sample: str, error: str, words: str, trace: str
) -> None:
    source = f"""
import math

@dsfn.function
class Model:
    def sample(self) -> dict[str, object]:
        {sample}

    def __call__(self, x: float) -> float:
        return math.sqrt(x)
"""
    bundle, staging = write_app(tmp_path / "bundle", source), tmp_path / "staging"
    staging.mkdir()
    found = _failure(spawn().job(Capture(str(bundle), "app.py", "model", str(staging), {})))
    assert found[0] == error
    assert words in found[1]
    assert trace in found[2] and bool(trace) == bool(found[2])


def test_a_sample_call_that_hangs_shows_where(spawn: Spawn, tmp_path: Path) -> None:
    source = """
    @dsfn.function
    class Model:
        def sample(self) -> dict[str, object]:
            return {}

        def __call__(self) -> int:
            while True: print("hanging", flush=True)
    """
    bundle, staging = write_app(tmp_path / "bundle", source), tmp_path / "staging"
    staging.mkdir()
    worker = spawn()
    worker.begin_job(Capture(str(bundle), "app.py", "model", str(staging), {}))
    worker.printed("hanging")
    os.kill(worker.pid, signal.SIGUSR1)
    error, _, trace = _failure(worker.receive())
    assert error == "SetupError"
    assert "while True: print" in trace
