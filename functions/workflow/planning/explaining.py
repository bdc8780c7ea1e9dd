"""A plan in sentences: why this one, by which numbers, and what else there would be."""

from __future__ import annotations

from collections.abc import Sequence

from dsfn.functions.workflow.planning.assembling import Assembled
from dsfn.functions.workflow.planning.bounds import Bounds
from dsfn.functions.workflow.planning.catalogue import Catalogue
from dsfn.functions.workflow.planning.model import ASSUMED_ITEMS, Alternative, PlannedStep
from dsfn.functions.workflow.planning.values import Value
from dsfn.functions.workflow.planning.words import DESCRIPTION, NAME, TAG

_PLACES = {TAG: "tags", NAME: "name", DESCRIPTION: "description"}


def explain(
    catalogue: Catalogue,
    bounds: Bounds,
    chosen: Assembled,
    goal: Value,
    alternatives: Sequence[Alternative],
    currency: str,
    complete: bool,
) -> tuple[str, ...]:
    """The sentences of a plan."""
    sentences = [_whole(catalogue, chosen, currency)]
    sentences += [_step(step, currency) for step in chosen.steps]
    sentences += [
        _met(catalogue, at, weight, chosen.steps)
        if weight
        else _unmet(catalogue, bounds, at, complete)
        for at, weight in enumerate(goal.weights)
    ]
    if any(step.runs > 1 for step in chosen.steps):
        sentences.append(f"A list counts as {ASSUMED_ITEMS} items: how long it is, a run shows.")
    sentences += _exact_type(catalogue)
    sentences += [_other(other, chosen, currency) for other in alternatives]
    if not alternatives:
        sentences.append("No other way was found.")
    if not complete:
        sentences.append("There were too many ways to look at all: a better one may exist.")
    return tuple(sentences)


def seconds(duration_us: int) -> str:
    """A duration for people: "1.24 s", "38 ms"."""
    return (
        f"{duration_us / 1e6:.2f} s" if duration_us >= 1_000_000 else f"{duration_us / 1e3:.0f} ms"
    )


def money(amount_nano: int, currency: str) -> str:
    """An amount for people, exact to the nano: "0.00009 USD"."""
    text = f"{amount_nano // 10**9}.{amount_nano % 10**9:09d}".rstrip("0")
    return f"{text.removesuffix('.')} {currency}"


def _whole(catalogue: Catalogue, chosen: Assembled, currency: str) -> str:
    request = catalogue.request
    inputs = " and ".join(map(str, request.inputs.values()))
    calls = " -> ".join(step.function for step in chosen.steps)
    best = {"latency": "the soonest", "cost": "the cheapest"}[request.optimise]
    return (
        f"From {inputs} to {request.output}: {calls}, {best} way found, about"
        f" {seconds(chosen.latency_us)} and {money(chosen.cost_nano, currency)} a run."
    )


def _step(step: PlannedStep, currency: str) -> str:
    estimate = step.estimate
    if not estimate.calls:
        problem = "failed whenever it was called" if estimate.failed_share else "was not measured"
        return (
            f"{step.function} {problem}: a call counts as"
            f" {seconds(estimate.held_us)} and {money(estimate.cost_nano, currency)}."
        )
    calls = "1 call" if estimate.calls == 1 else f"{estimate.calls} calls"
    sentence = (
        f"{step.function} took {seconds(estimate.held_us)} and"
        f" {money(estimate.cost_nano, currency)} a call, measured over {calls}"
    )
    if estimate.cold_share:
        share, wait = f"{estimate.cold_share:.0%}", seconds(estimate.restore_us)
        sentence += f"; {share} of them waited {wait} for a replica"
    if estimate.failed_share:
        sentence += f"; {estimate.failed_share:.0%} failed"
    return f"{sentence}."


def _met(catalogue: Catalogue, at: int, weight: int, steps: Sequence[PlannedStep]) -> str:
    by_name = {f.name: f.weights[at] for f in catalogue.usable}
    met_by = next(step.function for step in steps if by_name[step.function] == weight)
    return f"'{catalogue.words[at]}' is met by {met_by}, by its {_PLACES[weight]}."


def _unmet(catalogue: Catalogue, bounds: Bounds, at: int, complete: bool) -> str:
    """That nothing is about a word can be said of what was looked at alone."""
    word, about = catalogue.words[at], bounds.wanted[at].functions
    if complete or not about:
        return f"Nothing on the way is about '{word}'."
    return (
        f"'{word}' is not met: {catalogue.usable[about[0]].name} is about it, but no way by it was"
        " found before the search ended at its limit."
    )


def _exact_type(catalogue: Catalogue) -> list[str]:
    """Functions say an image, not which kind of file: that is known once one is there."""
    media = catalogue.request.output.media
    if media.endswith("/*") or media in ("text/plain", "application/json"):
        return []
    if media.partition("/")[0] in ("text", "image", "audio", "video"):
        return [f"That it is exactly {media} no function promises; the result says what it is."]
    return []


def _other(other: Alternative, chosen: Assembled, currency: str) -> str:
    return (
        f"Instead, {' -> '.join(other.functions)} would take about"
        f" {_compared(other.latency_us, chosen.latency_us, seconds(other.latency_us))} and"
        f" {_compared(other.cost_nano, chosen.cost_nano, money(other.cost_nano, currency))}"
        f"{'' if other.fits else ', but is less about what is wanted'}."
    )


def _compared(other: int, own: int, text: str) -> str:
    if other == own or own == 0:
        return text
    change = f"{other / own:.1f} times" if other >= 2 * own else f"{(other - own) / own:+.0%}"
    return f"{text} ({change})"
