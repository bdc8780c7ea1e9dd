from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from dsfn.functions.errors import NotFound
from dsfn.runtime.clock import rfc3339
from dsfn.runtime.logfile import POLL_S, ROTATE_BYTES
from dsfn.runtime.logs import MAX_LINE_BYTES, LogStore, Pump

START_US = 1_790_000_000_000_000


class TickingClock:
    """A microsecond passes at each look."""

    def __init__(self) -> None:
        self._ticks = count()

    def now_us(self) -> int:
        return START_US + next(self._ticks)

    def monotonic_ns(self) -> int:
        return self.now_us() * 1000


def never() -> None:
    raise AssertionError("the limit was not reached")


def open_pump(
    store: LogStore,
    on_limit: Callable[[], None] = never,
    limit_bytes: int = 1 << 20,
    function: str = "echo",
) -> tuple[Pump, int]:
    """A pump and the writing end of its pipe."""
    reading, writing = os.pipe()
    pump = store.pump(
        reading,
        function=function,
        revision=f"{function}-1",
        replica=7,
        on_limit=on_limit,
        limit_bytes=limit_bytes,
    )
    return pump, writing


def lines(store: LogStore, since_us: int = 0, function: str = "echo") -> list[dict[str, Any]]:
    return [json.loads(x) for chunk in store.read(function, since_us) for x in chunk.splitlines()]


def texts(store: LogStore, since_us: int = 0) -> list[str]:
    return [line["text"] for line in lines(store, since_us)]


def printed(store: LogStore, *outputs: bytes) -> list[str]:
    """What is in the log when a worker wrote these pieces, one at a time, and ended."""

    async def run() -> None:
        pump, writing = open_pump(store)
        for output in outputs:
            os.write(writing, output)
            await asyncio.sleep(0.01)
        os.close(writing)
        await asyncio.sleep(0.01)
        pump.close()

    asyncio.run(run())
    return texts(store)


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    return LogStore(tmp_path / "logs", TickingClock())


def test_a_line_says_when_and_where_it_was_printed(store: LogStore) -> None:
    printed(store, b"hello\n")
    assert lines(store) == [
        {
            "time": rfc3339(START_US),
            "revision": "echo-1",
            "replica": 7,
            "invocation": None,
            "stream": "output",
            "text": "hello",
        }
    ]


def test_a_line_says_which_call_ran_when_it_was_printed(store: LogStore) -> None:
    async def run() -> None:
        pump, writing = open_pump(store)
        os.write(writing, b"setup\n")
        for call in ("call-1", "call-2", None):
            # Nobody has read the pipe yet when the next call begins.
            pump.mark(call)
            os.write(writing, f"within {call}\n".encode())
        os.close(writing)
        await asyncio.sleep(0.01)
        pump.close()

    asyncio.run(run())
    assert [(line["text"], line["invocation"]) for line in lines(store)] == [
        ("setup", None),
        ("within call-1", "call-1"),
        ("within call-2", "call-2"),
        ("within None", None),
    ]


def test_lines_are_whole_however_they_arrive(store: LogStore) -> None:
    pieces = (b"one\ntw", b"o\n\nfour", b"\r\nfive")
    assert printed(store, *pieces) == ["one", "two", "", "four", "five"]


def test_bytes_that_are_no_utf8_are_replaced_and_characters_are_never_split(
    store: LogStore,
) -> None:
    smile = "☺".encode()
    output = printed(store, smile[:1], smile[1:] + b"\n", b"\xff\x00 end\n", "\u2028\n".encode())
    assert output == ["☺", "\ufffd\0 end", "\u2028"]


def test_a_long_line_is_cut_and_the_next_one_is_not(store: LogStore) -> None:
    pieces = [b"x" * 10_000] * 5
    cut, following = printed(store, *pieces, b"\nshort\n")
    assert cut == "x" * MAX_LINE_BYTES + "…"
    assert following == "short"


