"""Code that runs while its weights arrive: it answers as if they had been there."""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gate_scenes import (
    SLOW,
    again,
    arrival_of,
    owned,
    slab_of,
    starved,
    weights,
    written,
)
from snapshot_app import Tagged, small_transformer
from torch import nn
from torch.nn import functional
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from dsfn.functions.errors import OwnerLost, ReplicaLost
from dsfn.snapshots.gate import gated
from dsfn.snapshots.restore import Restored

pytestmark = pytest.mark.usefixtures("alone")

FIRST = 64 * 64 * 4

GIVEN = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def abc(tmp_path: Path) -> Restored:
    """Three matrices of which nothing is there."""
    return starved(tmp_path / "a", weights("a", "b", "c"))


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """No gate leaves anything of itself in torch or Python."""
    before = _seams()
    yield
    assert _seams() == before


def _seams() -> list[object]:
    hooks = nn.modules.module._global_forward_pre_hooks
    return [
        *(getattr(torch.Tensor, name) for name in ("data_ptr", "numpy", "tolist")),
        *("data_ptr" in vars(torch.Tensor), threading.Thread.start, os.fork, len(hooks)),
        *(torch._C.ScriptMethod.__call__, sys.meta_path, _get_current_dispatch_mode_stack()),
    ]


class Net(nn.Module):
    """Runs its layers in another order than it has them."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(6))
        self.order = (0, 3, 1, 5, 2, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number in self.order:
            x = torch.tanh(self.layers[number](x))
        return x


def scripted() -> nn.Module:
    module: nn.Module = torch.jit.script(nn.Sequential(*Net().layers).eval())
    return module


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(500, 64)
        self.out = nn.Linear(64, 500, bias=False)
        self.out.weight = self.words.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.out(self.words(tokens))
        return hidden


TOKENS = torch.arange(12).view(2, 6) % 50
PICTURE = torch.linspace(0, 1, 3 * 16 * 16).view(1, 3, 16, 16)
VECTORS = torch.linspace(-1, 1, 2 * 256).view(2, 256)
MODELS: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "another order": (Net, VECTORS),
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 256, 3)),
        PICTURE,
    ),
    "a transformer": (small_transformer, TOKENS),
    "tied weights": (Tied, TOKENS),
    "a recurrent one": (lambda: nn.GRU(256, 256, 2), VECTORS),
    "TorchScript": (scripted, VECTORS),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_whose_weights_arrive_answers_as_before(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    make, given = MODELS[name]
    model = make().eval()
    directory = written(tmp_path / "a", {"model": model})
    right = _answer(model, given)
    with owned(f"host:{1 << 26}:{50 << 20}", directory) as scene:
        restored = scene.restore(directory)
        for _ in range(3):
            with gated([slab_of(restored)]):
                found = _answer(restored.state["model"], given)
            assert torch.equal(found, right)
            again(restored)


def _answer(model: Any, given: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        answer = model(given)
    first: torch.Tensor = answer[0] if isinstance(answer, tuple) else answer
    return first


def test_the_first_layers_run_before_the_last_have_arrived(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(512, 512) for _ in range(8)]
    directory = written(tmp_path / "a", {"model": nn.Sequential(*layers).eval()})
    with owned(SLOW, directory) as scene:
        restored = scene.restore(directory)
        arrival, model = arrival_of(restored), restored.state["model"]
        assert isinstance(model, nn.Sequential)
        arrived: list[int] = []
        for layer in model:
            layer.register_forward_hook(lambda *_: arrived.append(arrival.arrived_bytes))
        with torch.inference_mode(), gated([slab_of(restored)]) as arriving:
            model(torch.ones(1, 512))
        assert 4 * 512 * 513 <= arrived[0] < arrived[-1] == arrival.size_bytes
        assert arriving.waited_us > 0


def private(name: str) -> Callable[..., Any]:
    """A function of torch's that its types do not tell of."""
    function: Callable[..., Any] = getattr(torch._C, name)
    return function


