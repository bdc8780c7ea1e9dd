"""A workflow as lines for a terminal: its steps in order, branches and fan-outs indented.

photos  list of image
voice   audio
each of photos, 8 at once
│ classify                 <- each of photos (retries 3)
has-speech                 <- voice
has-speech?
├ yes
│ transcribe               <- voice
└ no
index                      <- all classify, transcribe or ""
=> index
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Call, Dag, Decide, Each, Step, Within
from dsfn.runtime.workflows.drawing.progress import Progress
from dsfn.runtime.workflows.drawing.words import Words, kind, notes, taken

WIDTH = 80
_MAX_NAME = 44
_STATE_WIDTH = len("succeeded")
_INSIDE = "│ "


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `state`: of the step that it tells of, in a picture of a run."""

    text: str
    state: str | None = None


def draw_text(
    dag: Dag,
    run: Mapping[str, Progress] | None = None,
    currency: str = "",
    width: int = WIDTH,
) -> list[Line]:
    """The lines, none longer than `width`; with `run`, the progress of each step by its id."""
    rows = list(_Tree(dag, run, currency).rows())
    column = min(
        _MAX_NAME, width // 2 + 4, max((len(row.name) for row in rows if row.said), default=0)
    )
    return [Line(_cut(row.joined(column), width), row.state) for row in rows]


@dataclass(frozen=True, slots=True)
class _Row:
    """A line before its columns have their widths."""

    name: str
    said: str = ""
    state: str | None = None

    def joined(self, column: int) -> str:
        if not self.said:
            return self.name
        return f"{_cut(self.name, column):<{column}}  {self.said}"


class _Tree:
    def __init__(self, dag: Dag, run: Mapping[str, Progress] | None, currency: str) -> None:
        self._dag = dag
        self._run = run
        self._currency = currency
        self._words = Words(dag.by_id)
        self._members: dict[Within | None, list[Step]] = {}
        for step in dag.steps:
            self._members.setdefault(step.within, []).append(step)

    def rows(self) -> Iterator[_Row]:
        longest = max((len(given.name) for given in self._dag.inputs), default=0)
        for given in self._dag.inputs:
            yield _Row(f"{given.name:<{longest}}  {kind(given)}")
        yield from self._scope(None, "")
        yield _Row(f"=> {self._words.of(self._dag.output)}")

    def _scope(self, scope: Within | None, indent: str) -> Iterator[_Row]:
        for step in self._members.get(scope, ()):
            yield self._row(step, indent)
            if isinstance(step, Each):
                yield from self._scope(Within(step.id), indent + _INSIDE)
            elif isinstance(step, Decide):
                yield _Row(f"{indent}├ {taken(True)}")
                yield from self._scope(Within(step.id, True), indent + _INSIDE)
                yield _Row(f"{indent}└ {taken(False)}")
                yield from self._scope(Within(step.id, False), indent + "  ")

    def _row(self, step: Step, indent: str) -> _Row:
        name = indent + self._words.title(step)
        if self._run is not None:
            progress = self._run.get(step.id, Progress())
            said = ", ".join(progress.words(self._currency))
            return _Row(name, f"{progress.state:<{_STATE_WIDTH}}  {said}".rstrip(), progress.state)
        more = ", ".join(notes(step))
        if not isinstance(step, Call):
            return _Row(f"{name}, {more}" if more else name)
        takes = ", ".join(self._words.of(expr) for _, expr in step.arguments)
        arrow = f"<- {takes}" if takes else ""
        return _Row(name, f"{arrow} ({more})".strip() if more else arrow)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
