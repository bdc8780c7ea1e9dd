"""Why there is no plan: what the inputs lead to, and what leads to the output."""

from __future__ import annotations

from collections.abc import Sequence

from dsfn.functions.errors import NoPlan
from dsfn.functions.listing import listed
from dsfn.functions.workflow.planning.bounds import Bounds
from dsfn.functions.workflow.planning.catalogue import Catalogue, Slot, Usable


def no_plan(catalogue: Catalogue, bounds: Bounds, complete: bool) -> NoPlan:
    """The error for inputs from which nothing leads to the output, as far as was looked."""
    request = catalogue.request
    ends = f"from {' and '.join(map(str, request.inputs.values()))} to {request.output}"
    reached = [catalogue.usable[i] for i in bounds.reachable]
    giving = [f for f in catalogue.usable if catalogue.is_output(f.gives, 0)]
    sentences = [
        f"No deployed functions lead {ends}."
        if complete
        else f"No way {ends} was found before the search ended at its limit."
    ]
    unused = [g.name for g in catalogue.given if not _is_taken(catalogue, g.type)]
    if unused:
        sentences.append(f"No function takes {listed(unused)}.")
    if reached:
        kinds = sorted({catalogue.types.describe(f.gives) for f in reached})
        names = listed([f.name for f in reached])
        sentences.append(f"The inputs lead to {listed(kinds)}, by {names}.")
    sentences += _towards(catalogue, giving, bounds)
    if bounds.useful and not unused and complete:
        sentences.append("No plan uses every input.")
    return NoPlan(
        " ".join(sentences),
        inputs={name: str(flow) for name, flow in request.inputs.items()},
        output=str(request.output),
        unused=unused,
        reachable=[f.name for f in reached],
        giving=[f.name for f in giving],
    )


def _towards(catalogue: Catalogue, giving: Sequence[Usable], bounds: Bounds) -> list[str]:
    """What leads to the output, and what each of those still misses."""
    if not giving:
        return [f"No function gives {catalogue.request.output}."]
    missing = [
        f"{function.name} needs {listed([_slot(catalogue, slot) for slot in slots])}"
        for function in giving
        if (slots := _unfed(catalogue, function, bounds))
    ]
    sentence = f"{catalogue.request.output} comes from {listed([f.name for f in giving])}"
    return [f"{sentence}; {listed(missing)}." if missing else f"{sentence}."]


def _unfed(catalogue: Catalogue, function: Usable, bounds: Bounds) -> list[Slot]:
    """The parameters for which there is nothing."""
    return [
        slot for slot in function.required if not any(catalogue.ways(t, slot) for t in bounds.types)
    ]


def _slot(catalogue: Catalogue, slot: Slot) -> str:
    return f"'{slot.name}' ({catalogue.types.describe(slot.type)})"


def _is_taken(catalogue: Catalogue, type_: int) -> bool:
    return any(
        catalogue.ways(type_, slot)
        for function in catalogue.usable
        for slot in (*function.required, *function.optional)
    )
