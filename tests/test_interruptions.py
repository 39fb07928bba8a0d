"""Exceptions of the script pass through our code: those of signal handlers, trace functions and other threads."""

from __future__ import annotations

import ast
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from auditor.interruptions import interrupts
from tests.recordings import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AUDITOR = Path(__file__).resolve().parent.parent / "auditor"


def in_the_users_process() -> Iterator[Path]:
    yield from (AUDITOR / "record").rglob("*.py")
    yield from (AUDITOR / "factors").rglob("*.py")
    yield AUDITOR / "trace" / "writer.py"


def can_be_interrupted(statement: ast.Try) -> bool:
    """Whether Python checks for signals inside a `try`: it does so after calls and at the end of a loop iteration."""
    checks = (ast.Call, ast.For, ast.While, ast.With, ast.Import, ast.ImportFrom, ast.Yield, ast.YieldFrom, ast.comprehension)
    return any(isinstance(node, checks) for part in statement.body for node in ast.walk(part))


def lets_pass(handler: ast.ExceptHandler) -> bool:
    """Whether a handler raises again, or starts with `if interrupts(error): raise`."""
    last, first = handler.body[-1], handler.body[0]
    if isinstance(last, ast.Raise) and last.exc is None:
        return True
    return isinstance(first, ast.If) and ast.unparse(first) == f"if interrupts({handler.name}):\n    raise"


def test_every_except_in_the_users_process_checks_for_interruptions() -> None:
    swallowing = []
    asked = 0
    for path in in_the_users_process():
        if path.parent.name == "boot":  # the script cannot have a handler yet
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Try) and can_be_interrupted(node):
                swallowing += [f"{path.relative_to(AUDITOR)}:{one.lineno}" for one in node.handlers if not lets_pass(one)]
                asked += len(node.handlers)
    assert swallowing == []
    assert asked > 50


class LateError(Exception):
    """The exception of the script's handler."""


def caught(raiser: Callable[[], object]) -> BaseException:
    try:
        raiser()
    except BaseException as error:
        return error
    raise AssertionError