Use = Callable[[torch.Tensor, torch.Tensor], object]
OPERATIONS: dict[str, Use] = {
    "an argument": lambda a, b: GIVEN @ a,
    "by keyword": lambda a, b: torch.mm(input=GIVEN, mat2=a),
    "in a list": lambda a, b: torch.cat([GIVEN, a]),
    "in a list of lists": lambda a, b: torch.stack([torch.stack([a, a]), torch.stack([a, a])]),
    "as an output": lambda a, b: torch.add(GIVEN[:1], 1, out=a[:1].clone()) + a,
    "in place": lambda a, b: a.clone().add_(a),
    "a view": lambda a, b: a.t()[3:].sum(0),
    "a view made without it": lambda a, b: (a.t(), b.t(), b[3].view(8, 8), b.detach())[0].sum(0),
    "a row of another's memory": lambda a, b: torch.as_strided(
        a[60:], (64, 64), (64, 1), 0
    ).clone(),
    "beside its own bytes": lambda a, b: torch.as_strided_copy(a[60:], (64, 64), (64, 1), 0),
    "functional": lambda a, b: functional.linear(GIVEN, a),
    "its number": lambda a, b: float(a[63, 63]) + a.sum().item(),
    "a class of the user's own": lambda a, b: (a.as_subclass(Tagged) + 1).as_subclass(torch.Tensor),
    "to another dtype": lambda a, b: a.to(torch.float64),
    "mapped over": lambda a, b: torch.func.vmap(lambda row: row @ a)(GIVEN),
    "its derivative": lambda a, b: torch.func.grad(lambda x: (x @ a).sum())(GIVEN),
    "as numbers": lambda a, b: a.tolist(),
    "by numpy": lambda a, b: np.asarray(a).sum().item() + a.numpy()[0, 0].item(),
    "in a capsule": lambda a, b: torch.utils.dlpack.from_dlpack(private("_to_dlpack")(a)).clone(),
    "its private address": lambda a, b: ctypes.string_at(private("_data_address")(a), FIRST),
    "by another library": lambda a, b: np.from_dlpack(a).sum().item(),
    "its address": lambda a, b: ctypes.string_at(a.data_ptr(), FIRST),
    "its address, to read": lambda a, b: ctypes.string_at(
        getattr(a, "const_data_ptr", a.data_ptr)(),
        FIRST,  # of newer versions of torch
    ),
    "its storage": lambda a, b: [a.untyped_storage()[at] for at in range(8)],
    "for a file": lambda a, b: pickle.loads(pickle.dumps(a)),
    "by a function of Python's": lambda a, b: torch.ones(64, 64).map_(a, lambda x, y: x + y),
}


@pytest.mark.parametrize("inference", [False, True], ids=["", "inference"])
@pytest.mark.parametrize("use", OPERATIONS.values(), ids=OPERATIONS)
def test_what_is_used_is_waited_for_and_no_more(
    abc: Restored, use: Use, inference: bool, tmp_path: Path
) -> None:
    kept = weights("a", "b", "c")
    with torch.inference_mode(inference):
        right = use(kept["a"], kept["b"])
        with gated([slab_of(abc)]):
            found = use(_tensor(abc, "a"), _tensor(abc, "b"))
    assert _same(found, right)
    assert arrival_of(abc).arrived_bytes == FIRST


def _tensor(restored: Restored, name: str) -> torch.Tensor:
    tensor = restored.state[name]
    assert isinstance(tensor, torch.Tensor)
    return tensor


def _same(found: object, right: object) -> bool:
    if isinstance(right, torch.Tensor):
        return isinstance(found, torch.Tensor) and torch.equal(found, right)
    return found == right


def test_a_part_of_a_tensor_does_not_wait_for_the_rest(tmp_path: Path) -> None:
    stack = torch.arange(8 * 64.0).view(8, 64)
    restored = starved(tmp_path / "a", {"stack": stack})
    with gated([slab_of(restored)]):
        found = _tensor(restored, "stack").unbind()[2] + 1
    assert torch.equal(found, stack[2] + 1)
    assert arrival_of(restored).arrived_bytes == 3 * 64 * 4


def test_gradients_flow_through_what_arrives(abc: Restored) -> None:
    with gated([slab_of(abc)]):
        weight = nn.Parameter(_tensor(abc, "b"))
        _backward((GIVEN @ _tensor(abc, "a") @ weight).square().sum())
    kept = weights("a", "b")
    right = nn.Parameter(kept["b"])
    _backward((GIVEN @ kept["a"] @ right).square().sum())
    assert weight.grad is not None and right.grad is not None
    assert torch.equal(weight.grad, right.grad)


