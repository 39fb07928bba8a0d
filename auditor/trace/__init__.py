"""The contract between the user's process and everything else: what is recorded, in which bytes.

A run is a directory::

    run.json                      the plan, versions, environment, exit status (written by `launch`)
    spool/<process>/process.json  one recorded process: pid, role, interpreter, what was imported when
    spool/<process>/<lane>.jsonl  the lane's tables and its rare events, one JSON object a line
    spool/<process>/<lane>.<n>.seg  the lane's records, in preallocated memory-mapped segments
    spool/<process>/<lane>.num  the Python floats that ops were given: groups of a count and as many float64
    spool/<process>/<lane>.skt  sketches of tensors, where devices are compared; .shd: what a shadow found
    spool/<process>/<lane>.nam  values that the script gave to names, see `names`; .val: what was kept of them
    lanes/<k>.parquet             the sealed form of one lane's records, which is kept, shipped and queried
    lanes/<k>.sketches.parquet    its sketches, and lanes/<k>.shadows.parquet, if there are any
    lanes/<k>.nam, .val           its named values as they were written, and lanes/<k>.names.json, the names: a later run reads them, too
    lanes/<k>.json                its rare events and what it is

A lane is one thread of one process. Its spool is written through as the program goes: segments and lines are shared mappings, so that
`kill -9`, `os._exit` and an out-of-memory kill lose nothing. No descriptor stays open. Behind what was written a file is zero.

**Records.** Every op, every first sight of a tensor that no recorded op produced (`external`) and every draw from a
random stream is one record of `RECORD` bytes; an op with more than one output or three inputs is followed by
`more` continuation records. `sig`, `site` and `module` are numbers of lines in the `.jsonl` beside it, each of which is
written before the first record that refers to it; `numbers` is a position in the `.num` file, plus one. An `external` has the digest of
its rows as a multiset in the first two producers. `sig` is the last field of the record and 0 in untouched memory, so the
first record whose `sig` is 0 ends a segment that nobody closed.

**What and where.** `sig`, `numbers`, the digests and how many records an op takes are *what* happened and are compared. `site`, `module`,
`seq` and `phase` are *where* and are only shown. The producers tell what an op was given: they are asked for when its result differs,
because equal tensors that change places make no difference to the numbers. Nothing else of a record exists, so comparing needs no list
of things to ignore.

**Schemas.** The descriptor of an op (`sig`) has beside what is compared a `schema`: what torch says that the op does to its arguments,
see `ops.OpSchema`; no reader has to know it by its name.

**Leaves.** An op that accumulates the gradient of a leaf has the number of the leaf in `where`, in place of a module's, and in `seq`, in
place of a node's number, that of the record that last wrote the leaf: whether a parameter was updated since its gradient was last
written can be seen without knowing the optimizer.

**Record numbers.** Numbers are handed out a block a segment to whichever lane of the process asks (`writer.Numbers`). The header of a
segment says what its first one is, so the numbers of a lane jump where one segment ends and the next begins. A forked child goes on where
its parent was: a number below its own first one is a record of its forebears. Number 0 is nobody's. Sealing turns numbers into rows.

**Sketches.** Two devices never agree bit by bit, so where they are compared a tensor has a sketch beside its digest: its norm, its
largest magnitude, how many of its elements are not finite, and `SUMS` sums of its elements with pseudo-random signs. These are linear: the
sums of a difference are the differences of those of two tensors, and their squares add up to an unbiased estimate of the squared norm
of the difference, whichever elements differ (Alon, Matias, Szegedy: The space complexity of approximating the frequency moments, 1996;
with the elements dealt out to the sums, Charikar, Chen, Farach-Colton: Finding frequent items in data streams, 2002).

Format history. 1: the first. At first descriptors had no `schema`; where there is none, readers go by the names of ops. Some fields of
events had other names, see `records.with_todays_names`. Sketches, shadows
and named values came later, in files of their own, which a reader that does not know them leaves alone. At first a lane had a block of
2**27 numbers, and all its segments were of it.
"""