def raised_by(handler: Any) -> BaseException:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        return caught(lambda: signal.raise_signal(signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, before)


def named(_number: int, _frame: object) -> None:
    raise OSError("a handler can say what it likes")


def deleting(number: int, frame: object) -> None:
    del number, frame
    raise RuntimeError("and need not keep its arguments")


class Raising:
    def __call__(self, *_given: object) -> None:
        raise AttributeError("an object")


def deep(*_given: object) -> None:
    def further() -> None:
        raise TimeoutError("somewhere within")

    further()


@pytest.mark.parametrize("handler", [named, deep, Raising(), lambda *_given: (_ for _ in ()).throw(LateError)])
def test_an_exception_of_a_signal_handler_reaches_the_script_whatever_its_class(handler: Any) -> None:
    assert interrupts(raised_by(handler))


def test_a_handler_that_deletes_its_arguments_is_recognized_while_it_is_set() -> None:
    told = []

    def asks() -> None:
        try:
            signal.raise_signal(signal.SIGUSR1)
        except RuntimeError as error:
            told.append(interrupts(error))

    before = signal.signal(signal.SIGUSR1, deleting)
    try:
        asks()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert told == [True]


def test_an_exception_of_a_trace_function_reaches_the_script() -> None:
    def tracer(_frame: object, _event: str, _given: object) -> None:
        raise ValueError("of the debugger")

    def traced() -> None:
        before = sys.gettrace()
        sys.settrace(tracer)
        try:
            json.loads("1")
        finally:
            sys.settrace(before)

    assert interrupts(caught(traced))


def refused() -> None:
    raise NotImplementedError


@pytest.mark.parametrize(
    "ours",
    [
        lambda: int("x"),
        lambda: os.environ["NO_SUCH_VARIABLE"],
        lambda: getattr(os, "no_such_name"),  # noqa: B009
        lambda: json.loads("{"),
        lambda: os.stat("/no/such/file"),
        refused,
    ],
)
def test_an_exception_of_our_own_call_stays_ours(ours: Callable[[], object]) -> None:
    assert not interrupts(caught(ours))


ASYNCHRONOUS = """
import ctypes, threading, time, torch
class Stop(Exception): pass
x, came, never = torch.zeros(64), 0, 0
main = threading.get_ident()
def throw(kind):
    time.sleep(0.004)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(main), ctypes.py_object(kind))
for k in range(60):
    thread = threading.Thread(target=throw, args=((Stop, RuntimeError, AttributeError, TimeoutError)[k % 4],))
    try:
        thread.start()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            x.add_(torch.ones(64)); torch.frombuffer(bytearray(256), dtype=torch.float32).sum().item()
        never += 1
    except (Stop, RuntimeError, AttributeError, TimeoutError):
        came += 1
        torch.set_grad_enabled(True)  # an optimizer that is interrupted at its end leaves it off
    thread.join()
print(came, never)
"""

STORM = """
# An import has an `except OSError` of its own, and torch asks with `hasattr`: what is swallowed there is swallowed without us, too.
import os, random, signal, sys, threading, time, torch, torch._dynamo
class Timeout(Exception): pass
class Broken(RuntimeError): pass
class Late(TimeoutError): pass
kinds = (Timeout, Broken, Late, KeyboardInterrupt, OSError, ValueError)
raised = came = ignored = 0
def note(what):  # what Python itself cannot raise: a finalizer was interrupted
    global ignored
    ignored += what.exc_type in kinds
sys.unraisablehook = note
clock = random.Random(7)
def handler(*_given):
    global raised
    random.random()  # a handler can draw, too
    raised += 1
    raise kinds[raised % len(kinds)]("too late")
signal.signal(signal.SIGALRM, handler)
torch.manual_seed(0); random.seed(0)
with open("data.txt", "w") as file: file.write("x")
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
def work(turns):
    for _ in range(turns):
        x = torch.frombuffer(bytearray(os.urandom(64)), dtype=torch.int8).float().reshape(-1, 4)
        y = torch.ones(3)
        y.add_(random.random()).mul_(2)
        torch.max(torch.rand(3, 3), 0)
        optimizer.zero_grad()
        loss = model(x / 128).square().mean()
        loss.backward()
        loss.item()
        with open("data.txt") as file: file.read()
        os.listdir("."); time.time()
work(1)
for k in range(100):
    torch.set_grad_enabled(True)  # also where what an interrupted frame held has set it back since
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.02 * clock.random(), 20)
        work(1 << 40)
    except kinds:
        signal.setitimer(signal.ITIMER_REAL, 0)
        came += 1
        torch.set_grad_enabled(True)  # an optimizer that is interrupted at its end leaves it off
print(came + ignored == raised, raised)
a = torch.arange(3.0); b = a + 1; c = b * 2
print(c)
"""


@pytest.mark.torch
def test_every_exception_of_a_signal_storm_arrives_and_the_trace_stays_readable(tmp_path: Path) -> None:
    done = record(tmp_path, STORM)
    assert done.out[-2:] == ["True 100", "tensor([2., 4., 6.])"]
    main = done.main
    assert main.facts["stopped"] == ""
    assert main.facts["unknown"] == 0
    assert main.ended
    rows = main.query('SELECT "row", op, in0, in1, code FROM records ORDER BY "row"')
    assert all(row["in0"] is None or row["in0"] < row["row"] for row in rows)
    interrupted = main.events_of("interrupted")
    assert interrupted, "most signals arrive while an op runs, which then has no record"
    assert {event["file"] for event in interrupted} == {"train.py"}
    assert all(event["op"].startswith("aten.") for event in interrupted)
    last = {row["op"].partition(".")[2].partition(".")[0]: row for row in rows}
    arange, plus, times = (last[op] for op in ("arange", "add", "mul"))
    assert (plus["in0"], times["in0"]) == (arange["row"], plus["row"])


@pytest.mark.torch
def test_an_exception_raised_by_another_thread_arrives(tmp_path: Path) -> None:
    assert record(tmp_path, ASYNCHRONOUS).out[-1] == "60 0"
