"""`@function` and `@on`: how an author says that something is to be deployed."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, update_wrapper
from typing import Any, Literal, ParamSpec, TypeVar, cast, overload

from dsfn.functions.batching import check_batches, check_weight
from dsfn.functions.durations import Seconds
from dsfn.functions.errors import DefinitionError
from dsfn.functions.event import Filter
from dsfn.functions.interface import Interface, Kind
from dsfn.functions.option_values import options_of
from dsfn.functions.options import Options
from dsfn.functions.placement import Placement
from dsfn.functions.retrying import Policy
from dsfn.functions.shape import call_of, check_shape, required_names
from dsfn.functions.signature import Signature, signature_of
from dsfn.functions.triggers import Triggered, triggers_of
from dsfn.functions.workflow.body import Callee

P = ParamSpec("P")
R = TypeVar("R")

_HOOKS = ("setup", "after_restore", "sample")


class Function(Triggered, Callee[P, R]):
    """Something to deploy. Calling it runs the plain function, without any checking; in the
    body of a workflow it becomes a step.

    `target` is what was decorated; a class is instantiated (and set up) at the first call.
    `weight`: how much an item counts when the time of a batch is divided among its calls, None
    for all the same.
    """

    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, R]

    def __init__(
        self,
        target: Callable[P, R],
        options: Options,
        triggers: tuple[Filter, ...] = (),
        weight: Callable[[Any], int] | None = None,
    ) -> None:
        update_wrapper(self, target, updated=())
        self.target = target
        self.options = options
        self.triggers = triggers
        self.weight = weight
        self._lock = threading.Lock()
        self._instance: Callable[P, R] | None = None

    @property
    def is_class(self) -> bool:
        """Whether the target is a class with `__call__`."""
        return isinstance(self.target, type)

    @cached_property
    def signature(self) -> Signature:
        """What it takes and gives. Raises `DefinitionError`."""
        return signature_of(self.target)

    def interface(self) -> Interface:
        """Signature, docstring and triggers as a document. Raises `DefinitionError`."""
        if self.options.max_batch > 1:
            check_batches(self.options.name, self.target, self.signature)
        if self.options.precision is not None:
            _require_sample(self.options.name, self.target)
        return self.signature.interface(inspect.cleandoc(self.__doc__ or ""), self.triggers)

    @property
    def called(self) -> str:
        """Its name."""
        return self.options.name

    @property
    def result_kind(self) -> Kind | None:
        """The kind of its result. Raises `DefinitionError`."""
        return self.signature.result.kind

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the plain function."""
        if not self.is_class:
            return self.target(*args, **kwargs)
        return self._ready_instance()(*args, **kwargs)

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by parameter. Raises `TypeError` as a call would."""
        target: object = self.target
        call = call_of(target) if isinstance(target, type) else self.target
        own = (None, *args) if self.is_class else args
        given = inspect.signature(call).bind(*own, **kwargs).arguments
        return dict(list(given.items())[1:] if self.is_class else given)

    def __reduce__(self) -> str:
        # Pickled by name, as the plain function would be.
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<dsfn function {self.options.name!r}>"

    def _ready_instance(self) -> Callable[P, R]:
        with self._lock:
            if self._instance is None:
                instance = cast("Callable[[], Any]", self.target)()
                if hasattr(instance, "setup"):
                    instance.setup()
                self._instance = instance
            return self._instance


@overload
def function(target: type[Any], /) -> Function[..., Any]: ...


@overload
def function(target: Callable[P, R], /) -> Function[P, R]: ...


@overload
def function(
    *,
    name: str | None = None,
    gpu: float = 0.0,
    memory: int | str | None = None,
    concurrency: int = 1,
    min_replicas: int = 0,
    max_replicas: int = 8,
    park_after: Seconds = 60.0,
    remove_after: Seconds = 600.0,
    timeout: Seconds = 300.0,
    retries: int = 3,
    backoff_policy: Policy = "exponential",
    backoff_delay: Seconds = 1.0,
    max_queue: int = 1000,
    max_batch: int = 1,
    weight: Callable[[Any], int] | None = None,
    precision: Literal["int8", "fp8"] | None = None,
    env: Mapping[str, str] | None = None,
    requirements: Sequence[str] = (),
    tags: Sequence[str] = (),
    placement: Placement | None = None,
) -> Callable[[Callable[P, R]], Function[P, R]]: ...


def function(target: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Makes a function, async function, generator or class deployable.

    Bare or with options: `name` (default: the target's, in kebab-case), `gpu` (a count
    or a fraction), `memory` (bytes or "2GiB"), `concurrency`, `min_replicas`,
    `max_replicas`, `park_after`, `remove_after` and `timeout` (seconds or "5m"),
    `retries` (attempts after the first, of an event that comes to it), `backoff_policy`
    and `backoff_delay` (how long they wait for each other), `max_queue`, `max_batch`
    (items that are run as one, for a function from one list to a list as long), `weight`
    (a function from one item to a whole number: how much it counts when the time of a
    batch is divided; without one all count the same), `precision` ("int8" or "fp8", of a
    model's weights in the snapshot), `env`, `requirements`, `tags` (words that say what
    it is for), `placement` (what a cluster is asked for). A class may have `setup()`,
    `after_restore()` and `sample()`, and must have `__call__`. Raises `DefinitionError`.
    """
    if target is not None and options:
        raise DefinitionError("@function takes its options by name, and nothing else.")
    if target is not None:
        return _make(target, {})
    weight = options.pop("weight", None)
    return lambda decorated: _make(decorated, options, weight)


def _make(
    target: Any, given: Mapping[str, Any], weight: Callable[[Any], int] | None = None
) -> Function[..., Any]:
    if isinstance(target, Function):
        raise DefinitionError(f"'{target.__name__}' is decorated with @function twice.")
    if not isinstance(target, type) and not inspect.isroutine(target):
        raise DefinitionError(
            f"@function goes on a function or a class, not on a {type(target).__name__}."
        )
    if isinstance(target, type):
        _check_class(target)
    else:
        found = inspect.signature(target)
        check_shape(target.__name__, list(found.parameters.values()), found.return_annotation)
    options = options_of(target.__name__, **given)
    if weight is not None:
        check_weight(weight, options.max_batch)
    return Function(target, options, triggers_of(target), weight)


def _check_class(target: type) -> None:
    name = target.__name__
    found = inspect.signature(call_of(target))
    check_shape(name, list(found.parameters.values())[1:], found.return_annotation)
    needed = required_names(getattr(target, "__init__"), skip=1)  # noqa: B009
    if needed:
        raise DefinitionError(
            f"Class '{name}' needs {needed} to be made; a deployed class takes no arguments,"
            " load what it needs in setup().",
            function=name,
        )
    for hook in _HOOKS:
        method = getattr(target, hook, None)
        if method is None:
            continue
        if not callable(method) or inspect.iscoroutinefunction(method):
            raise DefinitionError(f"{hook} of '{name}' must be a plain method.", function=name)
        if required_names(method, skip=1):
            raise DefinitionError(f"{hook} of '{name}' takes no arguments.", function=name)


def _require_sample(name: str, target: Callable[..., object]) -> None:
    if not hasattr(target, "sample"):
        raise DefinitionError(
            f"precision of '{name}' needs a class with a sample(): with the call that it gives,"
            " the deployment measures what the lower precision costs in accuracy.",
            function=name,
        )
