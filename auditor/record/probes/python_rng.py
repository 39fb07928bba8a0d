"""Draws from and seeds of Python's `random`: the module's functions and the methods of `random.Random`.

`random()` and `getrandbits()` of an own `random.Random` are not seen: every other method is made of them, and a wrapper there would
cost `shuffle` a call an element.
"""

from __future__ import annotations

import sys
from array import array
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from auditor.interruptions import interrupts
from auditor.record.callsite import is_user_code
from auditor.record.digest import of_bytes
from auditor.record.imports import when_imported
from auditor.record.probes import Probe
from auditor.record.process import in_standard_library
from auditor.record.wrapping import stand_in, telling, telling_of_a_change

if TYPE_CHECKING:
    from auditor.record.process import Process

_DRAWS = (
    "betavariate", "binomialvariate", "choice", "choices", "expovariate", "gammavariate", "gauss", "lognormvariate",
    "normalvariate", "paretovariate", "randbytes", "randint", "randrange", "sample", "shuffle", "triangular", "uniform",
    "vonmisesvariate", "weibullvariate",
)  # fmt: skip
_PRIMITIVES = ("random", "getrandbits")
#: Where torch starts ranks and lets them meet.
_LAUNCHING = "torch.distributed.elastic."


def install(process: Process) -> None:
    """Watch `random` from the moment it is imported."""
    when_imported("random", lambda module: _install(process, module))


def state_digest(generator: Any) -> int:
    """Digest of a `random.Random`'s state; 0 where it has none to tell, as the operating system's generator."""
    try:
        version, words, gauss = generator.getstate()
        return of_bytes(array("Q", words).tobytes() + repr((version, gauss)).encode())
    except (NotImplementedError, TypeError, ValueError) as error:  # SystemRandom; a class of the user's with a state of its own
        if interrupts(error):
            raise
        return 0


def _libraries_own(frame: FrameType | None) -> bool:
    """Whether a draw is a library's private affair: a temporary name, a symbol made in an import, how long ranks wait for one another."""
    if frame is not None and in_standard_library(frame.f_code.co_filename) and not frame.f_code.co_filename.startswith("<"):
        return True
    while frame is not None and not is_user_code(frame.f_code.co_filename):
        if frame.f_code.co_filename.startswith("<frozen importlib") or str(frame.f_globals.get("__name__")).startswith(_LAUNCHING):
            return True
        frame = frame.f_back
    return False


def _install(process: Process, module: ModuleType) -> None:
    shared = module._inst
    originals = {name: getattr(shared, name) for name in (*_DRAWS, *_PRIMITIVES, "seed", "setstate") if hasattr(shared, name)}
    nested = [False]

    def draws_shared(name: str) -> Any:
        def tell(*_args: Any, **_kwargs: Any) -> None:
            if not _libraries_own(sys._getframe(2)):
                process.lane().draw(shared, "python", f"random.{name}", state_digest)

        return telling(originals[name], tell)

    def seeded(_result: Any, *args: Any, **kwargs: Any) -> None:
        value = args[0] if args else kwargs.get("a")
        process.lane().seed("python", "random.seed", value, value is None, state_digest(shared))

    def put_back(_result: Any, was: int, *_args: Any) -> None:
        process.lane().seed("python", "random.setstate", None, False, state_digest(shared), was)

    def draws_own(name: str, method: Any) -> Any:
        def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
            outermost = not nested[0]
            if outermost and not _libraries_own(sys._getframe(2)):
                stream = "os-entropy" if isinstance(self, module.SystemRandom) else "python-own"
                process.lane().draw(self, stream, f"random.{name}", state_digest)
            nested[0] = True
            try:
                return method(self, *args, **kwargs)
            finally:
                if outermost:
                    nested[0] = False

        return stand_in(method, watched)

    for name in originals:
        if name not in ("seed", "setstate"):
            setattr(module, name, draws_shared(name))
    module.seed = telling(originals["seed"], seeded, after=True)  # type: ignore[attr-defined]  # these two are those of `random`
    module.setstate = telling_of_a_change(originals["setstate"], lambda *_a: state_digest(shared), put_back)  # type: ignore[attr-defined]
    for name in _DRAWS:
        method = vars(module.Random).get(name)
        if method is not None:
            setattr(module.Random, name, draws_own(name, method))


PROBE = Probe(install)