from __future__ import annotations

FORMAT = 1

#: Version of the formula of digests, kept in process.json. 1: xxh3-64 of the bytes in logical order, see `record/digest.py`. Runs whose
#: digests are of different versions cannot be compared.
DIGEST = 1

#: Header of a segment: magic, format, bytes of a record, number of the first record, records and steps so far (first segment
#: only; refreshed at step boundaries, for a progress display), why recording stopped (an index of `STOPPED`), how many records there is
#: room for (0 in older runs).
HEADER = "<8sIIQQQIQ"
#: The part of it that is refreshed, and where it lies.
PROGRESS, PROGRESS_AT = "<QQI", 24
HEADER_SIZE = 64
MAGIC = b"reproaud"
STOPPED = ("", "disk-full", "run-directory-gone", "recorder-error", "too-long")

#: digest, seq, site, numbers, three producers, where (`more`, then 8 bits of phase and `CUT`, then 16 of module), sig, which comes last:
#: see above.
RECORD = "<QIIIIIIII"
RECORD_SIZE = 40
#: `sig` of a continuation record.
MORE = 0xFFFFFFFF
#: At most this many continuation records an op; the digests of further outputs are folded into the last one.
MORE_LIMIT = 200
#: Producers are 32-bit: a process and its forebears have so many record numbers.
NUMBERS = 1 << 32

#: Sums of a sketch. More of them know the norm of a difference better: to one part in sqrt(2 * SUMS).
SUMS = 16
#: One tensor's sketch: the op's record, which of its tensors (outputs, then inputs that it wrote), elements, those not finite, the norm
#: (Euclidean) and the largest magnitude of the finite ones, the sums.
SKETCH = f"<IIQQdd{SUMS}d"
#: One output recomputed by other means: record, which tensor, flat index of the worst element, its error in units in the last place of the
#: tensor's dtype, the mean of that over the elements, norm of the errors, norm of what was recomputed, largest error over what is allowed.
SHADOW = "<IIQddddd"

#: One value that a name got: number of the name's line in the `.jsonl`, step, order among all such values of the process, where what was
#: kept of it lies in the `.val` file (words of eight bytes plus one, times two, odd if it is a SUMMARY; 0: nowhere).
NAMED = "<IIQQ"
NAMED_SIZE = 24
#: Kept of a value that is not kept whole: digest, elements that are not finite, and of the finite ones the Euclidean norm, the largest
#: magnitude, the sum, the signed sums and those of the transpose.
SUMMARY = f"<QQddd{2 * SUMS}d"
SUMMARY_SIZE = 8 * (5 + 2 * SUMS)

#: Beside the phase in its 8 bits: an input of the op required a gradient, and no node was made for it.
CUT = 0x80

PHASES = ("setup", "forward", "backward", "optimizer")
SETUP, FORWARD, BACKWARD, OPTIMIZER = range(4)

#: A producer in another lane of the run: this less the number of its record, which is that lane's `base` and the row's `record`; this alone
#: if no lane has that record.
ELSEWHERE = -2

#: File in the spool of a run at a terminal, while it lasts: the lines that were typed, which no trace keeps.
TYPED = "typed"

#: Kinds of `sig`: what a record is.
OP, EXTERNAL, DRAW = "op", "external", "draw"

#: `args` of an external tensor that had been written by a record, and has changed since without one.
CHANGED = "written by no recorded op"


def lane_name(role: dict[str, object], identity: list[int], rank: object) -> str:
    """What a lane is called in every run: by its role, never by its pid."""
    parts = [] if rank is None else [f"rank {rank}"]
    if role.get("worker") is not None:
        parts.append(f"worker {role['worker']}")
    elif identity:
        parts.append("process " + ".".join(map(str, identity)))
    elif role.get("fork"):
        parts.append(f"fork {role['fork']}")
    elif role.get("script") and rank is None:
        parts.append(f"process {role['script']}")
    if "thread" in role:
        parts.append(f"thread {role['thread']}")
    return " ".join(parts) or "main"
