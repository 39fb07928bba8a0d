"""Audits to render, built as the pipeline builds them: one for each kind of result that a report can show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from auditor import plugins
from auditor.results import (
    Audit,
    Cause,
    Coverage,
    CurvePoint,
    Detail,
    DeviceComparison,
    Difference,
    Divergence,
    Effect,
    EnvironmentDifference,
    Evidence,
    Failure,
    FileDifference,
    Finding,
    Intermittent,
    Loss,
    Lost,
    NamePair,
    Occurrence,
    OpError,
    OpLine,
    Patch,
    Place,
    Printed,
    PrintedMetric,
    Provenance,
    Reason,
    Relation,
    Revision,
    RuleText,
    RunOutcome,
    Search,
    Shadowed,
    Stream,
)

FACTORS = plugins.factors()
FOLDER = "/home/ada/.cache/repro-audit/20261121-101500-train"
PINNED = [
    "hash-seed", "file-order", "leftover-files", "clock", "process-id", "os-entropy", "torch-seed", "numpy-seed", "python-seed",
    "worker-seed", "worker-timing", "thread-timing", "address-layout", "uninitialized-memory", "threads", "cpu-isa", "environment",
]  # fmt: skip
VARIED = ["hash-seed", "file-order", "leftover-files", "uninitialized-memory", "threads", "cpu-isa", "environment"]
LARGE = Reason.of("unavailable", why="the folder has more than 20,000 entries")
NO_CUDA = dict.fromkeys(("cuda-seed", "cudnn-benchmark", "tf32"), Reason.of("unavailable", why="there is no CUDA device here"))


def cause(factor: str, **facts: Any) -> Cause:
    """A cause, with the texts of its factor."""
    return Cause(factor=factor, because=FACTORS[factor].because if factor in FACTORS else "", **facts)


def draw_in_setup() -> Audit:
    """A model built before anything is seeded: the op that diverges is the root cause itself."""
    line = {"file": "lstm_unseeded.py", "line": 12, "code": "x = torch.randn(10, 1, 5)"}
    reasons = [Reason.of("other-stream-state")]
    return Audit(
        verdict="diverged",
        script=["lstm_unseeded.py"],
        runs=_runs(ops=25, steps=0),
        divergence=Divergence(
            runs=["control-1", "control-2"],
            kind="draw",
            lane="main",
            index=0,
            step=0,
            phase="setup",
            op="aten.randn.default",
            function="<module>",
            reasons=reasons,
            **line,
            detail=Detail(
                carriers=[
                    _op(17, "aten.mkldnn_rnn_layer.default", "lstm_unseeded.py", 16, "output, _ = lstm(x)"),
                    _op(18, "aten.stack.default", "lstm_unseeded.py", 16, "output, _ = lstm(x)"),
                ],
                differing_ops=11,
                compared_ops=25,
                evidence=Evidence(
                    runs=["look-1", "look-2"],
                    outputs=[
                        Difference(
                            slot="out0",
                            dtype="float32",
                            shape=[10, 1, 5],
                            differs=True,
                            elements=50,
                            of=50,
                            absolute=4.749522924423218,
                            relative=1.9155026895548848,
                            ulp=2150498471,
                            first=[0, 0, 0],
                            a="0.7168829",
                            b="0.77359045",
                        )
                    ],
                    reasons=reasons,
                ),
                streams=[
                    Stream(
                        name="torch-cpu",
                        how="draw",
                        function="aten.randn.default",
                        file="lstm_unseeded.py",
                        line=12,
                    )
                ],
                a={"op": "aten.randn.default", "digest": "66ba432abaee8861", **line},
                b={"op": "aten.randn.default", "digest": "69c921e53a0599eb", **line},
            ),
        ),
        coverage=Coverage(lanes=1, ops=25),
        version="0.1.0",
    )


def seed_from_the_clock() -> Audit:
    """A seed that differs, the later op that diverges, the cause with its proof, and findings."""
    audit = draw_in_setup()
    audit.script = ["clock_seed.py", "--lr", "0.1"]
    seed = {"file": "clock_seed.py", "line": 13, "code": "torch.manual_seed(time.time_ns() % 2**31)"}
    audit.divergence = Divergence(
        runs=["control-1", "control-2"],
        kind="draw",
        lane="main",
        index=0,
        step=0,
        phase="setup",
        op="torch.manual_seed",
        reasons=[Reason.of("other-seed", stream="torch-cpu", a="334433327", b="729740183")],
        **seed,
        detail=Detail(
            origin=Stream(name="torch-cpu", how="seed", function="torch.manual_seed", a="334433327", b="729740183"),
            seen_at=_op(0, "aten.randn.default", "clock_seed.py", 14, "x = torch.randn(32, 4)"),
            carriers=[_op(1, "aten.sum.dim_IntList", "clock_seed.py", 15, "y = x.sum(dim=1, keepdim=True)")],
            differing_ops=86,
            compared_ops=86,
            streams=[
                Stream(
                    name="torch-cpu",
                    how="seed",
                    function="torch.manual_seed",
                    a="334433327",
                    b="729740183",
                    file="clock_seed.py",
                    line=13,
                ),
                Stream(name="torch.backends.cudnn.benchmark", how="setting", a="False", b="True"),
            ],
            files=[FileDifference(path="data/train.bin", op="read", what="other-content", file="clock_seed.py", line=11)],
        ),
    )
    audit.causes = [
        cause(
            factor="clock",
            proved=True,
            kind="draw",
            file="clock_seed.py",
            line=13,
            reasons="the seed is taken from the time of day",
            fix="torch.manual_seed(0)",
            proof=["control-1", "control-2", "pin-clock-1", "pin-clock-2"],
        ),
        cause(factor="threads", proved=False, kind="kernel", reasons="the runs with one thread were ended by --timeout"),
    ]
    audit.findings = [
        Finding(
            rule="stale-gradient",
            level="error",
            file="clock_seed.py",
            line=21,
            code="loss.backward()",
            count=39,
            message="b1.grad is used for an update and never zeroed; w1, w2 and b2 are",
            instead="b1.grad = None after each update",
        ),
        Finding(rule="seed-after-draws", level="warning", message="torch was seeded after the first draw", instead="seed at the top"),
        *(Finding(rule="in-place-op", level="note", file="clock_seed.py", line=n, message=f"{n} in-place ops") for n in range(30, 37)),
        Finding(rule="file-read-back", level="note", file="clock_seed.py", line=40, message="log.txt is read here"),
        Finding(rule="file-read-back", level="note", file="clock_seed.py", line=41, message="log.txt is read here"),
    ]
    return audit


def on_a_gpu() -> Audit:
    """Runs that agree on a CPU, and the CUDA forecast: a finding and what may diverge."""
    audit = no_divergence()
    audit.script = ["lstm_gpu_switches.py"]
    at = {"file": "lstm_gpu_switches.py", "line": 14, "code": "torch.backends.cudnn.benchmark = True"}
    tf32 = "aten.mm: in TF32 on a GPU that has it, with about three digits (torch.backends.cuda.matmul.fp32_precision is tf32)"
    timed = "aten.convolution: by an algorithm that each run chooses by timing (torch.backends.cudnn.benchmark is true)"
    audit.findings = [
        Finding(rule="cudnn-benchmark", level="warning", message="benchmark mode is turned on", instead="turn it off", **at),
        *(
            Finding(rule="tf32-on-cuda", level="note", message=tf32, forecast=True, file="model.py", line=n, count=30)
            for n in (7, 9, 12, 15)
        ),
        Finding(
            rule="timed-choice-on-cuda", level="note", file="model.py", line=5, code="x = self.conv(x)", message=timed, forecast=True,
            instead="torch.backends.cudnn.benchmark = False while runs must repeat", count=10,
        ),
        Finding(rule="varying-rnn-on-cuda", level="note", message="aten.mkldnn_rnn_layer: may vary", forecast=True, code="lstm(x)"),
    ]  # fmt: skip
    return audit


def kernel_in_backward() -> Audit:
    """A nondeterministic kernel in the backward pass of a later step."""
    code = "loss.backward()"
    return Audit(
        verdict="diverged",
        script=["-m", "encoder.train", "--width", "256"],
        runs=[
            *_runs(ops=48_120, steps=40, seconds=61.5),
            RunOutcome(
                id="look-3",
                role="look",
                exit=None,
                seconds=600.0,
                ops=9_001,
                steps=7,
                path=f"{FOLDER}/look-3",
                stopped="timeout",
            ),
        ],
        divergence=Divergence(
            runs=["control-1", "control-2"],
            kind="kernel",
            lane="main",
            index=4812,
            step=3,
            phase="backward",
            op="aten.index_put_.default",
            module="encoder.embedding",
            file="encoder/train.py",
            line=31,
            function="Trainer.step",
            code=code,
            intermittent=Intermittent(differing=5, pairs=6, groups=[["control-1", "look-2"], ["control-2"], ["look-1"]]),
            reasons=[Reason.of("other-result")],
            detail=Detail(
                before=[
                    _op(4809, "aten.native_layer_norm_backward.default", "encoder/train.py", 31, code, "backward", 3),
                    _op(4810, "aten.empty.memory_format", "encoder/train.py", 31, code, "backward", 3, note=Reason.of("values-not-kept")),
                    _op(4811, "aten.zeros.default", "encoder/train.py", 31, code, "backward", 3),
                ],
                carriers=[
                    _op(4815, "aten.add_.Tensor", "encoder/train.py", 31, code, "backward", 3),
                    _op(
                        4901,
                        "aten._foreach_addcdiv_.ScalarList",
                        "encoder/train.py",
                        32,
                        "optimizer.step()",
                        "optimizer",
                        3,
                    ),
                    _op(
                        4930,
                        "aten.embedding.default",
                        "encoder/model.py",
                        77,
                        "tokens = self.embedding(batch)",
                        "forward",
                        4,
                    ),
                ],
                differing_ops=40_127,
                compared_ops=43_308,
                evidence=Evidence(
                    runs=["look-1", "look-2"],
                    inputs=[
                        Difference(slot="in0", dtype="float32", shape=[30522, 256], differs=False, of=7_813_632),
                        Difference(slot="in1", dtype="int64", shape=[32, 128], differs=False, of=4096),
                        Difference(slot="in2", dtype="bfloat16", shape=[32, 128, 256], differs=False, of=1_048_576),
                    ],
                    outputs=[
                        Difference(
                            slot="out0",
                            dtype="float32",
                            shape=[30522, 256],
                            differs=True,
                            elements=4_711,
                            of=7_813_632,
                            absolute=2.9802322e-08,
                            relative=0.00012,
                            ulp=1904,
                            first=[101, 7],
                            a="-0.00024795532",
                            b="-0.00024792552",
                        )
                    ],
                    reasons=[Reason.of("other-result")],
                ),
                forward=Place(file="encoder/model.py", line=77, code="tokens = self.embedding(batch)"),
            ),
        ),
        coverage=Coverage(
            lanes=1,
            ops=48_120,
            lost=[
                Lost(
                    what=Reason.of("recorder-lost", what="module paths, and ops inside compiled code: torch.compile was used"),
                    lane="main",
                    run="control-1",
                ),
                Lost(
                    what=Reason.of("other-formula", op="aten.masked_fill.Tensor"),
                    count=12,
                    lane="thread 1",
                ),
                Lost(what=Reason.of("other-formula", op="aten.masked_fill.Tensor"), count=9, lane="thread 2"),
            ],
        ),
        notes=[Reason.of("fault-moves", first=4812, closer=5120)],
        version="0.1.0",
    )


def data_order() -> Audit:
    """The same rows in another order, first seen in a worker; all workers diverge."""
    code = "x = torch.tensor([readings[name] for name in names])"
    permuted = {
        "dtype": "float32",
        "shape": [62, 3],
        "differs": True,
        "elements": 177,
        "of": 186,
        "absolute": 0.90625,
        "relative": 1.0,
        "ulp": 1061158912,
        "first": [1, 0],
        "a": "0.53125",
        "b": "0.90625",
        "rows_permuted": True,
    }
    divergence = Divergence(
        runs=["control-1", "control-2"],
        kind="data-order",
        lane="main",
        index=0,
        step=0,
        phase="setup",
        op="external",
        file="batch_order.py",
        line=19,
        function="<module>",
        code=code,
        reasons=[Reason.of("other-row-order")],
        detail=Detail(
            carriers=[_op(2, "aten.pow.Tensor_Scalar", "batch_order.py", 20, "y = x.square().sum(dim=1, keepdim=True)")],
            differing_ops=192,
            compared_ops=393,
            evidence=Evidence(
                runs=["look-1", "look-2"],
                inputs=[Difference(slot="in0", **permuted)],
                outputs=[Difference(slot="out0", **permuted)],
            ),
        ),
    )
    others = [
        divergence.model_copy(update={"lane": f"worker {k}", "kind": "draw", "op": "numpy.default_rng", "line": 23}) for k in range(4)
    ]
    return Audit(
        verdict="diverged",
        script=["batch_order.py"],
        runs=_runs(ops=392, steps=12),
        divergence=divergence,
        others=others,
        coverage=Coverage(lanes=5, ops=392),
        version="0.1.0",
    )


def argument() -> Audit:
    """A number passed to an op differs, and far more tensors are reached than can be listed."""
    code = "x = nn.functional.dropout(x, p=schedule(time.monotonic()))"
    side = {"op": "aten.native_dropout.default", "file": "dropout.py", "line": 44, "digest": "66ba432abaee8861"}
    start = "[[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20],"
    return Audit(
        verdict="diverged",
        script=["dropout.py", "--name", "first try"],
        runs=_runs(ops=1_000_000, steps=100),
        divergence=Divergence(
            runs=["control-1", "control-2"],
            kind="argument",
            lane="thread 2",
            index=731_004,
            step=99,
            phase="forward",
            op="aten.native_dropout.default",
            file="dropout.py",
            line=44,
            code=code,
            detail=Detail(
                a={**side, "args": f'{start}"train",true]', "numbers": "0.1", "out": '[["uint8",[4],null,"cpu"]]', "phase": "forward"},
                b={**side, "args": f'{start}"train",false]', "numbers": "0.25", "out": '[["uint8",[5],[2],"cpu"]]', "phase": "forward"},
                evidence=Evidence(
                    inputs=[Difference(slot=f"in{k}", dtype="float16", shape=[], differs=k > 7, of=1) for k in range(20)],
                    outputs=[Difference(slot="out0", dtype="uint8", shape=[4], differs=True, of=4, note=Reason.of("values-not-kept"))],
                    reasons=[Reason.of("other-external-values")],
                ),
            ),
        ),
        coverage=Coverage(lanes=3, ops=1_000_000),
    )


def failed() -> Audit:
    """One run continues where the other ended: there is no second side, no line and no code."""
    return Audit(
        verdict="diverged",
        script=["train.py"],
        runs=[
            RunOutcome(id="control-1", exit=0, seconds=2.0, ops=40, steps=4, path="/srv/runs/a"),
            RunOutcome(
                id="control-2",
                exit=-9,
                seconds=1.0,
                ops=30,
                steps=3,
                path="/srv/runs/b",
                device="cuda:0",
                pinned=["threads"],
                varied=["hash-seed", "tf32"],
                error="MemoryError: no more",
            ),
        ],
        divergence=Divergence(
            runs=["control-1", "control-2"],
            kind="failed",
            lane="main",
            index=30,
            step=None,
            phase="",
            op="end-of-run",
            reasons=[Reason.of("run-ended", run="control-2", error="MemoryError: no more", status=1)],
            detail=Detail(a={"op": "aten.relu.default", "phase": "forward"}),
        ),
        environment=[EnvironmentDifference(name="environment: OMP_NUM_THREADS", a=None, b="2")],
        coverage=Coverage(lanes=1, ops=30),
    )


def no_divergence() -> Audit:
    """Two runs that agree."""
    return Audit(
        verdict="no-divergence-seen",
        script=["steady_training.py"],
        runs=_runs(ops=5544, steps=40)[:2],
        coverage=Coverage(lanes=1, ops=5544, in_place_writes=180, in_place_lines=3),
        effect=Effect(runs=["control-1", "control-2"], loss=Loss(step=39, a=0.07550421, b=0.07550421, final=True)),
        provenance=Provenance(
            date="2026-11-21T10:15:00+00:00", revision=Revision(commit="7f2b005c0ffee123456789abcdef0123456789ab", dirty=False),
            versions={"python": "3.11.7", "torch": "2.13.0+cpu"}, machine={"system": "Linux 6.1", "processor": "Xeon", "cores": 2},
        ),
        version="0.1.0",
    )  # fmt: skip


def findings_alone() -> Audit:
    """Two runs that agree on the same fault, although the hash seed was varied."""
    audit = no_divergence()
    audit.runs[1].role = "experiment"
    audit.runs[1].varied = ["hash-seed"]
    audit.findings = seed_from_the_clock().findings
    audit.rules = {
        "stale-gradient": RuleText(
            title="a gradient is added to one that was used", why="each update has all earlier ones in it.", instead="zero_grad()",
            references=["https://docs.pytorch.org/docs/stable/optim.html"],
        )
    }  # fmt: skip
    return audit


def inconclusive() -> Audit:
    """The script failed in the same way in both runs."""
    error = "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn"
    runs = _runs(ops=3, steps=0)[:2]
    for run in runs:
        run.exit, run.error = 1, error
    return Audit(
        verdict="inconclusive",
        script=["no_grad_backward.py"],
        runs=runs,
        coverage=Coverage(lanes=1, ops=3),
        failure=Failure(
            file="no_grad_backward.py",
            line=9,
            function="<module>",
            code="loss.backward()",
            error=error,
            steps=3,
            around=[(8, "loss = model(x).detach().mean()"), (9, "loss.backward()"), (10, "")],
        ),
        reason=Reason.of("script-failed", error=error, status=1),
        version="0.1.0",
    )


def environments_differ() -> Audit:
    """Two kept runs from two machines."""
    audit = kernel_in_backward()
    assert audit.divergence is not None
    audit.runs = [
        RunOutcome(id="monday", role="kept", exit=0, seconds=61.5, ops=48_120, steps=40, path="/srv/runs/monday"),
        RunOutcome(id="friday", role="kept", exit=0, seconds=58.25, ops=48_120, steps=40, path="/home/ada/friday"),
    ]
    audit.divergence.runs = ["monday", "friday"]
    audit.divergence.intermittent = None
    audit.divergence.detail.evidence = None
    audit.notes = [Reason.of("inputs-not-digested")]
    flags = "avx2 bmi1 bmi2 f16c fma sse4_1 sse4_2 "
    audit.environment = [
        EnvironmentDifference(name="machine: flags", a=f"{flags}avx512f avx512bw avx512vl", b=f"{flags}sha_ni vaes"),
        EnvironmentDifference(name="machine: processor", a="Intel(R) Xeon(R) Platinum 8480+", b="AMD EPYC 9654 96-Core"),
        EnvironmentDifference(name="versions: torch", a="2.12.1", b="2.13.0"),
        EnvironmentDifference(name="environment: OMP_NUM_THREADS", a=None, b="2"),
        *(EnvironmentDifference(name=f"environment: MKL_{k}", a=str(k), b=None) for k in range(12)),
    ]
    return audit


def proved_by_pinning() -> Audit:
    """Controls that differ, one cause, and both halves of its proof."""
    audit = data_order()
    assert audit.divergence is not None
    audit.script = ["train.py"]
    audit.others = []
    audit.coverage.lanes = 1
    audit.divergence.file, audit.divergence.line, audit.divergence.code = (
        "train.py",
        12,
        "x = torch.tensor([table[name] for name in order])",
    )
    lines = ["", "names = [line.strip() for line in open('names.txt')]", "order = [name for name in set(names) if name in table]", "", ""]
    around = [*enumerate(lines, 7), (12, audit.divergence.code), (13, "y = torch.ones(len(x))"), (14, "")]
    audit.divergence.around = around[3:]
    audit.runs += [*_reruns("pin-hash-seed", ["hash-seed"]), *_reruns("free-hash-seed", _all_but("hash-seed"))]
    audit.causes = [
        cause(
            factor="hash-seed",
            proved=True,
            kind="data-order",
            file="train.py",
            line=9,
            function="<module>",
            code="order = [name for name in set(names) if name in table]",
            reasons="a set of strings is iterated, and its order depends on how this process hashes strings",
            fix="sorted(...) where the set is iterated",
            proof=["control-1", "control-2", "pin-hash-seed-1", "pin-hash-seed-2", "free-hash-seed-1", "free-hash-seed-2"],
            between=["control-1", "control-2"],
            seen_at=_op(0, "external", "train.py", 12, "x = torch.tensor([table[name] for name in order])"),
            around=around[:5],
        )
    ]
    audit.search = Search(pinned=PINNED, left_out=NO_CUDA)
    loss = Loss(step=11, a=0.07550421, b=0.07412210, final=True)
    last = [PrintedMetric(name="val loss", a="0.0755", b="0.0741", line=12), PrintedMetric(name="accuracy", a="93.1%", b="92.8%", line=13)]
    printed = Printed(compared=24, differing=20, names=["accuracy", "val loss"], last=last)
    audit.effect = Effect(runs=["control-1", "control-2"], loss=loss, loss_from=0, parameters_from=0, printed=printed)
    audit.provenance = Provenance(
        date="2026-11-21T10:15:00+00:00", revision=Revision(commit="7f2b005c0ffee123456789abcdef0123456789ab", dirty=True),
        versions={"python": "3.11.7", "torch": "2.13.0+cpu"}, environment={"OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    return audit


def with_patch() -> Audit:
    """A cause with a verified fix."""
    audit = proved_by_pinning()
    audit.causes[0].patch = Patch(
        file="train.py",
        diff="\n".join(
            [
                "--- a/train.py",
                "+++ b/train.py",
                "@@ -6,7 +6,7 @@",
                ' table = load("table.csv")',
                ' names = [name.strip() for name in open("names.txt")]',
                " ",
                "-order = [name for name in set(names) if name in table]",
                "+order = [name for name in sorted(set(names)) if name in table]",
                " ",
                " ",
                " def batches(size):",
                "",
            ]
        ),
        runs=["fix-1", "fix-2"],
    )
    audit.runs += _reruns("fix", [], role="check")
    return audit


def two_causes() -> Audit:
    """Two independent causes, one with an applied patch; so many runs that the report folds them."""
    audit = with_patch()
    audit.runs = [
        *_runs(ops=392, steps=12),
        *_reruns("pin-hash-seed", ["hash-seed"]),
        *_reruns("pin-hash-seed+clock", ["hash-seed", "clock"]),
        *_reruns("pin-all", PINNED),
        *_reruns("pin-some-1", PINNED[:8]),
        *_reruns("pin-some-2", [*PINNED[:2], *PINNED[4:8]]),
        *_reruns("pin-hash-seed+numpy-seed", ["hash-seed", "numpy-seed"]),
        *_reruns("free-hash-seed", _all_but("hash-seed")),
        *_reruns("free-numpy-seed", _all_but("numpy-seed")),
        *_reruns("fix", [], role="check"),
    ]
    first = audit.causes[0]
    assert first.patch is not None
    first.patch.applied, first.patch.backup = True, "train.py.before"
    seen = ["pin-hash-seed-1", "pin-hash-seed-2"]
    second = cause(
        factor="numpy-seed",
        proved=True,
        kind="draw",
        file="augment.py",
        line=31,
        function="jitter",
        code="return image + rng.normal(scale=0.1, size=image.shape)",
        reasons="default_rng() without a seed starts from the operating system's entropy",
        fix="np.random.default_rng(0)",
        proof=[*seen, "pin-hash-seed+numpy-seed-1", "pin-hash-seed+numpy-seed-2", "free-numpy-seed-1", "free-numpy-seed-2"],
        between=seen,
        seen_at=_op(211, "external", "augment.py", 40, "return torch.from_numpy(jitter(image))", "forward", 2),
    )
    audit.causes = [first, second]
    return audit


def not_proved() -> Audit:
    """A suspect with too few runs for a proof."""
    audit = kernel_in_backward()
    audit.causes = [
        cause(
            factor="kernels",
            proved=False,
            kind="kernel",
            grade="numerical",
            file="encoder/model.py",
            line=77,
            code="tokens = self.embedding(batch)",
            reasons="aten.index_put_.default comes from here; 4 runs that agree may be chance at this rate; use --runs 9",
            fix="torch.use_deterministic_algorithms(True)",
            proof=["control-1", "control-2", *(f"pin-kernels-{k}" for k in range(1, 5))],
            between=["control-1", "control-2"],
        )
    ]
    audit.runs += [*_reruns("pin-kernels", ["kernels"]), *_reruns("pin-kernels", ["kernels"], first=3)]
    audit.search = Search(
        pinned=[*PINNED, "kernels"],
        left_out={**NO_CUDA, "leftover-files": LARGE},
    )
    return audit


def unexplained() -> Audit:
    """Controls that diverge whatever is pinned."""
    audit = data_order()
    audit.others = []
    audit.runs += _reruns("pin-all", PINNED)
    audit.search = Search(
        pinned=PINNED,
        left_out={
            **NO_CUDA,
            "leftover-files": LARGE,
            "device": Reason.of("unavailable", why="the script has one device only"),
        },
        beyond=True,
        possible="what comes from outside: data from a network, another program, or a folder elsewhere that the runs write to",
    )
    loss = Loss(step=11, a=0.07550421357154846, b=0.07550421357154944, final=True)
    printed = Printed(compared=12, differing=0, names=["loss"])
    audit.effect = Effect(runs=["control-1", "control-2"], loss=loss, loss_from=3, parameters_from=2, printed=printed)
    assert audit.divergence is not None
    audit.divergence.reaches = ["loss", "parameters"]
    return audit


def varied_numerical() -> Audit:
    """Controls that agree, and results that are rounded differently with other threads or instructions."""
    audit = no_divergence()
    audit.runs += [
        _varied("vary-all", [name for name in VARIED if name not in ("threads", "cpu-isa")]),
        _varied("vary-threads", ["threads"]),
        _varied("vary-cpu-isa", ["cpu-isa"]),
    ]
    seen = _op(17, "aten.addmm.default", "steady_training.py", 20, "logits = model(x)", "forward", 0)
    audit.causes = [
        cause(
            factor="threads",
            proved=True,
            kind="kernel",
            grade="numerical",
            reasons="another number of threads changes results from op 17 on, by 3e-07 at most",
            fix="torch.set_num_threads(1), or the same number of threads everywhere",
            proof=["control-1", "vary-threads"],
            between=["control-1", "vary-threads"],
            seen_at=seen,
        ),
        cause(
            factor="cpu-isa",
            proved=True,
            kind="kernel",
            grade="numerical",
            reasons="other CPU instructions change results from op 17 on, by 2.4e-07 at most",
            fix="the same ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA and MKL_CBWR everywhere",
            proof=["control-1", "vary-cpu-isa"],
            between=["control-1", "vary-cpu-isa"],
            seen_at=seen,
        ),
    ]
    audit.search = Search(varied=VARIED, left_out=NO_CUDA)
    return audit


def varied_and_agreeing() -> Audit:
    """Controls that agree, also when all factors are varied."""
    audit = no_divergence()
    audit.runs.append(_varied("vary-all", VARIED))
    audit.search = Search(varied=VARIED, left_out={**NO_CUDA, "address-layout": "it is another one in each run anyway"})
    return audit


def varied_logical() -> Audit:
    """Controls that agree, and a run with all factors varied that makes a logical difference."""
    audit = data_order()
    assert audit.divergence is not None
    audit.others = []
    audit.coverage.lanes = 1
    audit.divergence.runs = ["control-1", "vary-file-order"]
    others = [name for name in VARIED if name not in ("threads", "cpu-isa")]
    audit.divergence.file, audit.divergence.line, audit.divergence.code = "train.py", 21, "x = torch.stack([load(path) for path in paths])"
    audit.runs += [
        _varied("vary-all", others),
        _varied("vary-file-order", ["file-order"]),
        _varied("vary-some-1", [name for name in others if name != "file-order"]),
        _varied("vary-threads", ["threads"]),
    ]
    audit.causes = [
        cause(
            factor="threads",
            proved=True,
            kind="kernel",
            grade="numerical",
            reasons="another number of threads changes results from op 91 on, by 1.2e-07 at most",
            proof=["control-1", "vary-threads"],
            between=["control-1", "vary-threads"],
        ),
        cause(
            factor="file-order",
            proved=True,
            kind="data-order",
            file="train.py",
            line=18,
            code='paths = glob.glob("data/*.pt")',
            reasons="the directory gives its names in another order",
            fix='sorted(glob.glob("data/*.pt"))',
            proof=["control-1", "vary-file-order", "vary-some-1"],
            between=["control-1", "vary-file-order"],
        ),
    ]
    audit.search = Search(varied=VARIED, left_out=NO_CUDA)
    return audit


def intermittent_with_interval() -> Audit:
    """A fault in two of nine runs, and a proof with the number of runs that such a rate needs."""
    audit = kernel_in_backward()
    assert audit.divergence is not None
    audit.script = ["train.py"]
    audit.notes = []
    controls = [f"control-{k}" for k in range(1, 11)]
    audit.runs = [
        *(RunOutcome(id=name, exit=0, seconds=3 + k / 10, ops=412, steps=8, path=f"{FOLDER}/{name}") for k, name in enumerate(controls)),
        *(run for k in range(1, 13, 2) for run in _reruns("pin-thread-timing", ["thread-timing"], first=k)),
        *(run for k in range(1, 13, 2) for run in _reruns("free-thread-timing", _all_but("thread-timing"), first=k)),
    ]
    audit.divergence.runs = ["control-1", "control-4"]
    audit.divergence.intermittent = Intermittent(
        differing=17,
        pairs=45,
        groups=[[name for name in controls if name not in ("control-4", "control-7")], ["control-4"], ["control-7"]],
        apart=2,
        others=9,
        low=0.0632,
        high=0.5474,
    )
    audit.causes = [
        cause(
            factor="thread-timing",
            proved=True,
            kind="hidden-write",
            file="train.py",
            line=14,
            code="thread = threading.Thread(target=add, args=(total,))",
            reasons="threads add to one tensor as they come",
            fix="collect the threads' results in the order in which the threads were started, and add them up there",
            proof=[*controls, *(run.id for run in audit.runs[10:])],
            between=["control-1", "control-4"],
        )
    ]
    audit.search = Search(pinned=PINNED, left_out=NO_CUDA)
    return audit


def devices_agree() -> Audit:
    """A CPU and a reduced variant of it: rounding errors that the model amplifies."""
    runs = [*_runs(ops=5096, steps=10)[:2], *(_on_device(name) for name in ("cpu", "cpu:avx2"))]
    most = [
        _error(157, "aten.mm.default", 18, "loss.backward()", 1.5e-7, 1.2, 2100.0, 0.16, 3.1e-7, 610, forward=12),
        _error(152, "aten.sqrt.default", 19, "optimizer.step()", 4.8e-8, 0.31, 0.75, 0.19, 5.4e-8, 20),
        _error(153, "planted.scale.default", 14, "x = torch.ops.planted.scale(x)", 0.0, 0.0, 0.0, None, None, 1),
    ]
    curve = [
        CurvePoint(index=k, step=k // 512, phase="forward", drift=1e-8 * 1.2 ** (k // 100) if k > 300 else 0.0) for k in range(0, 5096, 13)
    ]
    comparison = DeviceComparison(
        devices=["cpu", "cpu:avx2"], runs=["device-cpu", "device-cpu-avx2"], aligned=5096, unaligned=12, curve=curve, most=most, end=1.1e-4,
        unmeasured={"aten.uniform_.default": 62, "aten.randn.default": 1, "aten.mkldnn_rnn_layer.default": 10, "aten.prod.default": 1},
        differs_from=OpLine(index=301, op="aten.tanh.default", differs=True, file="train.py", line=12), loss=2.5e-5, holds_parameters=True,
        growth=(2e-8, 1.1e-4),
    )  # fmt: skip
    return Audit(
        verdict="no-divergence-seen", script=["train.py"], runs=runs, devices=[comparison], coverage=Coverage(lanes=1, ops=5096),
        notes=[Reason.of("no-gpu-run", why="there is no CUDA device here")],
    )  # fmt: skip


def device_off() -> Audit:
    """An op that exceeds its error bound on one of two devices, confirmed by a shadow."""
    audit = devices_agree()
    first = _error(3161, "aten.tanh.default", 12, "y = model(x)", 1.2e-6, 10.1, 20.5, 3.42, 1.0e-6, 300).model_copy(
        update={"run": "device-cpu-avx2", "step": 6, "phase": "forward", "module": "Sequential.35"}
    )
    comparison = audit.devices[0]
    comparison.first, comparison.most = first, [first, *comparison.most]
    audit.verdict = "diverged"
    audit.divergence = Divergence(
        runs=comparison.runs, kind="arithmetic", lane="main", op=first.op,
        reasons=[Reason.of("off-on-devices", devices=["cpu:avx2"], added=1.2e-6, ulps=None, excess=3.42)],
        **{key: getattr(first, key) for key in ("index", "step", "phase", "module", "file", "line", "code")},
    )  # fmt: skip
    exact = _error(9, "aten.relu.default", 13, "y = y.relu()", 1e300, 1e300, 1e300, 1e300, None, 1)
    audit.shadow = Shadowed(
        run="device-cpu", reference="float64", ops=4021, first=exact, most=[exact, *comparison.most[1:]],
        unmeasured={"aten.randint.low": 2}, lines_off=2,
    )  # fmt: skip
    return audit


def programs_differ() -> Audit:
    """Two programs with three independent faults, and names that follow from them."""
    sides = {"file_a": "fizbuz_numpy.py", "file_b": "fizbuz_torch.py"}
    factor = Relation(kind="factor", value=256.0, meaning=[Reason.of("sum-for-mean", n=256, what="256 elements")])
    twice = Relation(kind="factor", value=2.0, meaning=[Reason.of("twice")])
    growing = Relation(kind="growing", value=1.0, meaning=[Reason.of("accumulates", what="update", occurrence=2)])
    code = [[(51, "error = output - y"), (52, text), (53, "")] for text in ("loss = (error**2).mean()", "loss = error.pow(2).sum()")]
    return Audit(
        verdict="diverged",
        script=["fizbuz_numpy.py", "fizbuz_torch.py"],
        runs=_programs("fizbuz_numpy.py", "fizbuz_torch.py"),
        names=[
            NamePair(a="x", b="x", line_a=46, line_b=49, agrees=True, digits=7.2, relation=Relation(kind="rounding"), **sides),
            NamePair(
                a="loss", b="loss", line_a=52, line_b=52, agrees=False, first=Occurrence(step=0, occurrence=0), relation=factor,
                occurrences=75, errors=[(k, 255.0 + k % 3) for k in range(75)], around_a=code[0], around_b=code[1], **sides,
            ),
            NamePair(
                a="w2", b="net.w2", line_a=56, line_b=58, agrees=False, first=Occurrence(step=0, occurrence=1), digits=7.2,
                relation=Relation(kind="other"), update=twice, occurrences=76, errors=[(0, 0.0), (75, 0.02)], how="map", **sides,
            ),
            NamePair(
                a="w1", b="w1", line_a=58, line_b=60, agrees=False, first=Occurrence(step=0, occurrence=1), follows="w2",
                errors=[(k, 1e-7 * 1.2**k) for k in range(75)], **sides,
            ),
            NamePair(a="b1", b="b1", line_a=59, line_b=61, agrees=False, first=Occurrence(step=2, occurrence=3), update=growing, **sides),
        ],
        unaligned=[Reason.of("name-alone", name="delta2", stem="delta2", more=0, scope="", which="first", line=54)],
    )  # fmt: skip


def programs_agree() -> Audit:
    """A loop and its refactoring."""
    names = [NamePair(a=name, b=name, line_a=9, line_b=12, agrees=True, digits=digits) for name, digits in (("x", 15.9), ("loss", 6.4))]
    return Audit(verdict="no-divergence-seen", script=["old.py", "new.py"], runs=_programs("old.py", "new.py"), names=names)


def hostile() -> Audit:
    """Whatever a script may print, contain or be called: markup of every kind, escape codes, unlimited lengths."""
    evil = "[red]|`</code></details><script>alert(1)</script> **b** _i_ [x](http://e.vil) \x1b[31m\r\n# h\u202e\udcff"
    audit = draw_in_setup()
    assert audit.divergence is not None
    divergence = audit.divergence
    detail = divergence.detail
    audit.script = [evil, "``"]
    said, unknown = Reason.of("as-written", text=evil), Reason(slug=evil, parameters={evil: evil})
    audit.reason = said
    odd = ("# not a heading", "- not a list", "1. not a list", "[x]: http://e.vil")
    audit.notes = [said, *(Reason.of("as-written", text=text) for text in odd), unknown]
    audit.coverage.lost = [Lost(what=said, lane=evil, run=evil)]
    audit.findings = [Finding(rule=evil, level="error", file=evil, line=1, message=evil)]
    audit.findings.append(Finding(rule=evil, level="note", file=evil, line=1, code=evil, message=evil, forecast=True))
    audit.causes = [Cause(factor=evil, proved=False, kind="draw", file=evil, reasons=[said], fix=evil)]
    audit.environment = [EnvironmentDifference(name=evil, a=evil, b=evil + "!")]
    for run in audit.runs:
        run.error = evil
        run.path = f"/srv/{evil}/{run.id}"
    audit.runs[0].path = evil
    for name in ("op", "module", "file", "function", "code"):
        setattr(divergence, name, evil)
    divergence.lane = evil
    divergence.code = f"x = '''{evil}''' # ``````" + "y" * 1000
    assert detail.evidence is not None
    difference = detail.evidence.outputs[0]
    difference.a = difference.b = difference.dtype = evil
    difference.note = said
    detail.evidence.reasons, divergence.reasons = [said], [said, said]
    detail.streams = [Stream(name=evil, how="draw", function=evil, a=evil, b=None, file=evil, line=1)]
    detail.files = [FileDifference(path=evil, op=evil, what="other-content", file=evil, line=3)]
    detail.allocated = Place(file=evil, line=2, code=evil)
    detail.a, detail.b = {"args": evil, evil: 1}, {"args": evil * 100, evil: 2}
    detail.carriers = [_op(5, evil, evil, 3, evil, note=said)]
    detail.seen_at = _op(4, evil, evil, 2, evil)
    detail.forward = Place(file=evil, line=9, code=evil)
    audit.others = [divergence.model_copy(update={"lane": evil})]
    divergence.intermittent = Intermittent(differing=1, pairs=1, groups=[[evil, f"{evil}1", f"{evil}2"], [evil]], apart=1, others=3)
    diff = f"--- a/{evil}\n+++ b/{evil}\n@@ -1 +1 @@\n-\t{evil}\n+```\n+</details>{'y' * 3000}\r\n" + f"+{evil}\n" * 1000
    audit.causes += [
        cause(
            factor="clock",
            proved=True,
            kind="draw",
            file=evil,
            line=1,
            function=evil,
            code=evil,
            reasons=[said],
            fix=evil,
            proof=[evil, *(run.id for run in audit.runs)],
            between=[evil, evil],
            seen_at=_op(9, evil, evil, 9, evil),
            patch=Patch(file=evil, diff=diff, runs=[evil, evil], applied=True, backup=evil),
        ),
        cause(
            factor=f"threads{evil}",
            proved=True,
            kind="kernel",
            grade="numerical",
            reasons=[said],
            fix=evil,
            proof=["look-1"],
            between=["look-1", evil],
            seen_at=_op(9, evil, evil, 9, evil),
        ),
    ]
    audit.runs[2].varied, audit.runs[3].pinned = [evil] * 9, [evil, "clock"]
    off = OpError(
        index=1, op=evil, file=evil, line=1, code=evil, module=evil, run=evil, dtype=evil, drift=1.0, added=1.0, excess=2.0,
        forward=Place(file=evil, line=2), note=said,
    )  # fmt: skip
    audit.devices = [
        DeviceComparison(
            devices=[evil, evil], runs=[evil, evil], curve=[CurvePoint(index=0, drift=1e300), CurvePoint(index=7, phase=evil, drift=0.0)],
            first=off, most=[off] * 9, unmeasured={evil: 1, "b": 2},
        )
    ]  # fmt: skip
    metric = PrintedMetric(name=evil, a=evil, b=evil, line=1)
    audit.effect = Effect(
        runs=[evil, evil], loss=Loss(step=1, a=evil, b=1e300), printed=Printed(compared=9, differing=9, names=[evil], last=[metric] * 9)
    )  # fmt: skip
    audit.provenance = Provenance(
        date=evil, revision=Revision(commit=evil), versions={evil: evil}, machine={"system": evil}, environment={evil: evil}
    )  # fmt: skip
    audit.rules = {evil: RuleText(title=evil, why=evil, references=[evil])}
    audit.shadow = Shadowed(run=evil, reference=evil, first=off, most=[off], unmeasured={evil: 3})
    audit.search = Search(pinned=[evil, "clock"], varied=[evil] * 9, left_out={evil: said, "tf32": said}, beyond=True, possible=[said])
    return audit


def hostile_programs() -> Audit:
    """The same for two programs."""
    evil = "[red]|`</code></details><script>alert(1)</script> **b** _i_ [x](http://e.vil) \x1b[31m\r\n# h\u202e\udcff"
    audit = programs_differ()
    audit.unaligned = [Reason.of("as-written", text=evil)] * 20
    for pair in audit.names:
        pair.a = pair.b = pair.file_a = pair.file_b = evil
        pair.relation = Relation(kind="other", value=1e300, meaning=[Reason.of("as-written", text=evil)])
        pair.around_a = [(52, evil + "y" * 500)]
        pair.around_b = [(52, f"```{evil}")]
        pair.errors = [(0, 1e300), (1, 0.0)]
    audit.names[3].follows = evil
    return audit


AUDITS: dict[str, Callable[[], Audit]] = {
    made.__name__: made
    for made in (
        draw_in_setup,
        seed_from_the_clock,
        kernel_in_backward,
        data_order,
        argument,
        failed,
        no_divergence,
        findings_alone,
        on_a_gpu,
        inconclusive,
        environments_differ,
        proved_by_pinning,
        with_patch,
        two_causes,
        not_proved,
        unexplained,
        varied_numerical,
        varied_and_agreeing,
        varied_logical,
        intermittent_with_interval,
        devices_agree,
        device_off,
        programs_differ,
        programs_agree,
        hostile_programs,
        hostile,
    )
}


def _runs(ops: int, steps: int, seconds: float = 1.25) -> list[RunOutcome]:
    """Two controls, and two value-capture reruns that ended early."""
    controls = [RunOutcome(id=f"control-{k}", exit=0, seconds=seconds, ops=ops, steps=steps, path=f"{FOLDER}/control-{k}") for k in (1, 2)]
    looks = [
        RunOutcome(
            id=f"look-{k}",
            role="look",
            exit=0,
            seconds=seconds / 2,
            ops=ops // 2,
            steps=steps // 2,
            path=f"{FOLDER}/look-{k}",
            stopped="steps" if steps else None,
        )
        for k in (1, 2)
    ]
    return [*controls, *looks]


def _reruns(name: str, pinned: list[str], first: int = 1, role: Literal["experiment", "check"] = "experiment") -> list[RunOutcome]:
    """Two runs made in the same way."""
    return [
        RunOutcome(id=f"{name}-{k}", role=role, pinned=pinned, exit=0, seconds=1.25, ops=392, steps=12, path=f"{FOLDER}/{name}-{k}")
        for k in (first, first + 1)
    ]


def _programs(a: str, b: str) -> list[RunOutcome]:
    """The runs of two programs."""
    return [RunOutcome(id=name, role="program", exit=0, seconds=1.5, path=f"{FOLDER}/{name}", steps=75 * (b == name)) for name in (a, b)]


def _on_device(name: str) -> RunOutcome:
    """The reference run of a device comparison."""
    run = f"device-{name.replace(':', '-')}"
    return RunOutcome(id=run, role="device", device=name, exit=0, seconds=3.75, ops=5096, steps=10, path=f"{FOLDER}/{run}")


def _error(
    index: int, op: str, line: int, code: str, added: float, mean: float, ulps: float, excess: float | None, drift: float | None,
    times: int, forward: int | None = None,
) -> OpError:  # fmt: skip
    return OpError(
        index=index, op=op, file="train.py", line=line, code=code, added=added, mean_ulps=mean, ulps=ulps, excess=excess, drift=drift,
        times=times, forward=None if forward is None else Place(file="train.py", line=forward),
    )  # fmt: skip


def _varied(name: str, varied: list[str]) -> RunOutcome:
    return RunOutcome(id=name, role="experiment", varied=varied, exit=0, seconds=1.25, ops=392, steps=12, path=f"{FOLDER}/{name}")


def _all_but(factor: str) -> list[str]:
    return [name for name in PINNED if name != factor]


def _op(index: int, op: str, file: str, line: int, code: str, phase: str = "setup", step: int = 0, note: Reason | None = None) -> OpLine:
    return OpLine(index=index, op=op, file=file, line=line, code=code, phase=phase, step=step, note=note)
