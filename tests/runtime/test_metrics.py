from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from dsfn.runtime.gateway.metrics import Gauges, Metrics
from dsfn.runtime.model import Answer, Charge, Phases


def answer(
    queue_us: int = 0, start_us: int = 0, restore_us: int = 0, execute_us: int = 0
) -> Answer:
    return Answer(
        call_id="i-1",
        revision="echo-0123456789",
        content_type="application/json",
        phases=Phases(queue_us, start_us, restore_us, execute_us),
        charge=Charge("cpu", 1, 2, 0, 3, "USD"),
    )


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values, in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def test_a_warm_answer_is_an_invocation_with_its_duration() -> None:
    metrics = Metrics()
    metrics.answered("echo", answer(queue_us=10, execute_us=2_000))
    metrics.answered("echo", answer(execute_us=30_000))
    found = samples(metrics)
    assert found["dsfn_invocations_total", "echo", "succeeded"] == 2
    assert found["dsfn_execute_duration_seconds_sum", "echo"] == 0.032
    assert found["dsfn_execute_duration_seconds_bucket", "echo", "0.0025"] == 1
    assert found["dsfn_cold_starts_total", "echo"] == 0
    assert found["dsfn_restore_duration_seconds_count", "echo"] == 0


def test_a_cold_answer_is_a_cold_start_with_its_restore() -> None:
    metrics = Metrics()
    metrics.answered("echo", answer(start_us=500, restore_us=7_000, execute_us=1))
    metrics.answered("echo", answer(start_us=500, execute_us=1))
    found = samples(metrics)
    assert found["dsfn_cold_starts_total", "echo"] == 2
    assert found["dsfn_restore_duration_seconds_sum", "echo"] == 0.007


def test_failures_are_counted_by_status_and_by_error() -> None:
    metrics = Metrics()
    metrics.failed("echo", "HandlerRaised")
    metrics.failed("echo", "HandlerTimedOut")
    metrics.failed("echo", "QueueFull", "rejected")
    found = samples(metrics)
    assert found["dsfn_invocations_total", "echo", "failed"] == 2
    assert found["dsfn_invocations_total", "echo", "rejected"] == 1
    assert found["dsfn_errors_total", "HandlerTimedOut", "echo"] == 1
    assert ("dsfn_invocations_total", "echo", "succeeded") not in found


def test_gauges_are_read_at_each_exposition_and_not_before() -> None:
    metrics = Metrics()
    reads: list[int] = []

    def read() -> Gauges:
        reads.append(len(reads))
        return Gauges(
            replicas={("echo", "ready"): len(reads)},
            queued_calls={"echo": 4},
            failed_restores={"echo": 7},
            events_queued=5,
            events_dead=6,
            runs_under_way=8,
            steps_under_way=9,
            runs_ended={("album", "failed"): 2},
            outbox_pending={"openmeter": 10},
            outbox_failures={"openmeter": 11},
        )

    metrics.watch(read)
    assert reads == []
    assert samples(metrics)["dsfn_replicas", "echo", "ready"] == 1
    found = samples(metrics)
    assert found["dsfn_replicas", "echo", "ready"] == 2
    assert found["dsfn_queue_depth", "echo"] == 4
    assert found[("dsfn_events_queued",)] == 5
    assert found[("dsfn_events_dead",)] == 6
    assert found[("dsfn_runs_under_way",)] == 8
    assert found[("dsfn_steps_under_way",)] == 9
    assert found["dsfn_runs_total", "failed", "album"] == 2
    assert found["dsfn_outbox_pending", "openmeter"] == 10
    assert found["dsfn_outbox_failures_total", "openmeter"] == 11


def test_two_nodes_of_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.failed("echo", "HandlerRaised")
    assert samples(second) == {}
