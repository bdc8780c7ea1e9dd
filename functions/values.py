"""`dataclass` as the standard library has it, at a tenth of its price.

A class of that one is made by compiling up to six methods. A program that a caller waits for
defines hundreds, and makes values of a few: here `__init__` is compiled when it is first wanted,
and the rest needs no compiling. One that is forked again and again has all of them compiled before
(`compile_all`), or each fork would. All else is the standard library's: `fields`, `replace`,
`asdict` and `field` are used as they are there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, TypeVar, dataclass_transform
from weakref import WeakSet

_T = TypeVar("_T")


@dataclass_transform(field_specifiers=(field,))
def dataclass(
    *, eq: bool = True, frozen: bool = False, slots: bool = False, weakref_slot: bool = False
) -> Callable[[type[_T]], type[_T]]:
    """A decorator: see `dataclasses.dataclass`, which knows these arguments too."""
    bare = dataclasses.dataclass(
        init=False, repr=False, eq=False, slots=slots, weakref_slot=weakref_slot
    )

    def decorate(cls: type[_T]) -> type[_T]:
        # For one without a docstring theirs is made of its signature, which takes longest of all.
        cls.__doc__ = cls.__doc__ or cls.__name__
        made = bare(cls)
        known: tuple[Field[Any], ...] = fields(made)  # type: ignore[arg-type]  # `bare` made it one
        methods: dict[str, object] = {"__init__": _Init(made, frozen, slots)}
        methods["__repr__"] = _repr([each.name for each in known if each.repr])
        if eq:
            methods["__eq__"] = _eq(_key([each.name for each in known if each.compare]))
            methods["__hash__"] = _hash(_key(_hashed(known))) if frozen else None
        if frozen:
            methods.update(_frozen(made, frozenset(each.name for each in known)))
        if frozen and slots:
            methods.update(_pickled([each.name for each in known]))
        for name, method in methods.items():
            if not _says(made, name):
                setattr(made, name, method)
        return made

    return decorate


def compile_all() -> None:
    """Compiles `__init__` of all classes that have made no value yet."""
    for init in tuple(_waiting):
        init.compile()


def _says(cls: type, name: str) -> bool:
    """Whether a class has a method of its own. None is Python's: its `__hash__` beside `__eq__`."""
    return cls.__dict__.get(name) is not None


class _Init:
    """`__init__` of a class, compiled when it is first looked up, which puts it in its place."""

    def __init__(self, cls: type, frozen: bool, slots: bool) -> None:
        self._cls, self._frozen, self._slots = cls, frozen, slots
        _waiting.add(self)

    def __get__(self, instance: object, owner: type | None = None) -> object:
        return self.compile().__get__(instance, owner)

    def compile(self) -> Any:
        """Puts the real one in its place."""
        _waiting.discard(self)
        init = _compiled(self._cls, self._frozen, self._slots)
        self._cls.__init__ = init  # type: ignore[misc]  # of this class alone
        return init


# Weak: one that a class does not take, having its own, is gone from here by itself.
_waiting: WeakSet[_Init] = WeakSet()


class _New:
    """Stands in a signature for what is made for each value anew."""

    def __repr__(self) -> str:
        return "<factory>"


_NEW = _New()


def _compiled(cls: Any, frozen: bool, slots: bool) -> Any:
    """Names that begin with two underscores and `dsfn` are no fields'."""
    known: dict[str, object] = {"__dsfn_new": _NEW, "__dsfn_set": object.__setattr__}
    parameters, lines = ["self"], []
    for each in fields(cls):
        name, default, make = each.name, f"__dsfn_default_{each.name}", f"__dsfn_make_{each.name}"
        value = name
        if each.default is not MISSING:
            known[default] = each.default
        elif each.default_factory is not MISSING:
            known[make] = each.default_factory
        if each.init and default in known:
            parameters.append(f"{name}={default}")
        elif each.init and make in known:
            parameters.append(f"{name}=__dsfn_new")
            value = f"{make}() if {name} is __dsfn_new else {name}"
        elif each.init:
            parameters.append(name)
        elif make in known:
            value = f"{make}()"
        elif slots and default in known:
            value = default
        else:
            continue
        lines.append(
            f"  __dsfn_set(self, {name!r}, {value})" if frozen else f"  self.{name} = {value}"
        )
    if hasattr(cls, "__post_init__"):
        lines.append("  self.__post_init__()")
    body = "\n".join(lines or ["  pass"])
    exec(f"def __init__({', '.join(parameters)}):\n{body}", known)
    init: Any = known["__init__"]
    init.__qualname__, init.__module__ = f"{cls.__qualname__}.__init__", cls.__module__
    init.__annotations__ = {each.name: each.type for each in fields(cls) if each.init}
    init.__annotations__["return"] = None
    return init


def _repr(names: list[str]) -> Callable[[Any], str]:
    @recursive_repr()
    def said(self: Any) -> str:
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({told})"

    return said


def _key(names: list[str]) -> Callable[[Any], object]:
    """What values are compared and hashed by."""
    return attrgetter(*names) if names else lambda value: ()


def _hashed(known: tuple[Field[Any], ...]) -> list[str]:
    return [each.name for each in known if (each.compare if each.hash is None else each.hash)]


def _eq(key: Callable[[Any], object]) -> Callable[[Any, Any], bool]:
    def equal(self: Any, other: Any) -> bool:
        return key(self) == key(other) if type(other) is type(self) else NotImplemented

    return equal


def _hash(key: Callable[[Any], object]) -> Callable[[Any], int]:
    return lambda self: hash(key(self))


def _frozen(cls: Any, names: frozenset[str]) -> dict[str, object]:
    def assign(self: Any, name: str, value: object) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def delete(self: Any, name: str) -> None:
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return {"__setattr__": assign, "__delattr__": delete}


def _pickled(names: list[str]) -> dict[str, object]:
    """Pickle would set the slots of what is frozen."""

    def state(self: Any) -> list[object]:
        return [getattr(self, name) for name in names]

    def set_state(self: Any, state: list[object]) -> None:
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    return {"__getstate__": state, "__setstate__": set_state}
