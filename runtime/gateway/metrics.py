"""Metrics for Prometheus, after OpenTelemetry's words for functions (`faas.*`).

    faas.invocations      dsfn_invocations_total{function,status}
    faas.errors           dsfn_errors_total{function,error}; timeouts are error="HandlerTimedOut"
    faas.coldstarts       dsfn_cold_starts_total{function}
    faas.invoke_duration  dsfn_execute_duration_seconds{function}, of answers
    faas.init_duration    dsfn_restore_duration_seconds{function}, of cold starts

The gauges `dsfn_replicas{function,state}`, `dsfn_queue_depth{function}`,
`dsfn_events_queued`, `dsfn_events_dead`, `dsfn_runs_under_way`, `dsfn_steps_under_way`,
`dsfn_outbox_pending{receiver}` and `dsfn_ledger_rows_waiting`, and the counters
`dsfn_failed_restores_total{function}`, `dsfn_runs_total{workflow,state}`,
`dsfn_outbox_failures_total{receiver}` and `dsfn_ledger_problems_total`, are read when they are
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dsfn.billing.usage import Status
from dsfn.functions.values import dataclass
from dsfn.runtime.model import Answer

_EXECUTE_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 300)
_RESTORE_BUCKETS_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class Gauges:
    """What a node holds at one instant. `replicas` by function and state, `queued_calls`
    (waiting for a replica) and `failed_restores` (since the node's start) by function.
    `runs_ended`: since the node's start, by workflow and last state. `outbox_pending`: rows of the
    journal that have not been sent, `outbox_failures`: since the node's start, by receiver.
    `ledger_problems`: what the check of the ledger found since then. `ledger_waiting`: rows of its
    spool that it does not have yet."""

    replicas: Mapping[tuple[str, str], int]
    queued_calls: Mapping[str, int]
    failed_restores: Mapping[str, int]
    events_queued: int
    events_dead: int
    runs_under_way: int
    steps_under_way: int
    runs_ended: Mapping[tuple[str, str], int]
    outbox_pending: Mapping[str, int]
    outbox_failures: Mapping[str, int]
    ledger_problems: int = 0
    ledger_waiting: int = 0


class Metrics:
    """The counters of one node, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._invocations = Counter(
            "dsfn_invocations",
            "Calls that came to an end.",
            ["function", "status"],
            registry=self._registry,
        )
        self._errors = Counter(
            "dsfn_errors",
            "Calls that came to no answer.",
            ["function", "error"],
            registry=self._registry,
        )
        self._cold_starts = Counter(
            "dsfn_cold_starts",
            "Calls that had to wait for a replica to start or to be restored.",
            ["function"],
            registry=self._registry,
        )
        self._execute = Histogram(
            "dsfn_execute_duration_seconds",
            "How long a replica worked on a call that it answered.",
            ["function"],
            buckets=_EXECUTE_BUCKETS_S,
            registry=self._registry,
        )
        self._restore = Histogram(
            "dsfn_restore_duration_seconds",
            "How long a call waited for its replica's restore.",
            ["function"],
            buckets=_RESTORE_BUCKETS_S,
            registry=self._registry,
        )
        # Looking a label up costs more than counting: each function's are looked up once.
        self._answered: dict[str, Callable[[Answer], None]] = {}

    def watch(self, read: Callable[[], Gauges]) -> None:
        """Adds the gauges, which `read` gives at each exposition."""
        self._registry.register(_GaugeCollector(read))

    def answered(self, function: str, answer: Answer) -> None:
        """Counts a call that was answered. Only for functions that exist."""
        count = self._answered.get(function)
        if count is None:
            count = self._answered[function] = self._counting(function)
        count(answer)

    def failed(self, function: str, error: str, status: Status = "failed") -> None:
        """Counts a call that was not. `error`: the class's name. Only for functions that exist."""
        self._invocations.labels(function, status).inc()
        self._errors.labels(function, error).inc()

    def exposition(self) -> bytes:
        """Everything, in the text format of Prometheus."""
        return generate_latest(self._registry)

    def _counting(self, function: str) -> Callable[[Answer], None]:
        succeeded = self._invocations.labels(function, "succeeded")
        cold_starts = self._cold_starts.labels(function)
        execute = self._execute.labels(function)
        restore = self._restore.labels(function)

        def count(answer: Answer) -> None:
            phases = answer.phases
            succeeded.inc()
            execute.observe(phases.execute_us / 1e6)
            if phases.is_cold:
                cold_starts.inc()
                restore.observe(phases.restore_us / 1e6)

        return count


class _GaugeCollector(Collector):
    def __init__(self, read: Callable[[], Gauges]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        gauges = self._read()
        replicas = GaugeMetricFamily(
            "dsfn_replicas", "Running replicas by state.", labels=["function", "state"]
        )
        for (function, state), number in sorted(gauges.replicas.items()):
            replicas.add_metric([function, state], number)
        queue = GaugeMetricFamily(
            "dsfn_queue_depth", "Calls that wait for a replica.", labels=["function"]
        )
        for function, number in sorted(gauges.queued_calls.items()):
            queue.add_metric([function], number)
        queued = GaugeMetricFamily(
            "dsfn_events_queued", "Events to be delivered.", value=gauges.events_queued
        )
        dead = GaugeMetricFamily(
            "dsfn_events_dead", "Events that were given up.", value=gauges.events_dead
        )
        failed = CounterMetricFamily(
            "dsfn_failed_restores",
            "Snapshots that did not restore, so that setup() ran instead.",
            labels=["function"],
        )
        for function, number in sorted(gauges.failed_restores.items()):
            failed.add_metric([function], number)
        problems = CounterMetricFamily(
            "dsfn_ledger_problems",
            "What the check of the ledger found.",
            value=gauges.ledger_problems,
        )
        waiting = GaugeMetricFamily(
            "dsfn_ledger_rows_waiting",
            "Rows of the spool that the ledger does not have yet.",
            value=gauges.ledger_waiting,
        )
        return (
            replicas,
            queue,
            failed,
            waiting,
            queued,
            dead,
            problems,
            *_of_runs(gauges),
            *_of_outbox(gauges),
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the gauges of a node that is not complete yet."""
        return ()


def _of_runs(gauges: Gauges) -> Iterable[Metric]:
    ended = CounterMetricFamily(
        "dsfn_runs", "Runs of workflows that ended.", labels=["workflow", "state"]
    )
    for (workflow, state), number in sorted(gauges.runs_ended.items()):
        ended.add_metric([workflow, state], number)
    under_way = GaugeMetricFamily(
        "dsfn_runs_under_way", "Runs of workflows that have not ended.", value=gauges.runs_under_way
    )
    steps = GaugeMetricFamily(
        "dsfn_steps_under_way", "Calls that runs are waiting for.", value=gauges.steps_under_way
    )
    return (ended, under_way, steps)


def _of_outbox(gauges: Gauges) -> Iterable[Metric]:
    pending = GaugeMetricFamily(
        "dsfn_outbox_pending", "Rows of the journal that were not sent yet.", labels=["receiver"]
    )
    for receiver, number in sorted(gauges.outbox_pending.items()):
        pending.add_metric([receiver], number)
    failures = CounterMetricFamily(
        "dsfn_outbox_failures", "Requests with usage that failed.", labels=["receiver"]
    )
    for receiver, number in sorted(gauges.outbox_failures.items()):
        failures.add_metric([receiver], number)
    return (pending, failures)