def _backward(loss: torch.Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it so


def test_what_is_written_to_a_tensor_stays_until_it_is_parked(tmp_path: Path) -> None:
    directory = written(tmp_path / "a", weights("a", "b", size=1024))
    with owned(SLOW, directory) as scene:
        restored = scene.restore(directory)
        with gated([slab_of(restored)]):
            _tensor(restored, "b")[0].fill_(7)  # the bytes that come must not come over it
        slab_of(restored).unpark()
        assert (_tensor(restored, "b")[0] == 7).all()
        again(restored)
        with gated([slab_of(restored)]):
            assert torch.equal(_tensor(restored, "b"), weights("a", "b", size=1024)["b"])


@torch.jit.script
def _scripted(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x * 2 + 1)


def _in_a_thread(a: torch.Tensor) -> object:
    found: list[torch.Tensor] = []
    thread = threading.Thread(target=lambda: found.append(a + 1))
    thread.start()
    thread.join()
    return found[0]


def _in_a_pool(a: torch.Tensor) -> object:
    with ThreadPoolExecutor() as pool:
        return pool.submit(lambda: a + 1).result()


def _in_a_child(a: torch.Tensor) -> object:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(theirs, ctypes.string_at(torch._C.TensorBase.data_ptr(a), 64))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(theirs)
    with open(ours, "rb") as pipe:  # noqa: PTH123  # a descriptor
        return pipe.read()


def _compiled(a: torch.Tensor) -> object:
    def runs_around(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        def run(x: torch.Tensor) -> tuple[torch.Tensor]:
            bits = ctypes.string_at(torch._C.TensorBase.data_ptr(x), FIRST)
            return (torch.frombuffer(bytearray(bits), dtype=torch.float32) + 1,)

        return run

    return torch.compile(lambda x: x + 1, backend=runs_around)(a)


def _past_dispatch(a: torch.Tensor) -> object:
    with torch._C._DisableTorchDispatch():
        return a + 1


def _without_modes(a: torch.Tensor) -> object:
    with _python_dispatch._disable_current_modes():
        return a + 1


def _without_a_key(a: torch.Tensor) -> object:
    with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.Python)):
        return a + 1


AROUND: dict[str, Callable[[torch.Tensor], object]] = {
    "a thread": _in_a_thread,
    "a pool of threads": _in_a_pool,
    "a child": _in_a_child,
    "TorchScript": _scripted,
    "a compiled function": _compiled,
    "what turns the dispatcher off": _past_dispatch,
    "what puts modes away": _without_modes,
    "what leaves a key of the dispatcher out": _without_a_key,
    "printed": lambda a: f"{a!r} {a}",
    "a sparse tensor": lambda a: torch.sparse_coo_tensor(
        TOKENS[:, :6], a[0, :6], (64, 64), check_invariants=True
    ).sum(),
    "a higher-order operator": lambda a: torch.ops.higher_order.out_dtype(
        torch.ops.aten.mm.default, torch.int32, a.to(torch.int8), a.to(torch.int8)
    ),
}


@pytest.mark.parametrize("name", AROUND)
def test_what_goes_around_the_operations_waits_for_all(abc: Restored, name: str) -> None:
    right = AROUND[name](weights("a")["a"])
    again(abc)
    with gated([slab_of(abc)]):
        found = AROUND[name](_tensor(abc, "a"))
    assert _same(found, right)
    assert slab_of(abc).arrival is None


