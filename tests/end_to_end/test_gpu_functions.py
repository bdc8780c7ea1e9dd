"""Functions on GPUs: here on a stand-in, whose memory the same owner hands out."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from apps import gpus, two_gpus
from deadlines import eventually
from gpu_scenes import (
    MIB,
    SEEDS,
    check_a_function_on_two_gpus,
    check_that_workers_are_born_ready,
    expected,
    resident_bytes,
    stand_in,
    weights,
)
from live_node import (
    APPS,
    SHARED_MEMORY,
    DeployFailed,
    Document,
    LiveNode,
    StartNode,
    left_in_shared_memory,
    start_node,
)

from dsfn.runtime.cli.documents import DeviceDocument, LinkDocument, MemoryDocument

# Two of the functions fit, three do not.
SMALL = stand_in(40 * MIB, warm=1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """A node for the whole file. Of workers that nobody uses it has one, with a context."""
    node = start_node(tmp_path_factory.mktemp("gpus"), gpu=SMALL, spares=0)
    try:
        node.deploy(APPS / "gpus.py")
        yield node
        assert node.stop() == 0, node.log
        assert not node.processes()
        assert "Traceback" not in node.log, node.log
    finally:
        node.end()


@pytest.fixture
def small(shared: LiveNode) -> LiveNode:
    """That node, with nothing on its GPU."""
    for name in (*SEEDS, "sleeper"):
        shared.park(name, "absent")
    eventually(lambda: shared.memory()["mappings"] == 0, "the GPU to be empty")
    return shared


@pytest.fixture
def single(start: StartNode) -> LiveNode:
    """A node of a test's own, with one function."""
    node = start(gpu=SMALL)
    node.deploy(APPS / "one_gpu.py")
    return node


@pytest.fixture
def pair(start: StartNode) -> LiveNode:
    """A node with two GPUs, each with 40 MiB beside what the owner needs of it for the other."""
    devices = [f"host:{size * MIB}:0" for size in (136, 137)]
    return start(gpu={**SMALL, "devices": devices, "warm": 0})


def test_a_function_on_a_gpu_answers_parks_and_answers_again(small: LiveNode) -> None:
    described = small.describe("sleeper")
    assert described["snapshot"] is not None, described["snapshot_reason"]
    pid, *first = small.value("sleeper", number=1.5)
    assert first == gpus.answer(weights(4), 1.5)
    eventually(lambda: small.states("sleeper") == ["parked"], "it to park")
    assert small.memory()["mappings"] == 0
    back = small.call("sleeper", number=1.5)
    assert back.json() == [pid, *first]
    assert small.row(back).restore_us > 0


def test_more_functions_than_fit_take_turns(small: LiveNode) -> None:
    for number, name in enumerate(("alpha", "beta", "gamma") * 4):
        assert small.value(name, number=number) == expected(name, number)
        assert small.memory()["devices"][0]["resident_bytes"] <= 40 * MIB
    states = sorted(state for name in SEEDS for state in small.states(name))
    assert states == ["parked", "ready", "ready"]


def test_a_call_waits_while_those_that_hold_the_memory_are_busy(small: LiveNode) -> None:
    for name in SEEDS:
        small.value(name, number=0)
    with ThreadPoolExecutor(3) as threads:
        busy = [threads.submit(small.value, n, number=1, seconds=1) for n in ("alpha", "beta")]
        eventually(lambda: small.states("alpha") == small.states("beta") == ["busy"], "two calls")
        assert small.value("gamma", number=2) == expected("gamma", 2)
        assert [each.result() for each in busy] == [expected("alpha", 1), expected("beta", 1)]


def test_many_calls_at_once_are_all_right(small: LiveNode) -> None:
    draw = random.Random(0)
    wanted = [(draw.choice(list(SEEDS)), draw.randrange(9)) for _ in range(120)]
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(lambda w: small.value(w[0], number=w[1]), wanted))
    assert found == [expected(*each) for each in wanted]