def test_a_line_of_exactly_the_limit_is_whole(store: LogStore) -> None:
    assert printed(store, b"x" * MAX_LINE_BYTES + b"\n") == ["x" * MAX_LINE_BYTES]


def test_a_real_worker_that_prints_to_both_streams_keeps_its_order(store: LogStore) -> None:
    program = (
        "import sys\nfor n in range(3):\n print(n, flush=True)\n print('e', n, file=sys.stderr)"
    )

    async def run() -> None:
        pump, writing = open_pump(store)
        process = subprocess.Popen([sys.executable, "-c", program], stdout=writing, stderr=writing)
        os.close(writing)
        await asyncio.to_thread(process.wait)
        pump.close()

    asyncio.run(run())
    assert texts(store) == ["0", "e 0", "1", "e 1", "2", "e 2"]


def test_closing_takes_what_is_still_in_the_pipe(store: LogStore) -> None:
    async def run() -> None:
        pump, writing = open_pump(store)
        os.write(writing, b"last words\n" * 5_000)
        pump.close()
        pump.close()
        os.close(writing)

    asyncio.run(run())
    assert texts(store) == ["last words"] * 5_000


def test_a_call_that_prints_without_end_is_reported_once_and_the_rest_not_kept(
    store: LogStore,
) -> None:
    reports: list[int] = []

    async def run() -> None:
        pump, writing = open_pump(store, lambda: reports.append(1), limit_bytes=1000)
        os.write(writing, b"a" * 899 + b"\n")
        await asyncio.sleep(0.01)
        assert pump.bytes_since_mark() == 900
        for _ in range(5):
            os.write(writing, b"b" * 899 + b"\n")
            await asyncio.sleep(0.01)
        assert len(reports) == 1
        pump.mark("call-2")
        assert pump.bytes_since_mark() == 0
        os.write(writing, b"next call\n")
        await asyncio.sleep(0.01)
        os.close(writing)
        pump.close()

    asyncio.run(run())
    kept = ["a" * 899, "[over 1000 bytes in one call: the rest is not kept]", "next call"]
    assert texts(store) == kept
    assert len(reports) == 1


def test_a_gigabyte_of_line_breaks_is_stopped_soon(store: LogStore) -> None:
    async def run() -> None:
        reading, writing = os.pipe()
        program = "import os\nwhile True: os.write(1, b'\\n' * 65536)"
        process = subprocess.Popen([sys.executable, "-c", program], stdout=writing)
        os.close(writing)
        pump = store.pump(
            reading, function="echo", revision="echo-1", replica=7, on_limit=process.kill
        )
        await asyncio.to_thread(process.wait)
        pump.close()

    asyncio.run(run())
    assert texts(store)[-1].startswith("[over 16777216 bytes")


def test_a_log_takes_two_files_of_eight_mebibytes_at_most(store: LogStore, tmp_path: Path) -> None:
    line = b"y" * 8_000 + b"\n"

    async def run() -> None:
        pump, writing = open_pump(store, limit_bytes=1 << 30)
        for n in range(3_500):
            os.write(writing, b"%05d " % n + line)
            await asyncio.sleep(0)
        os.close(writing)
        pump.close()

    asyncio.run(run())
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "logs/echo").iterdir()}
    assert set(sizes) == {"current.jsonl", "previous.jsonl"}
    assert all(0 < size <= ROTATE_BYTES for size in sizes.values())
    numbers = [int(text[:5]) for text in texts(store)]
    assert numbers == list(range(numbers[0], 3_500))


def test_since_leaves_out_what_was_printed_before(store: LogStore) -> None:
    printed(store, b"a\n", b"b\n", b"c\n")
    assert texts(store, START_US + 1) == ["b", "c"]
    assert texts(store, START_US + 10) == []


