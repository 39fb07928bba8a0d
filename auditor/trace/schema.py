"""What a sealed run holds: each column of a record, each event and each field of it, once.

The Parquet files, the tables that rules ask, what is held against a type when it is read, and `docs/trace.md` are made from this. How a
record lies in the spool is in `auditor.trace`, which comes into the user's process and imports nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from auditor.trace.ops import OpSchema
from auditor.trace.shapes import Shape, count, flag, many, maybe, number, scalar, shape_of_tensor, table, text, whole


class Column(NamedTuple):
    """One column of the records of a lane, or of the events."""

    type: str
    """Its type in SQL."""
    meaning: str
    compared: bool = False
    """Whether two runs differ if it does."""


class Field(NamedTuple):
    """One field of an event."""

    type: Shape
    meaning: str
    needed: bool = False
    """Whether an event without it is damaged."""


class Event(NamedTuple):
    """A kind of event: something that happens rarely, beside the ops."""

    meaning: str
    fields: Mapping[str, Field]
    listed: bool = False
    """Whether `show` lists it unasked."""


#: The columns of a record in a sealed lane.
COLUMNS: dict[str, Column] = {
    "row": Column("BIGINT", "place among the records of the lane, from 0"),
    "record": Column("BIGINT", "place among all that was written for the lane, with what continues a record, from 1"),
    "index": Column("BIGINT", "place among the ops and external tensors of the lane, from 0: what a report calls op 17"),
    "kind": Column("VARCHAR", "`op`, `external` (first sight of a tensor that no record made) or `draw` (from a random stream)", True),
    "op": Column("VARCHAR", "what torch calls the op (`aten.add.Tensor`); the function that drew", True),
    "args": Column("VARCHAR", "arguments that are no tensors and no floats, as JSON; the stream of a draw", True),
    "numbers": Column("VARCHAR", "floats that the op was given, each with all its digits", True),
    "out": Column("VARCHAR", "dtype, shape, stride (null: contiguous) and device of each output, as JSON", True),
    "digest": Column("UBIGINT", "xxh3 of the first output's bytes in logical order; the state of a draw's stream; 0: none", True),
    "digests": Column("VARCHAR", "where there are several outputs, the digest of each, in hexadecimal", True),
    "in0": Column("BIGINT", "row of the record that last wrote the first input; null: nobody's; below -1: of another lane"),
    "in1": Column("BIGINT", "the same of the second input"),
    "in2": Column("BIGINT", "the same of the third input"),
    "inputs": Column("VARCHAR", "where there are more than three inputs, the rows of all of them"),
    "rows": Column("UBIGINT", "of an external tensor the sum of the digests of its rows: equal if the same rows come in another order"),
    "phase": Column("VARCHAR", "`setup`, `forward`, `backward` or `optimizer`"),
    "cut": Column("BOOLEAN", "whether an input required a gradient and autograd keeps no node of the op"),
    "node": Column("BOOLEAN", "whether autograd keeps a node of the op"),
    "step": Column("BIGINT", "turn of the training loop, from 0"),
    "module": Column("VARCHAR", "path of the `nn.Module` that ran it (`Net.encoder.0`)"),
    "leaf": Column("VARCHAR", "of an op that accumulates a gradient, the tensor that the gradient is of"),
    "leaf_written": Column("BIGINT", "row of the record that had last written that tensor"),
    "file": Column("VARCHAR", "file of the innermost line of the user's, relative to the working directory"),
    "line": Column("BIGINT", "number of that line, from 1"),
    "function": Column("VARCHAR", "function that the line is in"),
    "code": Column("VARCHAR", "text of the line"),
    "forward_row": Column("BIGINT", "of a backward op the row of the op whose node it runs for"),
    "forward_file": Column("VARCHAR", "file of the line of that op"),
    "forward_line": Column("BIGINT", "number of that line"),
    "forward_code": Column("VARCHAR", "text of that line"),
    "site": Column("BIGINT", "number of the place in the user's code, within the lane"),
    "what": Column("UBIGINT", "hash of all that is compared"),
    "exact": Column("BOOLEAN", "whether equal inputs give equal outputs everywhere: a view, a copy, or one rounding an element"),
    "writes": Column("VARCHAR", "the arguments that the op writes, as JSON: positions, and names of keyword-only ones"),
    "in_place": Column("BOOLEAN", "whether it writes its first argument, or binds it anew (`view`)"),
    "overwrites": Column("BOOLEAN", "whether it leaves nothing of what was in its first argument, which is then no input"),
    "view": Column("BOOLEAN", "whether it writes no value: what it returns is memory of what it was given"),
    "random": Column("BOOLEAN", "whether it draws from a random stream"),
    "collective": Column("BOOLEAN", "whether it is an op between ranks"),
}  # fmt: skip

#: The columns that say what the schema of an op does.
SCHEMA_COLUMNS = ("writes", "in_place", *OpSchema._fields[1:])

#: The columns of `events` in the tables that rules ask, beside `step` and `phase`.
EVENT_COLUMNS: dict[str, Column] = {
    "lane": Column("VARCHAR", "name of the lane"),
    "row": Column("BIGINT", "row of the record that follows"),
    "nth": Column("BIGINT", "place among the events of the lane, from 0"),
    "kind": Column("VARCHAR", "kind of the event"),
    "op": Column("VARCHAR", "the op; the function that drew, seeded or read a factor; or what was done with a file"),
    "stream": Column("VARCHAR", "random stream that was seeded or drawn from: `torch-cpu`, `cuda:0`, `torch-own`, `numpy`, `python`, ..."),
    "name": Column("VARCHAR", "name of a setting, or class of a scheduler"),
    "factor": Column("VARCHAR", "factor that something was asked for"),
    "value": Column("VARCHAR", "a seed, or the value of a setting, as text"),
    "loss": Column("DOUBLE", "the scalar that the backward pass before an update began with"),
    "path": Column("VARCHAR", "file or folder"),
    "mode": Column("VARCHAR", "how a file was opened"),
    "asked_by": Column("VARCHAR", "who asked for a listing or for a factor: `script`, or `library` on its own account"),
    "unknown": Column("BOOLEAN", "whether torch has no setting of this name"),
    "state": Column("VARCHAR", "digest of the stream's state after a seed, in hexadecimal"),
    "entropy": Column("BOOLEAN", "whether the seed is the operating system's"),
    "initial": Column("BOOLEAN", "whether a setting had this value before the script could set it"),
    "graph": Column("BOOLEAN", "whether a backward pass has a graph to go back through"),
    "enabled": Column("BOOLEAN", "whether autocast is on in the region that is entered"),
    "device": Column("VARCHAR", "device type of the autocast region"),
    "dtype": Column("VARCHAR", "dtype to which ops of the autocast region cast"),
    "content": Column("VARCHAR", "digest of a file's content, or of the names in a listing, in hexadecimal"),
    "own": Column("BOOLEAN", "whether the run itself had written what was read"),
    "of_step": Column("BIGINT", "step that an update belongs to"),
    "optimizer": Column("BIGINT", "number of the optimizer among those of the process, from 1"),
    "gradients": Column("BIGINT", "how many parameters had a gradient at an update"),
    "root": Column("BIGINT", "row of the record that wrote what a backward pass began with"),
    "file": Column("VARCHAR", "file of the user's line"),
    "line": Column("BIGINT", "number of that line, from 1"),
    "function": Column("VARCHAR", "function that the line is in"),
    "code": Column("VARCHAR", "text of the line"),
}  # fmt: skip

_FACTS = table(
    {
        "slot": text, "dtype": text, "shape": shape_of_tensor, "digest": maybe(whole), "file": text, "producer": maybe(count),
    },
    "slot",
)  # fmt: skip
_A_COUNT = maybe(whole)

#: What any event may have, beside the fields of its kind.
COMMON: dict[str, Field] = {
    "k": Field(text, "the kind", True),
    "row": Field(count, "row of the record that follows"),
    "at": Field(count, "in the spool: number of the record that lies before it"),
    "site": Field(count, "in the spool: number of the place in the user's code"),
    "file": Field(maybe(text), "file of the user's line"),
    "line": Field(maybe(whole), "number of that line, from 1"),
    "func": Field(maybe(text), "function that the line is in"),
    "code": Field(maybe(text), "text of the line"),
    "importing": Field(maybe(flag), "whether a library was being imported there: then it is the library's own"),
}
_COUNT_OF_OPS = {"op": Field(text, "the op", True), "count": Field(count, "how many times")}

EVENTS: dict[str, Event] = {
    "seed": Event("a random stream was seeded, or set to a different state", {
        "function": Field(text, "function that did it", True),
        "stream": Field(text, "`python`, `numpy`, `torch-cpu`, `cuda:0`, or that of a generator (`python-own`)", True),
        "value": Field(scalar, "the seed as text; null for a state that is put back"),
        "entropy": Field(maybe(flag), "whether the seed is the operating system's"),
        "state": Field(_A_COUNT, "digest of the state afterwards"),
    }, listed=True),
    "setting": Event("a switch that numbers depend on has this value from here on", {
        "name": Field(text, "the switch (`torch.backends.cudnn.benchmark`), or a variable of the environment", True),
        "value": Field(scalar, "its value", True),
        "initial": Field(maybe(flag), "whether it is the value that it had before the script could set it"),
        "unknown": Field(maybe(flag), "whether torch has no such switch: what is set there does nothing"),
    }, listed=True),
    "step": Event("an optimizer, or a loop without one, made an update", {
        "step": Field(_A_COUNT, "turn of the training loop that it belongs to, from 0"),
        "optimizer": Field(maybe(text), "class of the optimizer"),
        "of": Field(_A_COUNT, "number of the optimizer among those of the process, from 1"),
        "had": Field(_A_COUNT, "how many of its parameters had a gradient"),
        "loss": Field(maybe(number), "the scalar that the backward pass before it began with"),
        "loss_digest": Field(_A_COUNT, "digest of its bytes"),
        "parameters": Field(_A_COUNT, "digest of all parameters afterwards, where no ops are recorded"),
        "gradients": Field(_A_COUNT, "digest of all gradients"),
        "state": Field(_A_COUNT, "digest of the optimizer's state"),
        "rng": Field(_A_COUNT, "digest of the states of the random streams"),
        "by": Field(whole, "in the spool: whose update it is, that of an optimizer (its number) or of a loop without one (less its place)"),
        "made": Field(count, "in the spool: how many updates there had been when the optimizer was made"),
        "born": Field(count, "in the spool: number of the place where the optimizer was made"),
        "place": Field(count, "in the spool: number of the place of the update, which has the loops around it"),
    }, listed=True),
    "file": Event("a file was opened or a folder listed", {
        "path": Field(text, "path of it", True),
        "op": Field(text, "`read`, `write`, `list`, `input` (what was typed at a prompt, as a digest alone)", True),
        "mode": Field(maybe(text), "how it was opened"),
        "asked_by": Field(maybe(text), "who asked for the listing: `script`, or `library` on its own account"),
        "digest": Field(_A_COUNT, "digest of what was read, or of the names in their order"),
        "size": Field(_A_COUNT, "bytes, or names"),
        "partial": Field(maybe(flag), "whether only its beginning and its end were digested"),
        "own": Field(maybe(flag), "whether the run itself had written it"),
        "opened_at": Field(count, "when it was opened: nanoseconds since 1970"),
        "changed_at": Field(count, "when it had last been written: nanoseconds since 1970"),
    }, listed=True),
    "thread": Event("a thread began", {
        "number": Field(_A_COUNT, "its number among the threads of the process"),
        "name": Field(maybe(text), "its name"),
    }, listed=True),
    "value": Event("values of the tensors of the op before it were kept", {
        "values": Field(many(_FACTS), "each with its slot (`in0`, `out0`), dtype, shape, digest and file", True),
    }),
    "level": Event("from here on more or less is recorded", {"level": Field(text, "`off`, `steps` or `ops`", True)}, listed=True),
    "lost": Event("something could not be recorded", {
        "what": Field(text, "what, as half a sentence", True),
        "count": Field(count, "how many times"),
    }, listed=True),
    "interrupted": Event("an exception interrupted an op, which may have run and has no record", {
        "op": Field(text, "the op", True),
        "written": Field(maybe(many(whole)), "rows of the records that had last written what the op writes into"),
    }, listed=True),
    "optimizer": Event("an optimizer is met first, or has got more parameters", {
        "number": Field(_A_COUNT, "its number among those of the process, from 1"),
        "name": Field(maybe(text), "its class"),
        "leaves": Field(maybe(many(maybe(text))), "what its parameters are called"),
        "written": Field(maybe(many(whole)), "of each the row of the record that had last written it"),
    }),
    "zeroed": Event("an optimizer's gradients were set to zero or to None", {"number": Field(_A_COUNT, "number of the optimizer")}),
    "schedule": Event("a learning rate scheduler made a step", {
        "number": Field(_A_COUNT, "number of its optimizer"),
        "name": Field(maybe(text), "its class"),
    }),
    "backward": Event("a backward pass began", {
        "root": Field(_A_COUNT, "row of the record that wrote what it began with"),
        "graph": Field(maybe(flag), "whether there was a graph to go back through"),
    }),
    "autocast": Event("a region of autocast was entered or left", {
        "op": Field(text, "`enter`, `leave`, or `refused` where torch switched it off"),
        "device": Field(maybe(text), "type of the device"),
        "dtype": Field(maybe(text), "dtype to which ops cast"),
        "enabled": Field(maybe(flag), "whether autocast is on within it"),
    }),
    "measured": Event("what the op before it did to the numbers", {
        "what": Field(text, "`cast`, `order` (of writes to one place), `overflow` (of integers) or `reduction` (to half precision)", True),
        "values": Field(_A_COUNT, "how many values were looked at"),
        "changed": Field(_A_COUNT, "how many of them changed"),
        "largest": Field(maybe(number), "largest relative change"),
        "absolute": Field(maybe(number), "largest change"),
        "overflowed": Field(_A_COUNT, "how many became infinite"),
        "vanished": Field(_A_COUNT, "how many became zero"),
        "of": Field(_A_COUNT, "how many could have"),
    }),
    "nonfinite": Event("a result of the op before it is not all finite", {
        "nans": Field(_A_COUNT, "how many elements are no number"),
        "infinities": Field(_A_COUNT, "how many are infinite"),
        "given": Field(maybe(flag), "whether an input was not all finite either"),
    }),
    "entered": Event("something that may be another in each run was asked for", {
        "factor": Field(text, "the factor", True),
        "function": Field(maybe(text), "function that gave it"),
        "nth": Field(_A_COUNT, "how many times it had been asked, from 1"),
        "asked_by": Field(maybe(text), "who asked: `script`, or `library` on its own account"),
        "in_order": Field(maybe(flag), "of a loader: whether batches come in their order"),
        "thread": Field(_A_COUNT, "number of the thread that was started"),
    }, listed=True),
    "unshadowed": Event("an op could not be recomputed", {**_COUNT_OF_OPS, "why": Field(maybe(text), "why not")}),
    "unsketched": Event("the outputs of an op have no sketch", _COUNT_OF_OPS),
    "shared": Event("memory of a tensor was given to another process", {}),
    "shared-start": Event("a named value began with what another run had there", {
        "a": Field(maybe(text), "the name in that run"),
        "b": Field(maybe(text), "the name in this one"),
        "how": Field(maybe(text), "whether it was given, and if not why"),
    }),
    "handed": Event("memory of a tensor was handed out of torch", {
        "function": Field(maybe(text), "by which function (`torch.Tensor.numpy`)"),
        "shape": Field(shape_of_tensor, "shape of the tensor"),
        "digest": Field(_A_COUNT, "digest of what it held"),
    }),
    "came": Event("the external tensor before it was made of memory from outside torch", {
        "function": Field(maybe(text), "by which function (`torch.from_numpy`)"),
    }),
    "task": Event("a worker of a pool began a task", {"name": Field(maybe(text), "what the task is called in every run")}),
    "loaded": Event("a module took a state that does not fit (`strict=False`)", {
        "name": Field(maybe(text), "class of the module"),
        "given": Field(_A_COUNT, "how many entries the state had"),
        "missing": Field(_A_COUNT, "how many of the module's it lacked"),
        "unexpected": Field(_A_COUNT, "how many of its own the module lacks"),
        "missing_names": Field(maybe(many(text)), "the first of those that it lacked"),
        "unexpected_names": Field(maybe(many(text)), "the first of those that the module lacks"),
        "written": Field(maybe(many(whole)), "rows of the records that wrote the module's tensors"),
    }),
    "unseen-write": Event("a leaf changed between two of its gradients, and no recorded op wrote it", {
        "leaf": Field(scalar, "what the leaf is called; in the spool its number"),
    }),
    "child": Event("a process was started", {
        "pid": Field(maybe(whole), "its number"),
        "program": Field(maybe(text), "what it runs"),
        "python": Field(maybe(flag), "whether that is an interpreter of Python"),
        "helper": Field(maybe(flag), "whether it is one that a library keeps for itself"),
        "since": Field(maybe(number), "when it was started: seconds since 1970"),
        "until": Field(maybe(number), "when it had ended: seconds since 1970"),
    }),
}  # fmt: skip

_SHAPES: dict[str, Shape] = {
    kind: table(
        {name: field.type for name, field in (COMMON | dict(event.fields)).items()},
        *(name for name, field in event.fields.items() if field.needed),
    )
    for kind, event in EVENTS.items()
}
_OTHER = table({name: field.type for name, field in COMMON.items()})


def event(value: object) -> str:
    """What is wrong with an event of any kind, or nothing."""
    kind = value.get("k") if isinstance(value, dict) else None
    return _SHAPES.get(kind, _OTHER)(value) if isinstance(kind, str) else "is an event without a kind"


def is_known(kind: str, field: str) -> bool:
    """Whether events of a kind have such a field."""
    return field in COMMON or (kind in EVENTS and field in EVENTS[kind].fields)
