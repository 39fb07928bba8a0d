"""Draws from and seeds of NumPy's global stream, of `RandomState`s and of `Generator`s.

The generators are extension types: their methods are replaced in the types' own dicts, so that `type(rng)` stays what it is and a
`from numpy.random import rand` made afterwards gets the watched function too. Own `RandomState(seed)` and bit generators are built in
C: their seeds are not seen, their first state is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditor.record.digest import of_bytes
from auditor.record.imports import when_imported
from auditor.record.probes import Probe
from auditor.record.wrapping import replace_in_type, telling, telling_of_a_change

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

    def stream_of(generator: Any) -> str:
        return "numpy" if generator is shared else "numpy-own"

    def seeded(generator: Any, name: str, args: Any, kwargs: Any) -> None:
        value = args[0] if args else kwargs.get("seed")
        process.lane().seed(stream_of(generator), f"numpy.{name}", value, value is None, state_digest(generator))

    def put_back(_result: Any, was: int, generator: Any, *_args: Any, **_kwargs: Any) -> None:
        process.lane().seed(stream_of(generator), "numpy.set_state", None, False, state_digest(generator), was)

    def watched(name: str) -> Any:
        if name == "seed":
            return lambda method: telling(method, lambda _result, self, *args, **kwargs: seeded(self, name, args, kwargs), after=True)
        if name == "set_state":
            return lambda method: telling_of_a_change(method, lambda self, *_a, **_k: state_digest(self), put_back)

        def drawn(generator: Any, *_args: Any, **_kwargs: Any) -> None:
            process.lane().draw(generator, stream_of(generator), f"numpy.{name}", state_digest)

        return lambda method: telling(method, drawn)

    fitted = True
    for cls in (random.Generator, random.RandomState):
        for name, method in list(vars(cls).items()):
            if not name.startswith("_") and callable(method) and name not in _NO_DRAWS - {"seed", "set_state"}:
                fitted &= replace_in_type(cls, name, watched(name))
    for module in (random, random.mtrand):
        for name, value in list(vars(module).items()):
            if getattr(value, "__self__", None) is shared and name in vars(type(shared)) and name not in _NO_DRAWS - {"seed", "set_state"}:
                setattr(module, name, getattr(shared, name))

    made_by = telling(random.default_rng, lambda made, *args, **kwargs: seeded(made, "default_rng", args, kwargs), after=True)
    random.default_rng = made_by
    random._generator.default_rng = made_by
    if not fitted:
        process.lane().line({"k": "lost", "what": "draws from own NumPy generators: their types could not be watched", "count": 1})


PROBE = Probe(install)
