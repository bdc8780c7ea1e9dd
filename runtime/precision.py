"""What lower precision did to a snapshot, for whoever decides whether it is good enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Self

from dsfn.functions.values import dataclass


@dataclass(frozen=True, slots=True)
class Precision:
    """A snapshot's lower precision (`kind`, as in the function's options) and what it costs.

    `bytes_before`: of all its tensors as `setup()` left them, `bytes_after`: as they are in the
    snapshot, of which `kept_bytes` did not change. The others are how its answer to the sample
    is off, as in `dsfn.snapshots.loss.Loss`.
    """

    kind: str
    bytes_before: int
    bytes_after: int
    kept_bytes: int
    relative_error: float | None
    largest_difference: float | None
    equal_share: float | None
    differs: str | None

    def to_document(self) -> dict[str, Any]:
        """This as a JSON-able document, the keys being the fields' names."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Reads back what `to_document` wrote; unknown keys are ignored."""
        return cls(**{f.name: document[f.name] for f in fields(cls)})

    def loss(self) -> str:
        """How the answer to the sample is off, in a few words."""
        words = []
        if self.largest_difference is not None:
            most = f"by {self.largest_difference:.3g} at most"
            relative = self.relative_error
            off = most if relative is None else f"by {_percent(relative)}, each {most}"
            words.append(f"numbers are off {off}")
        if self.equal_share is not None:
            what = "of all else" if words else "of what it answers"
            words.append(f"{_percent(self.equal_share)} {what} is equal")
        if self.differs is not None:
            words.append(self.differs)
        return "; ".join(words) or "nothing can be compared"

    def summary(self) -> str:
        """All of it in two sentences."""
        kept = f", {_size(self.kept_bytes)} of them as they were" if self.kept_bytes else ""
        return (
            f"In {self.kind} its tensors take {_size(self.bytes_after)} instead of"
            f" {_size(self.bytes_before)}{kept}. With the sample, {self.loss()}."
        )


def _percent(share: float) -> str:
    """Three digits, which tell 99.96 % from all."""
    return f"{100 * share:.3g} %" if share < 0.1 or share > 1 else f"{100 * share:.5g} %"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
