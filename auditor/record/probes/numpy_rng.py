"""Draws from and seeds of NumPy's global stream, of `RandomState`s and of `Generator`s.

The generators are extension types: their methods are replaced in the types' own dicts, so that `type(rng)` stays what it is and a
`from numpy.random import rand` made afterwards gets the watched function too. Own `RandomState(seed)` and bit generators are built in
C: their seeds are not seen, their first state is.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

from auditor.record.digest import of_bytes
from auditor.record.imports import when_imported
from auditor.record.probes.wrapping import replace_in_type, telling

if TYPE_CHECKING:
    from auditor.record.process import Process

_NO_DRAWS = frozenset({"seed", "set_state", "get_state", "spawn", "bit_generator"})


def install(process: Process) -> None:
    """Watch `numpy.random` from the moment it is imported."""
    when_imported("numpy.random", lambda module: _install(process, module))


def state_digest(generator: Any) -> int:
    """Digest of the state of a `RandomState` or `Generator`."""
    bits = getattr(generator, "bit_generator", None)
    state = generator.get_state(legacy=False) if bits is None else bits.state
    return of_bytes(_flat(state))


def _flat(value: Any) -> bytes:
    if isinstance(value, dict):
        return b"".join(name.encode() + _flat(part) for name, part in value.items())
    return value.tobytes() if hasattr(value, "tobytes") else repr(value).encode()


def _install(process: Process, random: Any) -> None:
    shared = random.mtrand._rand

    def note(generator: Any, name: str) -> None:
        stream = "numpy" if generator is shared else "numpy-own"
        process.lane().draw(generator, stream, f"numpy.{name}", state_digest)

    def seeded(generator: Any, name: str, value: Any, entropy: bool) -> None:
        if name == "set_state" and "/torch/" in sys._getframe(3).f_code.co_filename.replace("\\", "/"):
            return  # Dynamo puts the state back that it found
        stream = "numpy" if generator is shared else "numpy-own"
        shown = None if name == "set_state" else value
        process.lane().seed(stream, f"numpy.{name}", shown, entropy, state_digest(generator))

    def watched(name: str) -> Any:
        if name in ("seed", "set_state"):

            def tell_seed(_result: Any, self: Any, *args: Any, **kwargs: Any) -> None:
                value = args[0] if args else kwargs.get("seed")
                seeded(self, name, value, name == "seed" and value is None)

            return lambda method: telling(method, tell_seed, after=True)
        return lambda method: telling(method, lambda self, *_a, **_k: note(self, name))

    fitted = True
    for cls in (random.Generator, random.RandomState):
        for name, method in list(vars(cls).items()):
            if not name.startswith("_") and callable(method) and name not in _NO_DRAWS - {"seed", "set_state"}:
                fitted &= replace_in_type(cls, name, watched(name))
    for module in (random, random.mtrand):
        for name, value in list(vars(module).items()):
            if getattr(value, "__self__", None) is shared and name in vars(type(shared)) and name not in _NO_DRAWS - {"seed", "set_state"}:
                setattr(module, name, types.MethodType(vars(type(shared))[name], shared))

    def made(generator: Any, *args: Any, **kwargs: Any) -> None:
        value = args[0] if args else kwargs.get("seed")
        seeded(generator, "default_rng", value, value is None)

    made_by = telling(random.default_rng, made, after=True)
    random.default_rng = made_by
    random._generator.default_rng = made_by
    if not fitted:
        process.lane().line({"k": "lost", "what": "draws from own NumPy generators: their types could not be watched", "count": 1})
