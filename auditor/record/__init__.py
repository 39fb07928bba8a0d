"""The recorder: everything here runs inside the user's process, which it must not change.

**What it does.** `boot/sitecustomize.py` calls `arm`, which installs probes as their modules are imported. Probes write to the current
thread's `Lane`; a lane writes records into memory-mapped segments and rare events as JSON lines (`auditor/trace`).

**What it must never do.** Import torch, numpy or anything heavy before the script does; draw a random number; raise into the script;
leave a frame of its own in a traceback that the script sees; keep a tensor alive; dispatch an op of its own.

**What it cannot see.**

* Ops inside compiled code. A graph that Inductor compiled is one op, `inductor.graph`, with what went in and what it made or wrote; the
  fused kernels within are not. Code of other compilers is seen by the ops that it dispatches, and its results are external tensors.
* Ops of threads that Python did not start, and of C++ extensions that do not go through the dispatcher. What they leave behind is
  found by value capture, when an input has changed that no recorded op wrote (`hidden-write`).
* A write by NumPy or another process into memory that torch shares, when it happens: memory handed out by `Tensor.numpy`, `tolist`,
  `__dlpack__` or `share_memory_`, or came in by `from_numpy` or `frombuffer`, is digested again at each use, up to 16 MB. Elsewhere (a
  larger storage, an address that `data_ptr` gave away) it is found by value capture, at the op that reads it.
* `random()` and `getrandbits()` of an own `random.Random`; the seed of an own NumPy `RandomState` or bit generator (its state is seen at
  the first draw); draws in C that take no op and no Python call.
* `.data`, which is no op: a graph that it cuts is seen to be cut, not where. What a multiplication of narrow integers in place overwrote,
  and so whether it wrapped. What an index holds: that it repeats is measured where it is used to write.
* Results within a CUDA graph while it is captured, and what a graph does when it is replayed; kernels that torch does not dispatch. On a
  device, digests of results are read at the next step: a process that is killed loses those since the last.
* Files that a library opens in its own native code (safetensors, HDF5, parquet readers). Their content is met as external tensors.
* Processes of another interpreter, and of one started with `-I`, `-E` or `-S`. The coverage names the line that starts one, or starts the
  shell or other program that does; one behind another program that ends within a second can be missed. One that starts with an empty
  environment is recorded all the same, except behind another program.

**What is no op of the run.** Ops on fake and functional tensors (`FakeTensorMode`, `torch.export`, `make_fx`) have shapes and no values.
They are passed on to the mode that acts on them and not recorded, nor are draws under a fake mode or on the meta device, which take
nothing from a stream. So tracing alone never diverges: what was traced differs when it runs. Ops on the meta device have no digests.
A tensor that wraps others (DTensor, a quantized weight) is recorded by the ops on what it wraps, and digested by the tensors in its
attributes; a class that keeps them elsewhere is named in the coverage.

**What a run on a chosen device changes** (`redirect/`; only where `--devices` or `--device` asks for it): a script that says cuda computes
on the CPU, with tensors that know where they would lie; one that does not may be moved to a GPU; random numbers are drawn on the CPU.

**What of us can be seen.** Functions that are watched are stand-ins: a warning that they raise for their caller names a line of ours,
`type()` of one is not a function's, and a profiler counts every op twice. `sys.meta_path` has one finder more, `sys.modules` some
modules of the standard library, `threading` and `torch.nn.modules.module` two names each that begin with `__repro_audit`. The variables
that arm the recorder are not in `os.environ`; `/proc/self/environ`, `getenv` in C and programs that are no Python show them.

**What a dispatch mode changes**, whoever enters it: torch computes the gradients of `masked_fill` (with a tensor value) and `prod` by
another formula, accumulates gradients out of place (the same bits in another op), and `linalg.eig` skips one error check. The audit's
coverage names the ops of the first kind where a script uses them.
"""
