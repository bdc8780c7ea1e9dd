"""A process goes on from an image in the place of another one, with all it had in memory."""

from __future__ import annotations

import json
import marshal
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dsfn.snapshots.process import machine
from dsfn.snapshots.process.machine import is_known

pytestmark = pytest.mark.skipif(not is_known(), reason="images are for x86-64 and Linux")

PATIENCE_S = 60
# Before the image: `before`. In a process that has gone on: `after`, which knows what it was
# `told`, prints JSON by `say`, and whatever `before` has made.
PROGRAM = """
import json, os, sys
from pathlib import Path
from dsfn.snapshots.process.checkpoint import About, checkpoint
from dsfn.snapshots.process.image import Unfit
from dsfn.snapshots.process.renewal import renew

environ = dict(os.environ)

def say(value):
    print(json.dumps(value), flush=True)

{before}
try:
    told = checkpoint(Path(sys.argv[1]), About(environ, sys.argv[2:], {{"whose": "a test's"}}))
except Unfit as unfit:
    sys.exit(str(unfit))
if told is not None:
    renew(told["environ"])
{after}
    sys.stdout.flush()
    os._exit(0)
"""
GO_ON = """
import os, sys
from dsfn.snapshots.process.image import Unfit
from dsfn.snapshots.process.restoring import Image
try:
    image = Image(sys.argv[1], os.environ)
    assert image.words == {"whose": "a test's"}
    image.go_on({"environ": dict(os.environ), "pid": os.getpid()})
except (OSError, Unfit) as error:
    sys.exit(str(error))
"""


@dataclass(frozen=True)
class Made:
    """An image, and the environment that it was made in; `rights`: whether it is used with those of
    the test run, or with none."""

    path: Path
    environ: Mapping[str, str]
    rights: bool

    def go_on(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """A program of the same Python that goes on from it."""
        words = ("-S", "-P", "-c", GO_ON, str(self.path))
        return _run(words, {**self.environ, **variables}, self.rights)

    def says(self, **variables: str) -> list[object]:
        """What that says, a value each line."""
        done = self.go_on(**variables)
        assert (done.returncode, done.stderr) == (0, "")
        return [json.loads(line) for line in done.stdout.splitlines()]


Make = Callable[..., Made]
Attempt = Callable[..., subprocess.CompletedProcess[str]]
Require = Callable[[str, str], None]
# Root's programs have all rights that are not taken from what they may have at most.
WITHOUT_RIGHTS = ("setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all")


def _run(
    words: tuple[str, ...], environ: Mapping[str, str], rights: bool = True
) -> subprocess.CompletedProcess[str]:
    command = (*(() if rights else WITHOUT_RIGHTS), sys.executable, *words)
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE_S)


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    """Runs a program that makes an image of itself between two pieces of code."""

    def run(
        before: str, after: str = "pass", *files: Path, rights: bool = True
    ) -> subprocess.CompletedProcess[str]:
        program = tmp_path / "program.py"
        indented = textwrap.indent(textwrap.dedent(after), " " * 4)
        program.write_text(PROGRAM.format(before=textwrap.dedent(before), after=indented))
        words = (str(program), str(tmp_path / "an.image"), *map(str, files))
        return _run(words, _environ(), rights)

    return run


@pytest.fixture
def make(tmp_path: Path, attempt: Attempt) -> Make:
    """As `attempt`, which succeeds; the image."""

    def made(before: str, after: str = "pass", *files: Path, rights: bool = True) -> Made:
        done = attempt(before, after, *files, rights=rights)
        assert (done.returncode, done.stderr) == (0, "")
        return Made(tmp_path / "an.image", _environ(), rights)

    return made


def _environ() -> dict[str, str]:
    # NumPy's BLAS would start threads.
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1"}


def test_what_was_in_memory_is_there(make: Make) -> None:
    made = make(
        """
        import torch
        torch.set_num_threads(1)  # there are no threads in an image
        numbers = {number: str(number) for number in range(100_000)}
        weights = torch.arange(1_000_000, dtype=torch.float32)
        """,
        """
        say([len(numbers), numbers[77_777], float(weights.sum()), "torch" in sys.modules])
        say([float((weights[:4].reshape(2, 2) @ torch.ones(2, 2)).sum())])
        say(told["pid"] == os.getpid())
        """,
    )
    counts, product, pid = made.says()
    assert counts == [100_000, "77777", pytest.approx(sum(range(1_000_000))), True]
    assert (product, pid) == ([12.0], True)


