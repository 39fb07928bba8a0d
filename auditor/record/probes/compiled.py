"""Code that Inductor compiled: each run of a graph is one op, with what went into it, what came out, and which of its inputs it wrote.

The kernels within are no ops. Those of torch that the generated code calls are, and lie before the graph's own record.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from auditor.record.imports import when_imported
from auditor.record.probes import Probe
from auditor.record.wrapping import telling

if TYPE_CHECKING:
    from auditor.record.process import Process


def install_torch(process: Process, _torch: object) -> None:
    """Watch compiled graphs, once there can be any."""
    when_imported("torch._inductor.output_code", partial(_watch, process))


def _watch(process: Process, module: Any) -> None:
    def begun(graph: Any, inputs: Any) -> None:
        core = process.modes and process.modes.core()
        if core and type(inputs) is list:
            core.begin_graph(inputs, getattr(graph, "mutated_input_idxs", ()))

    def ended(out: Any, _graph: Any, _inputs: Any) -> None:
        core = process.modes and process.modes.core()
        if core:
            core.end_graph(out)

    for name in ("CompiledFxGraph", "CompiledAOTI"):
        cls = getattr(module, name, None)
        if cls is not None:
            cls.__call__ = telling(telling(cls.__call__, begun), ended, after=True)


PROBE = Probe(install_torch=install_torch)
