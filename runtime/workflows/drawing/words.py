"""What the parts of a workflow are called in a picture."""

from __future__ import annotations

from collections.abc import Mapping

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import (
    Call,
    Choice,
    Collected,
    Constant,
    Decide,
    Each,
    Expr,
    Field,
    Input,
    Item,
    ListOf,
    ObjectOf,
    Result,
    Step,
    StepOptions,
    WorkflowInput,
)

MAX_CONSTANT_CHARS = 24


@dataclass(frozen=True, slots=True)
class Words:
    """Names for the steps and expressions of one workflow, whose `steps` are these."""

    steps: Mapping[str, Step]

    def title(self, step: Step) -> str:
        """The name of a step's box."""
        match step:
            case Call():
                return step.id
            case Decide():
                return f"{self.of(step.condition)}?"
            case Each():
                return f"each of {', '.join(self.of(items) for items in step.items)}"

    def of(self, expr: Expr) -> str:
        """An expression as a person would name it."""
        match expr:
            case Input(name):
                return name
            case Result(step):
                return step
            case Item(each, index):
                return self._item(each, index)
            case Constant(text):
                return _shortened(text)
            case ListOf(items):
                return f"[{', '.join(self.of(item) for item in items)}]"
            case ObjectOf(members):
                return f"{{{', '.join(f'{name}: {self.of(of)}' for name, of in members)}}}"
            case Field(of, key):
                return self.of(of) + (f"[{key}]" if isinstance(key, int) else f".{key}")
            case Choice(_, then, otherwise):
                return f"{self.of(then)} or {self.of(otherwise)}"
            case Collected(_, of):
                return f"all {self.of(of)}"

    def _item(self, each: str, index: int) -> str:
        step = self.steps[each]
        assert isinstance(step, Each)
        return f"each of {self.of(step.items[index])}"


def notes(step: Step) -> tuple[str, ...]:
    """What else is to be known of a step."""
    match step:
        case Call():
            named = () if step.function == step.id else (step.function,)
            return (*named, *_options(step.options))
        case Decide():
            return ()
        case Each():
            return (f"{step.parallel} at once",)


def taken(branch: bool) -> str:
    """What a branch of a decision is called."""
    return "yes" if branch else "no"


def kind(given: WorkflowInput) -> str:
    """What an input is: "image", "list of image", "text, optional"."""
    name = f"list of {given.kind}" if given.many else given.kind
    return name if given.required else f"{name}, optional"


def _options(options: StepOptions) -> list[str]:
    found = []
    if options.retries:
        found.append(f"retries {options.retries}")
    if options.timeout_s is not None:
        found.append(f"timeout {options.timeout_s:g} s")
    if options.cache:
        found.append("cache")
    if options.budget_nano is not None:
        found.append("budget")
    fallback = options.fallback
    if fallback is not None and fallback.function is not None:
        found.append(f"else {fallback.function}")
    elif fallback is not None and fallback.value is not None:
        found.append(f"else {_shortened(fallback.value.text)}")
    return found


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_CONSTANT_CHARS else f"{text[: MAX_CONSTANT_CHARS - 1]}…"