def test_a_process_that_has_gone_on_does_all_that_processes_do(make: Make) -> None:
    made = make(
        "import subprocess, threading, time, tempfile, socket",
        """
        began_s = time.time()
        heap = [str(number) * 3 for number in range(500_000)]  # grows the heap, and shrinks it
        del heap
        large = bytearray(100_000_000)
        del large
        threads = [threading.Thread(target=time.sleep, args=(0.01,)) for _ in range(8)]
        for each in threads: each.start()
        for each in threads: each.join()
        child = os.fork()
        if child == 0:
            os._exit(7 if os.getppid() == told["pid"] else 1)
        printed = subprocess.run(["echo", "hello"], capture_output=True, text=True).stdout
        def deep(left): return 0 if left == 0 else 1 + deep(left - 1)
        sys.setrecursionlimit(20_000)
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "a").write_text("b")
        say([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed, deep(10_000)])
        say([abs(time.time() - began_s) < 60, int(os.readlink("/proc/self")) == os.getpid()])
        say(Path("/proc/self/cmdline").read_text().split(chr(0))[1:2])
        """,
    )
    assert made.says() == [
        [7, "hello\n", 10_000],
        [True, True],
        [str(made.path.parent / "program.py")],
    ]


def test_signals_reach_the_handlers_that_the_image_has(make: Make) -> None:
    made = make(
        """
        import signal
        heard = []
        signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
        """,
        """
        os.kill(os.getpid(), signal.SIGUSR1)
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            heard.append("interrupt")
        say(heard)
        """,
    )
    assert made.says() == [[signal.SIGUSR1, "interrupt"]]


def test_each_has_its_own_environment_and_random_numbers(make: Make) -> None:
    made = make(
        "import random, ssl, multiprocessing, secrets, platform, threading; platform.node()",
        """
        say([os.environ.get("WHOSE"), "LEFT" in os.environ])
        say([random.random(), ssl.RAND_bytes(8).hex(), secrets.token_hex(8),
             multiprocessing.current_process().authkey.hex()])
        assert platform.node() == os.uname().nodename
        assert threading.main_thread().native_id == os.getpid()
        """,
    )
    (ours, first), (others, second) = (
        made.says(WHOSE="ours"),
        made.says(WHOSE="another's", LEFT="1"),
    )
    assert (ours, others) == (["ours", False], ["another's", True])
    assert isinstance(first, list) and isinstance(second, list)
    assert not set(first) & set(second)


def test_several_go_on_at_once_and_none_changes_what_others_find(make: Make) -> None:
    made = make(
        "numbers = list(range(100_000))",
        """
        say(sum(numbers))
        for place in range(len(numbers)): numbers[place] = -1
        """,
    )
    before = made.path.read_bytes()
    assert [made.says() for _ in range(3)] == [[sum(range(100_000))]] * 3
    assert made.path.read_bytes() == before


def test_it_takes_no_rights(make: Make, require: Require) -> None:
    require("setpriv", "it is a part of util-linux")
    made = make("import decimal", "say(Path('/proc/self/status').read_text())", rights=False)
    (status,) = made.says()
    assert "CapEff:\t0000000000000000" in str(status)


def test_memory_that_children_find_empty_is_empty_and_stays_so(make: Make) -> None:
    made = make(
        """
        import mmap
        secret = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        secret.madvise(18)  # MADV_WIPEONFORK
        secret[:5] = b"12345"
        other = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        other[:5] = b"abcde"
        """,
        """
        say([secret[:5].decode(), other[:5].decode()])
        secret[:5] = b"67890"
        if os.fork() == 0:
            say([secret[:5].decode(), other[:5].decode()])
            os._exit(0)
        os.wait()
        """,
    )
    assert made.says() == [["\0" * 5, "abcde"]] * 2


