"""The values of planning: what is offered, what is wanted, and the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, get_args

from dsfn.functions.interface import Interface
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Dag
from dsfn.functions.workflow.document import from_document, to_document

Objective = Literal["cost", "latency"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)

# The plan itself and its alternatives.
MAX_PLANS = 4
# What a call counts as of which nothing was measured.
UNMEASURED_US = 1_000_000
# Nobody knows before a run how many items a list has.
ASSUMED_ITEMS = 8
# What a workflow adds to a call: its step is stored before and after.
STEP_US = 2_000
# However often it failed, a function counts as working this often.
MIN_SUCCESS = 0.05


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one call of a function is expected to take.

    `held_us`: the median of warm calls; `restore_us`: the mean wait of the `cold_share` that
    were cold; `failed_share`: of calls that failed, each of which is expected to be made again;
    `cost_nano`: the mean cost of a call. `calls`: how many were measured; 0 for an assumption.
    """

    held_us: int = UNMEASURED_US
    cost_nano: int = 0
    calls: int = 0
    cold_share: float = 0.0
    restore_us: int = 0
    failed_share: float = 0.0
    device_class: str = "cpu"

    @property
    def expected_us(self) -> int:
        """How long until a call has succeeded, on the average."""
        return round((self.held_us + self.cold_share * self.restore_us) / self._success)

    @property
    def expected_nano(self) -> int:
        """What it costs until a call has succeeded, on the average."""
        return round(self.cost_nano / self._success)

    @property
    def _success(self) -> float:
        return max(MIN_SUCCESS, 1.0 - self.failed_share)


# Where there is no node with rates of its own: a second at those that a node has by default.
UNMEASURED = Estimate(cost_nano=11_500)
UNMEASURED_ON_GPU = Estimate(cost_nano=1_000_000, device_class="gpu")


@dataclass(frozen=True, slots=True)
class Offer:
    """A function that a plan may call. `lanes`: how many calls of it can run at once."""

    name: str
    interface: Interface
    estimate: Estimate
    tags: tuple[str, ...] = ()
    revision: str = ""
    lanes: int = 8


@dataclass(frozen=True, slots=True)
class Flow:
    """What goes into a plan or comes out: values of a content type, such as `audio/wav` or
    `image/*`. `many`: a list of them."""

    media: str
    many: bool = False

    def __str__(self) -> str:
        return f"{self.media}[]" if self.many else self.media


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted. `inputs` by name; every one of them is used. `want`: words that the
    functions of the plan should be about."""

    inputs: Mapping[str, Flow]
    output: Flow
    want: str = ""
    optimise: Objective = "latency"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A call of a plan. `runs`: how often it is expected to be called in one run."""

    id: str
    function: str
    revision: str
    runs: int
    estimate: Estimate

    def to_document(self) -> dict[str, Any]:
        """This step as a JSON-able document."""
        estimate = self.estimate
        return {
            "id": self.id,
            "function": self.function,
            "revision": self.revision,
            "runs": self.runs,
            "estimate": {
                **asdict(estimate),
                "expected_us": estimate.expected_us,
                "expected_nano": estimate.expected_nano,
            },
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> PlannedStep:
        """Reads back what `to_document` wrote."""
        derived = ("expected_us", "expected_nano")
        estimate = {k: v for k, v in document["estimate"].items() if k not in derived}
        return cls(**{**document, "estimate": Estimate(**estimate)})


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another way to the same output, its functions in the order of their calls. `fits`: whether
    it is as much about the wanted words as the plan."""

    functions: tuple[str, ...]
    latency_us: int
    cost_nano: int
    fits: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow that gives what is wanted, with what a run is expected to take and cost.

    `latency_us`: of the longest path of calls; waiting for a replica is not in it.
    `explanation`: sentences. `complete`: whether every way was looked at that could be better.
    """

    dag: Dag
    steps: tuple[PlannedStep, ...]
    latency_us: int
    cost_nano: int
    currency: str
    explanation: tuple[str, ...]
    alternatives: tuple[Alternative, ...] = ()
    complete: bool = True

    def __str__(self) -> str:
        return "\n".join(self.explanation)

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions in the order of their calls."""
        return tuple(step.function for step in self.steps)

    def to_document(self) -> dict[str, Any]:
        """This plan as a JSON-able document."""
        return {
            "dag": to_document(self.dag),
            "steps": [step.to_document() for step in self.steps],
            "latency_us": self.latency_us,
            "cost": {"currency": self.currency, "amount_nano": self.cost_nano},
            "explanation": list(self.explanation),
            "alternatives": [
                {
                    "functions": list(other.functions),
                    "latency_us": other.latency_us,
                    "cost": {"currency": self.currency, "amount_nano": other.cost_nano},
                    "fits": other.fits,
                }
                for other in self.alternatives
            ],
            "complete": self.complete,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Plan:
        """Reads back what `to_document` wrote. Raises `DefinitionError`."""
        return cls(
            dag=from_document(document["dag"]),
            steps=tuple(map(PlannedStep.from_document, document["steps"])),
            latency_us=document["latency_us"],
            cost_nano=document["cost"]["amount_nano"],
            currency=document["cost"]["currency"],
            explanation=tuple(document["explanation"]),
            alternatives=tuple(
                Alternative(
                    tuple(other["functions"]),
                    other["latency_us"],
                    other["cost"]["amount_nano"],
                    other["fits"],
                )
                for other in document["alternatives"]
            ),
            complete=document["complete"],
        )