def test_an_owner_that_is_killed_is_replaced_and_nothing_is_lost(small: LiveNode) -> None:
    before = small.memory()
    assert small.value("alpha", number=1) == expected("alpha", 1)
    os.kill(before["pid"], signal.SIGKILL)
    for name in SEEDS:
        assert small.value(name, number=2) == expected(name, 2)
    after = small.memory()
    assert after["pid"] != before["pid"]
    assert after["restarts"] == before["restarts"] + 1
    assert after["mappings"] == 2


def test_an_owner_that_is_killed_leaves_running_calls_alone(small: LiveNode) -> None:
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(small.value, "alpha", number=1, seconds=1)
        eventually(lambda: small.states("alpha") == ["busy"], "the call to run")
        os.kill(small.memory()["pid"], signal.SIGKILL)
        assert running.result() == expected("alpha", 1)
    assert small.value("alpha", number=3) == expected("alpha", 3)


def test_nothing_leaks_when_workers_and_owners_die_again_and_again(small: LiveNode) -> None:
    shared_memory = set(SHARED_MEMORY.iterdir())

    def kill_worker(name: str) -> None:
        assert small.value(name, number=1) == expected(name, 1)
        (pid,) = small.pids(name)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: pid not in small.pids(name), "its end to be seen")

    def kill_owner() -> None:
        pid = small.memory()["pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: small.memory()["pid"] != pid, "another owner")

    def kill_all() -> None:
        for name in SEEDS:
            kill_worker(name)
        kill_owner()
        for name in SEEDS:
            for to in ("parked", "absent"):
                assert small.value(name, number=2) == expected(name, 2)
                small.park(name, to)

    kill_all()
    before = held_at_rest(small)
    for _ in range(3):
        kill_all()
    eventually(lambda: held_at_rest(small).descriptors <= before.descriptors, "them to be closed")
    after = held_at_rest(small)
    assert after.account == before.account
    assert after.private_bytes < before.private_bytes + 4 * MIB  # a quarter of one slab
    assert not left_in_shared_memory(shared_memory)


def test_a_flipped_byte_is_refused_and_the_function_runs_setup(single: LiveNode) -> None:
    digest = single.describe("alpha")["snapshot"]["digest"]
    (slab,) = (single.data / "snapshots" / digest).glob("slab-gpu0*")
    slab.chmod(0o644)
    with slab.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        last = file.read(1)
        file.seek(-5, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    # The arena's copy was right. Nobody takes over what an owner has left that crashed.
    os.kill(single.memory()["pid"], signal.SIGSEGV)
    assert single.value("alpha", number=1) == expected("alpha", 1)
    assert single.metric("dsfn_failed_restores_total", function="alpha") > 0


def test_a_node_that_is_killed_takes_its_owner_along(single: LiveNode, start: StartNode) -> None:
    single.value("alpha", number=1)
    owner = single.memory()["pid"]
    single.kill()
    eventually(lambda: has_ended(owner), "the owner to end")
    again = start(single.place, gpu=SMALL)
    assert again.value("alpha", number=1) == expected("alpha", 1)


def test_a_frozen_replica_comes_back_in_the_same_process(small: LiveNode) -> None:
    pid, *first = small.value("sleeper", number=2)
    told = small.http.post("/functions/sleeper/park", json={"to": "frozen"})
    assert told.json() == {"name": "sleeper", "to": "frozen", "replicas": 1}
    assert small.states("sleeper") == ["frozen"]
    process = psutil.Process(int(pid))
    eventually(lambda: process.status() == psutil.STATUS_STOPPED, "it to be stopped")
    assert small.value("sleeper", number=2) == [pid, *first]
    small.park("sleeper", "frozen")
    small.park("sleeper", "absent")
    eventually(lambda: small.describe("sleeper")["state"] == "absent", "it to go")
    assert small.value("sleeper", number=2)[1:] == first


def test_a_frozen_replica_that_is_killed_is_replaced(small: LiveNode) -> None:
    assert small.value("alpha", number=1) == expected("alpha", 1)
    small.park("alpha", "frozen")
    (pid,) = small.pids("alpha")
    os.kill(pid, signal.SIGKILL)
    assert small.value("alpha", number=2) == expected("alpha", 2)
    assert small.pids("alpha") != {pid}


def test_a_replica_whose_thaw_fails_is_replaced(small: LiveNode) -> None:
    assert small.value("alpha", number=1) == expected("alpha", 1)
    small.park("alpha", "frozen")
    (pid,), owner = small.pids("alpha"), small.memory()["pid"]
    os.kill(owner, signal.SIGSTOP)  # so that the thaw is asked for and not done
    with ThreadPoolExecutor(1) as thread:
        calling = thread.submit(small.value, "alpha", number=2)
        eventually(lambda: small.states("alpha") != ["frozen"], "the thaw to begin")
        os.kill(owner, signal.SIGKILL)
        assert calling.result() == expected("alpha", 2)
    assert small.pids("alpha") != {pid}
    eventually(lambda: not psutil.pid_exists(pid), "the frozen process to end")


def test_a_spare_worker_takes_over_a_function_that_is_absent(small: LiveNode) -> None:
    for name in ("alpha", "beta"):
        eventually(lambda: small.memory()["warm"] == [1], "a spare worker")
        there = small.processes()
        assert small.value(name, number=1) == expected(name, 1)
        assert small.pids(name) <= there


def test_a_worker_is_born_with_what_every_worker_on_a_gpu_needs(start: StartNode) -> None:
    check_that_workers_are_born_ready(start(gpu=SMALL))


def test_a_spare_worker_that_had_to_go_is_there_again_when_there_is_room(small: LiveNode) -> None:
    for name in SEEDS:
        small.value(name, number=1)
        small.park(name)
    eventually(lambda: small.memory()["warm"] == [1], "a spare worker")
    for name in SEEDS:  # the last needs what the spare and the first have
        small.value(name, number=1)
    for name in SEEDS:
        small.park(name)
    eventually(lambda: small.memory()["warm"] == [1], "another")


def test_contexts_of_parked_replicas_are_frozen_when_they_add_up(start: StartNode) -> None:
    # A context counts 3 MiB, and those of parked replicas may take 5 of the 40.
    node = start(gpu={**SMALL, "context": f"{3 * MIB}B", "warm": 0})
    node.deploy(APPS / "gpus.py")
    for name in SEEDS:
        assert node.value(name, number=1) == expected(name, 1)
        node.park(name)

    def is_settled() -> bool:
        states = sorted(state for name in SEEDS for state in node.states(name))
        return states == ["frozen", "frozen", "parked"]

    eventually(is_settled, "the coldest to be frozen")
    for name in SEEDS:
        assert node.value(name, number=2) == expected(name, 2)


def test_slabs_leave_the_arena_for_others_and_come_back(start: StartNode) -> None:
    node = start(gpu={**SMALL, "arena": f"{40 * MIB}B"})  # two slabs, of four
    node.deploy(APPS / "gpus.py")
    assert all(node.describe(name)["snapshot"] for name in SEEDS)
    for number, name in enumerate(("alpha", "beta", "gamma") * 3):
        assert node.value(name, number=number) == expected(name, number)
    assert node.memory()["slabs"] == 2


def test_pinned_slabs_stay_in_the_arena_and_others_can_be_fetched_ahead(start: StartNode) -> None:
    node = start(gpu={**SMALL, "arena": f"{40 * MIB}B"})  # two slabs, of four
    node.deploy(APPS / "gpus.py")

    def tiers(name: str) -> list[str]:
        snapshots = node.http.get("/snapshots").json()["snapshots"]
        (found,) = [s["tiers"] for s in snapshots if name in json.dumps(s["functions"])]
        return list(found)

    digest = node.describe("alpha")["snapshot"]["digest"]
    assert node.http.post(f"/snapshots/{digest}/pin").status_code == 200
    assert node.http.post("/snapshots/prefetch", json={"functions": ["alpha"]}).status_code == 200
    for name in ("beta", "gamma") * 2:
        assert node.value(name, number=1) == expected(name, 1)
        assert "arena" in tiers("alpha")
    assert "gpu" in tiers("gamma")
    assert "arena" not in tiers("beta")
    assert node.http.post("/snapshots/prefetch", json={"functions": ["beta"]}).status_code == 200
    assert "arena" in tiers("beta")
    assert "arena" not in tiers("gamma")


def test_room_that_does_not_come_is_not_waited_for(start: StartNode) -> None:
    node = start(gpu=SMALL, queue_timeout_s=1)
    node.deploy(APPS / "gpus.py")
    with ThreadPoolExecutor(2) as threads:
        busy = [threads.submit(node.value, n, number=1, seconds=4) for n in ("alpha", "beta")]
        eventually(lambda: node.states("alpha") == node.states("beta") == ["busy"], "two calls")
        refused = node.call("gamma", number=2)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert [each.result() for each in busy] == [expected("alpha", 1), expected("beta", 1)]
    assert node.value("gamma", number=2) == expected("gamma", 2)


def test_replicas_are_spread_over_gpus(pair: LiveNode) -> None:
    pair.deploy(APPS / "gpus.py")
    for name in ("alpha", "beta"):
        assert pair.value(name, number=1) == expected(name, 1)
    assert resident_bytes(pair) == [16 * MIB, 16 * MIB]


def test_a_function_on_two_gpus_has_its_weights_on_each_however_it_comes_back(
    pair: LiveNode,
) -> None:
    check_a_function_on_two_gpus(pair)


def test_functions_on_one_gpu_make_room_for_one_on_both(pair: LiveNode) -> None:
    pair.deploy(APPS / "gpus.py")
    pair.deploy(APPS / "two_gpus.py")
    sums = [sum(range(count)) for count in two_gpus.COUNTS]
    for number in (1, 2, 3):
        for name in ("alpha", "beta"):
            assert pair.value(name, number=number) == expected(name, number)
        assert pair.value("pair", number=number) == [number * each for each in sums]


def test_more_gpus_than_there_are_are_refused(small: LiveNode, tmp_path: Path) -> None:
    app = tmp_path / "greedy.py"
    app.write_text("import dsfn\n@dsfn.function(gpu=2)\ndef greedy() -> int:\n    return 1\n")
    with pytest.raises(DeployFailed, match="asks for 2 GPUs, and this node has 1"):
        small.deploy(app)


def test_an_arena_that_is_too_small_deploys_without_a_snapshot(start: StartNode) -> None:
    node = start(gpu={**SMALL, "arena": f"{8 * MIB}B"})
    node.deploy(APPS / "one_gpu.py")
    assert "The arena has no room" in node.describe("alpha")["snapshot_reason"]
    assert node.value("alpha", number=1) == expected("alpha", 1)


def test_the_status_says_where_every_byte_is(small: LiveNode) -> None:
    small.value("alpha", number=1)
    eventually(lambda: small.memory()["warm"] == [1], "a spare worker")
    found = small.memory()
    assert set(found) == set(MemoryDocument.__annotations__)
    assert set(found["devices"][0]) == set(DeviceDocument.__annotations__)
    assert set(found["links"][0]) == set(LinkDocument.__annotations__)
    assert found["arena_used_bytes"] + found["arena_free_bytes"] == found["arena_bytes"]
    (device,) = found["devices"]
    assert device["resident_bytes"] == 16 * MIB
    places = ("resident", "pooled", "neighbour", "staging", "free")
    assert sum(device[f"{place}_bytes"] for place in places) == device["total_bytes"]


@dataclass(frozen=True)
class Held:
    """What a node and its memory owner hold together, and what the owner says of the arena and of
    the GPU."""

    private_bytes: int
    descriptors: int
    account: Document


def held_at_rest(node: LiveNode) -> Held:
    """With nothing on its GPU, and there: the spare worker, which has descriptors of the node's,
    and the heir, which shares the arena with the owner."""

    def at_rest() -> Document | None:
        found = node.memory()
        is_empty = found["mappings"] == found["workers"] == 0
        is_whole = found["warm"] == [1] and found["heir_pid"] is not None
        return found if is_empty and is_whole else None

    found = eventually(at_rest, "the owner to take all back")
    processes = [psutil.Process(pid) for pid in (node.process.pid, found.pop("pid"))]
    descriptors = sum(process.num_fds() for process in processes)
    private_bytes = sum(private_bytes_of(process.pid) for process in processes)
    account = {name: found[name] for name in ("arena_used_bytes", "slabs", "devices")}
    return Held(private_bytes, descriptors, account)


def private_bytes_of(pid: int) -> int:
    """The host memory that a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
