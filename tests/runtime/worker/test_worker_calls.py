from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from worker_client import Failed, ForkServer, Worker, write_app

from dsfn.runtime.worker import frames
from dsfn.runtime.worker.frames import Kind
from dsfn.runtime.worker.messages import Gpu

Spawn = Callable[[], Worker]


def test_a_plain_function_answers_json_calls(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path,
        """
        @dsfn.function
        def double(number: int, by: int = 2) -> int:
            return number * by
        """,
    )
    worker = spawn()
    ready = worker.load(bundle, "double")
    assert ready.kind is Kind.READY
    assert ready.json()["device_class"] == "cpu"
    assert worker.call(number=4) == 8
    assert worker.call(number=4, by=5) == 20


def test_a_class_is_set_up_once_before_its_first_call(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path,
        """
        @dsfn.function
        class Count:
            def setup(self) -> None:
                self.calls = 100

            def after_restore(self) -> None:
                self.calls += 10

            def __call__(self) -> int:
                self.calls += 1
                return self.calls
        """,
    )
    worker = spawn()
    ready = worker.load(bundle, "count").json()
    assert ready["setup_us"] > 0
    assert [worker.call(), worker.call()] == [111, 112]


def test_an_error_that_nobody_foresaw_is_told_by_a_worker_that_ends_of_it(
    spawn: Spawn, tmp_path: Path
) -> None:
    bundle = write_app(
        tmp_path,
        """
        @dsfn.function
        def double(number: int) -> int:
            return 2 * number
        """,
    )
    worker = spawn()  # it has no memory owner
    failed = worker.load(bundle, "double", gpus=(Gpu(0, "host:1:0"),))
    assert failed.kind is Kind.FAILED
    assert "KeyError" in failed.json()["message"]
    assert "Traceback" in worker.printed(until="KeyError")


def test_what_a_function_prints_comes_through_the_pipe(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path,
        """
        import os, sys

        @dsfn.function
        def talk() -> None:
            print("to stdout", end="")
            print("to stderr", file=sys.stderr)
            os.write(1, b"below Python\\n")
            os.system("echo from a child")
        """,
    )
    worker = spawn()
    worker.load(bundle, "talk")
    assert worker.call() is None
    printed = worker.printed("to stdout")
    for words in ("to stderr", "below Python", "from a child"):
        assert words in printed


def test_the_environment_and_the_bundle_are_the_functions_own(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path / "bundle",
        """
        import os, sys
        from helper import greeting

        @dsfn.function
        def look() -> list[str]:
            return [os.environ["COLOUR"], greeting(), open("data.txt").read(), sys.path[0]]
        """,
    )
    write_app(bundle, "def greeting() -> str: return 'hello'", "helper.py")
    (bundle / "data.txt").write_text("beside the code")
    worker = spawn()
    worker.load(bundle, "look", env={"COLOUR": "blue"})
    assert worker.call() == ["blue", "hello", "beside the code", str(bundle)]


FAULTY = """
    import sys
    from json import loads
    from dsfn.functions.errors import InvalidInput

    @dsfn.function
    class Fail:
        def __call__(self, how: str) -> str:
            if how == "deep":
                return outer(how)
            if how == "library":
                return loads("{")
            if how == "exit":
                sys.exit(3)
            if how == "interrupt":
                raise KeyboardInterrupt
            if how == "input":
                raise InvalidInput("'how' is wrong.", field="how")
            if how == "unprintable":
                raise Unprintable
            if how == "type":
                return 7
            if how == "large":
                return "x" * 2_000_000
            return how

    def outer(how: str) -> str:
        try:
            return inner(how)
        except KeyError as error:
            raise ValueError("no such thing") from error

    def inner(how: str) -> str:
        return {}[how]

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError
    """


@pytest.fixture
def faulty(spawn: Spawn, tmp_path: Path) -> Worker:
    worker = spawn()
    assert worker.load(write_app(tmp_path, FAULTY), "fail").kind is Kind.READY
    return worker


def test_a_raised_exception_comes_with_the_authors_frames_alone(faulty: Worker) -> None:
    with pytest.raises(Failed) as caught:
        faulty.call(how="deep")
    failed = caught.value
    assert failed.error == "HandlerRaised"
    assert str(failed) == "ValueError: no such thing"
    assert failed.fields["exception"] == "ValueError"
    trace = failed.fields["traceback"]
    assert "KeyError: 'deep'" in trace and trace.endswith("ValueError: no such thing\n")
    files = {line.split('"')[1] for line in trace.splitlines() if line.startswith("  File")}
    assert files == {"app.py"}
    assert "in inner" in trace and "in outer" in trace and "in __call__" in trace


def test_frames_of_libraries_are_left_out(faulty: Worker) -> None:
    with pytest.raises(Failed) as caught:
        faulty.call(how="library")
    trace = caught.value.fields["traceback"]
    assert 'return loads("{")' in trace
    assert trace.count("  File") == 1