def test_a_library_that_is_first_imported_inside_may_go_around_it(
    abc: Restored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "triton" / "runtime"
    package.mkdir(parents=True)
    (tmp_path / "triton" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "jit.py").write_text("class JITFunction:\n    def run(self): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with gated([slab_of(abc)]):
        importlib.import_module("triton.runtime.jit")
        assert slab_of(abc).arrival is None
    again(abc)
    with gated([slab_of(abc)]):
        sys.modules["triton.runtime.jit"].JITFunction().run()
        assert slab_of(abc).arrival is None
    again(abc)
    del sys.modules["triton.runtime.jit"].JITFunction.run  # as if it were of another version
    with gated([slab_of(abc)]):
        assert slab_of(abc).arrival is None
    for name in ("triton", "triton.runtime", "triton.runtime.jit"):
        del sys.modules[name]


def test_a_process_with_other_threads_waits_for_all_first(abc: Restored) -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    with gated([slab_of(abc)]):
        assert slab_of(abc).arrival is None
        end.set()
        thread.join()


class _Counts(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it so
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it so
        self.seen = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, before which all has to be there

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += 1
        return func(*args, **(kwargs or {}))


def test_a_gate_is_gone_once_all_is_there_and_leaves_modes_of_others(abc: Restored) -> None:
    inside = nn.Identity()
    with gated([slab_of(abc)]), _Counts() as mode:
        assert len(_get_current_dispatch_mode_stack()) == 2
        inside(_tensor(abc, "a") + 1)
        assert len(_get_current_dispatch_mode_stack()) == 2
        inside(_tensor(abc, "c") + 1)
        assert _get_current_dispatch_mode_stack() == [mode]
        assert "data_ptr" not in vars(torch.Tensor)
        before = mode.seen
        torch.ones(1) + 1
        assert mode.seen == before + 2


@pytest.mark.parametrize("inside", ["inference", "a transform", "a graph's backward pass"])
def test_a_gate_that_opens_in_the_middle_of_something_leaves_torch_in_order(
    abc: Restored, inside: str
) -> None:
    layer = nn.Identity()

    def touch_all(x: torch.Tensor) -> torch.Tensor:
        total = x @ _tensor(abc, "c")
        layer(total)  # the gate may open here
        return total

    with gated([slab_of(abc)]):
        if inside == "inference":
            with torch.inference_mode():
                touch_all(GIVEN)
        elif inside == "a transform":
            torch.func.vmap(touch_all)(GIVEN)
        else:
            leaf = GIVEN.clone().requires_grad_()
            leaf.register_hook(touch_all)  # type: ignore[no-untyped-call]  # torch leaves it so
            _backward((leaf @ _tensor(abc, "a")).sum())
            assert slab_of(abc).arrival is None
        assert torch.equal(torch.ones(2) + 1, torch.full((2,), 2.0))
        again = nn.Linear(64, 64)(GIVEN)
        _backward(again.sum())
    assert _get_current_dispatch_mode_stack() == []


def test_an_exception_inside_comes_out_and_the_rest_still_arrives(abc: Restored) -> None:
    with pytest.raises(ZeroDivisionError), gated([slab_of(abc)]):
        _ = _tensor(abc, "a").sum() / (1 // 0)
    slab_of(abc).unpark()
    assert torch.equal(_tensor(abc, "c"), weights("a", "b", "c")["c"])


def test_several_slabs_arrive_at_once(tmp_path: Path) -> None:
    one, two = starved(tmp_path / "a", weights("a")), starved(tmp_path / "b", weights("b"))
    with gated([slab_of(one), slab_of(two)]):
        found = GIVEN @ _tensor(two, "b")
        assert (arrival_of(one).arrived_bytes, slab_of(two).arrival) == (0, None)
        found = found @ _tensor(one, "a")
    assert torch.equal(found, GIVEN @ weights("b")["b"] @ weights("a")["a"])


def test_an_owner_killed_in_the_middle_fails_the_call_whatever_the_code_makes_of_it(
    tmp_path: Path,
) -> None:
    directory = written(tmp_path / "a", weights("a", "b", size=1024))
    with owned(SLOW, directory) as scene:
        restored = scene.restore(directory)

        def stubborn() -> str:
            try:
                return str(_tensor(restored, "b").sum())
            except OwnerLost:
                return "never mind"

        with pytest.raises(ReplicaLost) as lost, gated([slab_of(restored)]):
            _tensor(restored, "a")[0].sum()
            os.kill(scene.control.pid, signal.SIGKILL)
            assert stubborn() == "never mind"
        assert isinstance(lost.value.__cause__, OwnerLost)
        with pytest.raises(ReplicaLost), gated([slab_of(restored)]):
            _tensor(restored, "b").sum()
        with pytest.raises(OwnerLost):
            slab_of(restored).unpark()
        slab_of(restored).park()


def test_an_owner_that_stands_still_is_given_up(tmp_path: Path) -> None:
    directory = written(tmp_path / "a", weights("a", "b", size=1024))
    with owned(SLOW, directory, patience_s=0.3) as scene:
        restored = scene.restore(directory)
        os.kill(scene.control.pid, signal.SIGSTOP)
        began_s = time.monotonic()
        with pytest.raises(ReplicaLost, match="nothing came"), gated([slab_of(restored)]):
            _tensor(restored, "b").sum()
        assert time.monotonic() - began_s < 10
        os.kill(scene.control.pid, signal.SIGCONT)


def test_a_call_that_needs_nothing_more_does_not_wait_for_the_rest(tmp_path: Path) -> None:
    directory = written(tmp_path / "a", weights("a", "b", "c", size=1024))
    with owned(SLOW, directory) as scene:
        restored = scene.restore(directory)
        with gated([slab_of(restored)]):
            _tensor(restored, "a").sum()
        assert arrival_of(restored).arrived_bytes < arrival_of(restored).size_bytes


def test_the_state_itself_may_read_its_tensors_when_it_is_restored(tmp_path: Path) -> None:
    state = {**weights("a", "b"), "sum": Summed(weights("a")["a"])}
    restored = starved(tmp_path / "a", state)
    summed = restored.state["sum"]
    assert isinstance(summed, Summed)
    assert summed.total == weights("a")["a"].sum().item()


class Summed:
    """Knows its tensor's sum, and works it out anew when it is unpickled."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.total = self.tensor.sum().item()
