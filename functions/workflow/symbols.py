"""What the body of a workflow handles while it is traced, in place of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, Protocol

from dsfn.functions.interface import Kind
from dsfn.functions.values import dataclass
from dsfn.functions.workflow.dag import Expr, Field, ListOf, Within

Scope = tuple[Within, ...]

WHEN = "use dsfn.when(condition, then, otherwise)"
MAP = "use dsfn.map(function, items)"
FUNCTION = "do that in a function, which gets the value, and call it"


class Refuses(Protocol):
    """Says no in the name of the workflow that is being traced."""

    def refuse(self, problem: str) -> NoReturn:
        """Raises `DefinitionError` with the author's line."""


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """Whence a symbol is. `what`: in words; `scope`: where it may be used, there and within.
    `kind`: of the value, or of each of a list's when `many`; None where it is not known."""

    trace: Refuses
    expr: Expr
    scope: Scope
    what: str
    kind: Kind | None = None
    many: bool = False


def _refuse(symbol: Symbol, problem: str, instead: str) -> NoReturn:
    origin = origin_of(symbol)
    origin.trace.refuse(
        f"{origin.what} {problem}: no values flow while a workflow is traced; {instead}"
    )


def _refusing(problem: str, instead: str) -> Callable[..., Any]:
    def method(self: Symbol, *_: object, **__: object) -> NoReturn:
        _refuse(self, problem, instead)

    return method


class Symbol:
    """A value that there will be: an input, a result, an item. It can be given to functions and
    returned; of JSON, members can be taken (`result["label"]`, `result.label`, `result[0]`).

    Whatever else would need the value is refused with `DefinitionError`.
    """

    __slots__ = ("_origin",)

    # Asked by `isinstance` of all that is no symbol itself: the body wants to know a type.
    __class__ = property(_refusing("has no type that could be asked for", WHEN))

    def __init__(self, origin: Origin) -> None:
        object.__setattr__(self, "_origin", origin)

    def __getitem__(self, key: object) -> Symbol:
        origin = origin_of(self)
        if type(key) is not str and type(key) is not int:
            shown = "a value of the workflow" if is_symbol(key) else f"a {type(key).__name__}"
            _refuse(self, f"cannot be indexed by {shown}: only by a text or a number", FUNCTION)
        if isinstance(key, int) and key < 0:
            _refuse(self, "cannot be indexed from its end", FUNCTION)
        return _member(origin, key, f"[{key!r}]")

    def __getattr__(self, name: str) -> Symbol:
        if name.startswith("_"):
            raise AttributeError(name)
        return _member(origin_of(self), name, f".{name}")

    def __iter__(self) -> Iterator[Symbol]:
        origin = origin_of(self)
        if not isinstance(origin.expr, ListOf):
            _refuse(self, "cannot be gone through or unpacked", f"{MAP}, or take members by [0]")
        return iter([_member(origin, i, f"[{i}]") for i in range(len(origin.expr.items))])

    def __repr__(self) -> str:
        return f"<{origin_of(self).what}>"


def origin_of(symbol: Symbol) -> Origin:
    """Whence a symbol is."""
    origin: Origin = object.__getattribute__(symbol, "_origin")
    return origin


def is_symbol(value: object) -> bool:
    """Whether this is a symbol; `isinstance(symbol, Other)` is refused to all code."""
    return issubclass(type(value), Symbol)


def refuse_symbols(args: Iterable[Any]) -> None:
    """Raises `DefinitionError` if one of the arguments of a plain call is a symbol: the call is
    made where the body is not known, in a thread say, and would be lost."""
    for value in args:
        if is_symbol(value):
            origin = origin_of(value)
            origin.trace.refuse(
                f"{origin.what} is given to a function outside of the body, such as in a thread;"
                " steps that can run at once do, so call it in the body itself"
            )


def _member(origin: Origin, key: str | int, shown: str) -> Symbol:
    what = f"{shown} of {origin.what}"
    if origin.many and isinstance(key, int):
        return Symbol(
            Origin(origin.trace, _field(origin.expr, key), origin.scope, what, origin.kind)
        )
    if origin.many or origin.kind not in (None, "json", "event"):
        held = f"a list of {origin.kind} parts" if origin.many else f"of kind {origin.kind}"
        origin.trace.refuse(f"{origin.what} is {held}, and {shown} would look into it; {FUNCTION}")
    kind: Kind | None = None if origin.kind is None else "json"
    return Symbol(Origin(origin.trace, _field(origin.expr, key), origin.scope, what, kind))


def _field(expr: Expr, key: str | int) -> Expr:
    if isinstance(expr, ListOf) and isinstance(key, int) and key < len(expr.items):
        return expr.items[key]
    return Field(expr, key)


_BINARY = "add sub mul truediv floordiv mod divmod pow lshift rshift and xor or matmul".split()
_REFUSED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("cannot be tested for truth", WHEN, ("bool",)),
    (
        "cannot be compared",
        f"compare in a function, and {WHEN}",
        ("eq", "ne", "lt", "le", "gt", "ge"),
    ),
    ("cannot be searched", f"search in a function, and {WHEN}", ("contains",)),
    ("has no length yet", f"{FUNCTION}; for every item of a list, {MAP}", ("len", "length_hint")),
    ("cannot be gone through", MAP, ("reversed", "next", "aiter", "anext")),
    (
        "cannot be computed with",
        FUNCTION,
        (
            *_BINARY,
            *(f"r{name}" for name in _BINARY),
            *(f"i{name}" for name in _BINARY if name != "divmod"),
            *"neg pos abs invert round trunc floor ceil int float complex index bytes".split(),
        ),
    ),
    ("cannot be made into text", FUNCTION, ("str", "format", "fspath")),
    ("cannot be in a set or be a dictionary's key", FUNCTION, ("hash",)),
    ("cannot be changed", FUNCTION, ("setitem", "delitem", "setattr", "delattr")),
    ("cannot be called", FUNCTION, ("call",)),
    ("cannot be awaited", "call it as a plain function", ("await",)),
    ("cannot be a context", FUNCTION, ("enter", "exit", "aenter", "aexit")),
    ("cannot be copied or pickled", FUNCTION, ("reduce_ex", "copy", "deepcopy")),
)
for _problem, _instead, _names in _REFUSED:
    for _name in _names:
        setattr(Symbol, f"__{_name}__", _refusing(_problem, _instead))