def test_since_compares_a_whole_second_with_its_fractions(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    (tmp_path / "echo").mkdir()
    second = START_US // 1_000_000 * 1_000_000
    instants = [second - 1, second, second + 1, second + 1_000_000]
    (tmp_path / "echo/current.jsonl").write_text(
        "".join(json.dumps({"time": rfc3339(at), "text": str(at)}, separators=(",", ":")) + "\n"
                for at in instants)
    )  # fmt: skip
    for n, at in enumerate(instants):
        assert texts(store, at) == [str(each) for each in instants[n:]]


def test_a_function_that_never_printed_has_an_empty_log(store: LogStore) -> None:
    assert lines(store) == []


@pytest.mark.parametrize("name", ["../echo", "", "Echo", "a/b", "echo\n"])
def test_a_name_that_is_no_functions_leads_nowhere(store: LogStore, name: str) -> None:
    with pytest.raises(NotFound):
        store.read(name)
    with pytest.raises(NotFound):
        store.follow(name)


def test_a_line_that_a_crash_cut_short_is_dropped_and_the_log_goes_on(
    store: LogStore, tmp_path: Path
) -> None:
    printed(store, b"first\n")
    with (tmp_path / "logs/echo/current.jsonl").open("ab") as file:
        file.write(b'{"time":"2026-')
    assert texts(store) == ["first"]
    assert printed(store, b"second\n") == ["first", "second"]


def test_following_gives_what_is_there_and_what_comes_across_rotations(
    store: LogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two lines fill a file.
    monkeypatch.setattr("dsfn.runtime.logfile.ROTATE_BYTES", 300)

    async def write(writing: int) -> None:
        for n in range(3, 8):
            await asyncio.sleep(1.5 * POLL_S)
            os.write(writing, b"%d\n" % n)

    async def run() -> list[str]:
        found: list[str] = []
        pump, writing = open_pump(store)
        for n in range(3):
            os.write(writing, b"%d\n" % n)
            await asyncio.sleep(0.01)
        async with asyncio.timeout(20), aclosing(store.follow("echo")) as chunks:
            writer = asyncio.create_task(write(writing))
            async for chunk in chunks:
                found += [json.loads(line)["text"] for line in chunk.splitlines()]
                if found[-1] == "7":
                    break
            await writer
        os.close(writing)
        pump.close()
        return found

    assert asyncio.run(run()) == [str(n) for n in range(8)]
    assert texts(store) == ["4", "5", "6", "7"]


def test_following_waits_for_a_function_that_has_not_printed_yet(store: LogStore) -> None:
    async def run() -> bytes:
        async with asyncio.timeout(20), aclosing(store.follow("echo")) as chunks:
            first = asyncio.ensure_future(anext(chunks))
            await asyncio.sleep(1.5 * POLL_S)
            pump, writing = open_pump(store)
            os.write(writing, b"hello\n")
            found = await first
            os.close(writing)
            pump.close()
            return found

    assert json.loads(asyncio.run(run()))["text"] == "hello"


def test_a_full_disk_loses_lines_counts_them_and_harms_nobody(
    small_disk: Callable[[str], Path],
) -> None:
    store = LogStore(small_disk("64k"))

    async def run() -> None:
        pump, writing = open_pump(store)
        for n in range(100):
            os.write(writing, b"%03d" % n + b"z" * 2_000 + b"\n")
            await asyncio.sleep(0.001)
        assert store.dropped_lines > 50
        small_disk("1m")
        os.write(writing, b"room again\n")
        await asyncio.sleep(0.01)
        os.close(writing)
        pump.close()

    asyncio.run(run())
    kept = texts(store)
    assert kept[-1] == "room again"
    assert len(kept) - 1 + store.dropped_lines == 100
    assert [int(text[:3]) for text in kept[:-1]] == list(range(len(kept) - 1))


def test_pumps_of_one_function_share_its_log_and_leave_no_descriptor_open(
    store: LogStore,
) -> None:
    async def run() -> None:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        pumps = [open_pump(store) for _ in range(3)]
        for n, (_, writing) in enumerate(pumps):
            os.write(writing, b"%d\n" % n)
        await asyncio.sleep(0.02)
        for pump, writing in pumps:
            os.close(writing)
            pump.close()
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208

    asyncio.run(run())
    assert sorted(texts(store)) == ["0", "1", "2"]