@pytest.mark.parametrize(
    ("variable", "is_read"),
    [
        ("OMP_NUM_THREADS", True),
        ("OPENSSL_CONF", True),
        ("PYTHONHASHSEED", True),
        ("TZ", True),
        ("GREETING", False),
    ],
)
def test_one_whose_libraries_have_read_another_environment_does_not_fit(
    make: Make, variable: str, is_read: bool
) -> None:
    made = make("import decimal", "say('went on')")
    done = made.go_on(**{variable: "3"})
    if is_read:
        assert (done.returncode, done.stderr) == (1, "libraries have read another environment\n")
    else:
        assert (done.returncode, done.stdout) == (0, '"went on"\n')


def test_one_of_other_files_does_not_fit(make: Make, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.write_text("first")
    made = make("import decimal", "say('went on')", library)
    assert made.says() == ["went on"]
    library.write_text("other")
    assert made.go_on().stderr == "it is of another machine, or of other files\n"
    library.unlink()
    assert "No such file" in made.go_on().stderr


@pytest.mark.parametrize(("key", "value"), [("boot", "another"), ("packages", ["/x"])])
def test_one_of_another_machine_or_package_does_not_fit(
    make: Make, key: str, value: object
) -> None:
    made = make("import decimal", "say('went on')")
    head = read_head(made.path)
    write_head(made.path, {**head, "identity": {**head["identity"], key: value}})
    assert made.go_on().stderr == "it is of another machine, or of other files\n"


@pytest.mark.parametrize("head", [{}, {"identity": {"version": 2}}, {"identity": "another's"}])
def test_one_of_another_version_does_not_fit_whatever_is_in_it(
    make: Make, head: dict[str, object]
) -> None:
    made = make("import decimal", "say('went on')")
    write_head(made.path, head)
    assert made.go_on().stderr == "it is of another version of dsfn\n"


def test_of_what_has_too_long_a_head_there_is_no_image(attempt: Attempt, tmp_path: Path) -> None:
    done = attempt("environ = {'OMP_LONG': 'x' * (1 << 20)}")
    assert (done.returncode, done.stderr) == (1, "its head is too large\n")
    assert not list(tmp_path.glob("*.image"))


def read_head(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    head: dict[str, Any] = marshal.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return head


def write_head(path: Path, head: Mapping[str, object]) -> None:
    changed = marshal.dumps(dict(head))
    with path.open("r+b") as file:
        file.write(len(changed).to_bytes(8, "little") + changed)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 8, b"\xff" * 100, (1 << 40).to_bytes(8, "little")]
)
def test_what_is_no_image_does_not_fit(make: Make, content: bytes) -> None:
    made = make("import decimal")
    made.path.write_bytes(content)
    assert made.go_on().stderr == "it is no image\n"


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ("kept = open('/dev/null')", "it has files open: /dev/null\n"),
        ("import mmap; kept = mmap.mmap(-1, 4096)", "is shared with other processes\n"),
        (
            "import threading, time\n"
            "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
            "it has threads, which would be gone\n",
        ),
        (
            "import mmap, tempfile\n"
            "with tempfile.TemporaryFile() as file:\n"
            "    file.write(bytes(4096)); file.flush()\n"
            "    import ctypes; libc = ctypes.CDLL(None); libc.mmap.restype = ctypes.c_void_p\n"
            "    libc.mmap(None, 4096, 1, 2, file.fileno(), 0)\n",
            "is deleted\n",
        ),
    ],
)
def test_of_what_no_other_process_can_have_there_is_no_image(
    attempt: Attempt,
    tmp_path: Path,
    before: str,
    reason: str,
) -> None:
    done = attempt(before)
    assert done.returncode == 1 and done.stderr.endswith(reason), done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["program.py"]


def test_the_process_itself_goes_on_as_before(attempt: Attempt) -> None:
    done = attempt("import atexit; atexit.register(print, 'ended as usual')")
    assert (done.returncode, done.stdout) == (0, "ended as usual\n")


def test_the_machine_code_is_that_of_its_source(require: Require, tmp_path: Path) -> None:
    require("as", "it is a part of binutils")
    source = Path(machine.__file__).with_name("machine_code.s")
    made, bare = tmp_path / "code.o", tmp_path / "code"
    subprocess.run(("as", str(source), "-o", str(made)), check=True)
    subprocess.run(("objcopy", "-O", "binary", "-j", ".text", str(made), str(bare)), check=True)
    assert bare.read_bytes() == machine.CODE