@pytest.mark.parametrize(
    ("how", "name"), [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")]
)
def test_leaving_python_by_an_exception_fails_the_call_alone(
    faulty: Worker, how: str, name: str
) -> None:
    with pytest.raises(Failed) as caught:
        faulty.call(how=how)
    assert caught.value.error == "HandlerRaised"
    assert caught.value.fields["exception"] == name
    assert faulty.call(how="well") == "well"


def test_errors_of_the_tree_go_through_as_they_are(faulty: Worker) -> None:
    with pytest.raises(Failed, match="'how' is wrong") as caught:
        faulty.call(how="input")
    assert (caught.value.error, caught.value.fields) == ("InvalidInput", {"field": "how"})
    with pytest.raises(Failed, match="'how' is missing") as caught:
        faulty.call()
    assert caught.value.error == "InvalidInput"


def test_an_exception_that_cannot_be_shown_is_still_reported(faulty: Worker) -> None:
    with pytest.raises(Failed) as caught:
        faulty.call(how="unprintable")
    assert caught.value.fields["exception"] == "Unprintable"


def test_a_result_of_the_wrong_type_is_the_functions_fault(faulty: Worker) -> None:
    with pytest.raises(Failed, match="cannot be sent") as caught:
        faulty.call(how="type")
    assert caught.value.error == "HandlerRaised"


def test_a_result_over_the_limit_fails_its_call(faulty: Worker) -> None:
    with pytest.raises(Failed, match="over the limit") as caught:
        faulty.call(how="large")
    assert caught.value.error == "OutputTooLarge"
    assert caught.value.fields == {"limit_bytes": 1 << 20}


def test_a_body_over_the_limit_fails_its_call(faulty: Worker) -> None:
    number = faulty.begin(b'{"how":"' + b"x" * (1 << 20) + b'"}')
    with pytest.raises(Failed) as caught:
        faulty.answer(number)
    assert caught.value.error == "PayloadTooLarge"


def test_raw_bodies_go_in_and_come_out(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path,
        """
        @dsfn.function
        def reverse(file: dsfn.File) -> dsfn.File:
            return dsfn.File(file.data[::-1], "application/x-reversed")
        """,
    )
    worker = spawn()
    worker.load(bundle, "reverse", max_body_bytes=8 << 20, max_result_bytes=8 << 20)
    body = os.urandom(5 << 20)
    worker.begin(body, "application/octet-stream")
    result = frames.decode_result(worker.receive().payload)
    assert result.content_type == "application/x-reversed"
    assert bytes(result.body) == body[::-1]


def test_a_call_uses_the_threads_that_it_was_given(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path,
        """
        import torch

        @dsfn.function
        def threads() -> int:
            return torch.get_num_threads()
        """,
    )
    worker = spawn()
    worker.load(bundle, "threads")
    for count in (1, 2, 1):
        assert worker.answer(worker.begin(b"", threads=count)) == count


def test_a_stopped_worker_finishes_its_call_and_ends(
    server: ForkServer, spawn: Spawn, tmp_path: Path
) -> None:
    bundle = write_app(
        tmp_path,
        """
        import asyncio

        @dsfn.function(concurrency=2)
        async def slow() -> str:
            await asyncio.sleep(0.3)
            return "done"
        """,
    )
    worker = spawn()
    worker.load(bundle, "slow", concurrency=2)
    number = worker.begin(b"")
    worker.send(frames.encode(Kind.STOP, 0))
    assert worker.answer(number) == "done"
    with pytest.raises(EOFError):
        worker.receive()
    assert server.exit_status(worker) == 0


def test_a_function_that_cannot_be_loaded_says_why(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path,
        """
        @dsfn.function
        class Broken:
            def setup(self) -> None:
                raise OSError("no weights here")

            def __call__(self) -> None: ...
        """,
    )
    worker = spawn()
    failed = worker.load(bundle, "broken")
    document = failed.json()
    assert failed.kind is Kind.FAILED
    assert document["error"] == "SetupError"
    assert document["message"] == "setup() of 'broken' failed: OSError: no weights here"
    assert 'File "app.py"' in document["fields"]["traceback"]
    with pytest.raises(EOFError):
        worker.receive()


def test_plain_code_may_run_a_loop_of_its_own(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path,
        """
        import asyncio

        async def later(value: str) -> str:
            await asyncio.sleep(0)
            return value

        @dsfn.function
        class Plain:
            def setup(self) -> None:
                self.first = asyncio.run(later("from setup"))

            def __call__(self) -> list[str]:
                return [self.first, asyncio.run(later("from a call"))]
        """,
    )
    worker = spawn()
    worker.load(bundle, "plain")
    for _ in range(2):
        assert worker.call() == ["from setup", "from a call"]


def test_a_function_may_close_its_output(spawn: Spawn, tmp_path: Path) -> None:
    bundle = write_app(
        tmp_path,
        """
        import sys

        @dsfn.function
        def hush() -> int:
            sys.stdout.close()
            return 1
        """,
    )
    worker = spawn()
    worker.load(bundle, "hush")
    assert [worker.call(), worker.call()] == [1, 1]


def test_a_spare_can_be_stopped(server: ForkServer, spawn: Spawn) -> None:
    worker = spawn()
    worker.send(frames.encode(Kind.STOP, 0))
    assert server.exit_status(worker) == 0
