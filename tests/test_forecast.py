"""The CUDA forecast: what rules say about a GPU, where they find nothing, how it is shown, and that the list of ops is torch's own."""

from __future__ import annotations

import ast
import importlib.util
import io
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from auditor import pipeline, plugins
from auditor.errors import UsageError
from auditor.judge import Rule, judge, load_rules
from auditor.pipeline.rulebook import print_rule, print_rules
from auditor.report.story.selection import forecast, seen_findings
from auditor.results import Audit, Finding
from auditor.trace.tables import Tables
from tests.audits import on_a_gpu
from tests.builder import LaneBuilder, TraceBuilder
from tests.findings import found, places

RULES = {name: file.rule for name, file in pipeline.all_rules().items() if file.rule.forecast}

#: What torch 2.13 documents as nondeterministic, and the ops in its record; `True`: it raises in deterministic mode.
_SORTED = {"aten.index_add_.default": False}
LISTED: dict[str, dict[str, bool]] = {
    **{f"torch.nn.Conv{n}d when called on CUDA tensor": {"aten.convolution_backward.default": False} for n in (1, 2, 3)},
    **{f"torch.nn.ConvTranspose{n}d when called on CUDA tensor": {"aten.convolution_backward.default": False} for n in (1, 2, 3)},
    **{
        f"torch.nn.ReplicationPad{n}d when attempting to differentiate a CUDA tensor": {f"aten.replication_pad{n}d_backward.default": False}
        for n in (1, 2, 3)
    },
    "torch.Tensor.scatter_add_ when called on a CUDA tensor": {"aten.scatter_add_.default": False, "aten.scatter_add.default": False},
    "torch.gather when called on a CUDA tensor that requires grad": {"aten.scatter_add.default": False, "aten.scatter_add_.default": False},
    "torch.index_add when called on CUDA tensor": {"aten.index_add.default": False, "aten.index_add_.default": False},
    "torch.index_select when attempting to differentiate a CUDA tensor": _SORTED,
    "torch.repeat_interleave when attempting to differentiate a CUDA tensor": _SORTED,
    "torch.Tensor.scatter_reduce when reduce='sum' or reduce='mean' and called on CUDA tensor": {"aten.scatter_reduce.two": False},
    "torch.nn.MaxPool3d when attempting to differentiate a CUDA tensor": {"aten.max_pool3d_with_indices_backward.default": False},
    "torch.nn.AvgPool3d when attempting to differentiate a CUDA tensor": {"aten.avg_pool3d_backward.default": True},
    "torch.nn.AdaptiveAvgPool2d when attempting to differentiate a CUDA tensor": {"aten._adaptive_avg_pool2d_backward.default": True},
    "torch.nn.AdaptiveAvgPool3d when attempting to differentiate a CUDA tensor": {"aten._adaptive_avg_pool3d_backward.default": True},
    "torch.nn.AdaptiveMaxPool2d when attempting to differentiate a CUDA tensor": {"aten.adaptive_max_pool2d_backward.default": True},
    "torch.nn.FractionalMaxPool2d when attempting to differentiate a CUDA tensor": {"aten.fractional_max_pool2d_backward.default": True},
    "torch.nn.FractionalMaxPool3d when attempting to differentiate a CUDA tensor": {"aten.fractional_max_pool3d_backward.default": True},
    "torch.nn.MaxUnpool1d": {"aten.max_unpool2d.default": True},
    "torch.nn.MaxUnpool2d": {"aten.max_unpool2d.default": True},
    "torch.nn.MaxUnpool3d": {"aten.max_unpool3d.default": True},
    # bilinear and trilinear do not raise: nn.functional.interpolate uses a deterministic formula then
    "torch.nn.functional.interpolate when attempting to differentiate a CUDA tensor and one of the following modes is used: "
    "- linear - bilinear - bicubic - trilinear": {
        "aten.upsample_linear1d_backward.default": True, "aten.upsample_bilinear2d_backward.default": False,
        "aten.upsample_bicubic2d_backward.default": True, "aten.upsample_trilinear3d_backward.default": False,
    },
    **{
        f"torch.nn.ReflectionPad{n}d when attempting to differentiate a CUDA tensor": {f"aten.reflection_pad{n}d_backward.default": True}
        for n in (1, 2, 3)
    },
    "torch.nn.NLLLoss when called on a CUDA tensor": {"aten.nll_loss2d_forward.default": True},
    "torch.nn.CTCLoss when attempting to differentiate a CUDA tensor": {"aten._ctc_loss_backward.default": True},
    "torch.nn.EmbeddingBag when attempting to differentiate a CUDA tensor when mode='max'": {"aten._embedding_bag_backward.default": True},
    "torch.Tensor.put_ when accumulate=False": {"aten.put_.default": True},
    "torch.Tensor.put_ when accumulate=True and called on a CUDA tensor": {"aten.put_.default": True},
    "torch.histc when called on a CUDA tensor": {"aten.histc.default": True},
    "torch.bincount when called on a CUDA tensor and weights tensor is given": {"aten.bincount.default": True},
    "torch.median with indices output when called on a CUDA tensor": {"aten.median.dim": True},
    "torch.nn.functional.grid_sample when attempting to differentiate a CUDA tensor": {
        "aten.grid_sampler_2d_backward.default": True, "aten.grid_sampler_3d_backward.default": True,
    },
    "torch.cumsum when called on a CUDA tensor when dtype is floating point or complex": {"aten.cumsum.default": True},
    "torch.Tensor.scatter_reduce when reduce='prod' and called on CUDA tensor": {"aten.scatter_reduce.two": True},
}  # fmt: skip

#: Documented ops that the rule leaves out, and why.
_TWICE = "varies only where an index occurs twice: repeated-index-write and order-dependent-write find that in the run itself"
_ON_CPU = "of CPU tensors, and so no forecast"
LEFT_OUT = {
    "torch.bmm when called on sparse-dense CUDA tensors": "a recorded op does not tell the layout of its inputs",
    "torch.Tensor.__getitem__ when attempting to differentiate a CPU tensor and the index is a list of tensors": _ON_CPU,
    "torch.Tensor.index_put with accumulate=False": _TWICE,
    "torch.Tensor.index_put with accumulate=True when called on a CPU tensor": _ON_CPU,
    "torch.Tensor.put_ with accumulate=True when called on a CPU tensor": _ON_CPU,
    "torch.Tensor.index_copy when called on a CPU or CUDA tensor": _TWICE,
    "torch.Tensor.scatter when src type is Tensor and called on CUDA tensor": _TWICE,
    "torch.Tensor.resize_ when called with a quantized tensor": "quantized tensors are not trained",
}


def documented() -> dict[str, bool]:
    """The entries of both lists in the docstring of the installed torch's `use_deterministic_algorithms`; `True`: it raises.

    Read from the source: importing torch takes seconds.
    """
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "use_deterministic_algorithms")
    text = ast.get_docstring(function) or ""
    entries: dict[str, bool] = {}
    for section in text.split("The following normally-nondeterministic operations will ")[1:]:
        for entry in re.findall(r"^    \* (.*(?:\n {6,}.*|\n(?=\n {6,}-)|\n(?= {6,}))*)", section, re.MULTILINE):
            entries[" ".join(re.sub(r":\w+:`([^`]+)`|`+([^`]+)`+", r"\1\2", entry).split())] = section.startswith("throw")
    return entries


def test_every_op_that_torch_documents_as_nondeterministic_is_listed_or_excluded() -> None:
    there = documented()
    assert sum(not raises for raises in there.values()) >= 20
    assert sum(there.values()) >= 20
    unknown = [entry for entry in there if entry not in LISTED and entry not in LEFT_OUT]
    assert not unknown, "new in this torch: add them to rules/nondeterministic-on-cuda.yaml, or exclude them with a reason"
    gone = [entry for entry in [*LISTED, *LEFT_OUT] if entry not in there]
    assert not gone, "no longer in the documentation of this torch"
    assert not set(LISTED) & set(LEFT_OUT)
    for entry, ops in LISTED.items():
        assert any(raises == there[entry] for raises in ops.values()), entry


@pytest.mark.parametrize("entry", LISTED)
def test_the_rule_says_about_each_op_what_torch_documents(entry: str) -> None:
    listed = RULES["nondeterministic-on-cuda"].params["ops"]
    for op, raises in LISTED[entry].items():
        fitting = [one for one in listed if fnmatchcase(op, one["op"])]
        assert {one["raises"] for one in fitting} == ({True, False} if op == "aten.scatter_reduce.two" else {raises}), op


def test_the_ops_of_the_rule_are_documented_or_cite_their_source() -> None:
    beyond = {
        "aten._scaled_dot_product_*attention*_backward.*", "aten._upsample_bilinear2d_aa_backward.*",
        "aten._upsample_bicubic2d_aa_backward.*", "aten.nanmedian.dim", "aten.kthvalue.*", "aten.put.*", "aten.cumsum_.*",
        "aten.scatter_reduce_.*", "aten.convolution.*",
    }  # fmt: skip
    known = [op for ops in LISTED.values() for op in ops]
    listed = {one["op"] for one in RULES["nondeterministic-on-cuda"].params["ops"]}
    assert {pattern for pattern in listed if not any(fnmatchcase(op, pattern) for op in known)} == beyond


def test_all_forecast_rules_are_notes_that_apply_to_the_installed_torch() -> None:
    from importlib.metadata import version

    assert {"nondeterministic-on-cuda", "tf32-on-cuda", "timed-choice-on-cuda", "varying-rnn-on-cuda", "half-sums-on-cuda"} <= set(RULES)
    for rule in RULES.values():
        assert rule.level == "note", rule.id
        assert rule.torch, rule.id
        assert rule.holds_for(version("torch")), rule.id


# versions


@pytest.mark.parametrize(
    ("bounds", "version", "holds"),
    [
        (">=2.6,<2.15", "2.13.0+cpu", True), (">=2.6,<2.15", "2.6", True), (">=2.6,<2.15", "2.6.0a0+git1", True),
        (">=2.6,<2.15", "2.5.1", False), (">=2.6,<2.15", "2.15.0", False), (">=2.6,<2.15", "2.14.9", True),
        (">=2.6,<2.15", "2.100", False), (">=2.6,<2.15", "3.0.0.dev20270101", False), ("==2.13", "2.13.0", True),
        ("==2.13", "2.13.1", False), ("!=2.13", "2.13.0+cu130", False), (">2.6 , <= 2.8.0", "2.8", True), (">2.6", "2.6.0", False),
        (">=2.6", "unheard of", True), (">=2.6", None, True), (None, "1.0", True),
    ],
)  # fmt: skip
def test_a_rule_applies_to_the_versions_that_it_names(bounds: str | None, version: str | None, holds: bool) -> None:
    rule = RULES["tf32-on-cuda"].model_copy(update={"torch": bounds})
    assert rule.holds_for(version) is holds


@pytest.mark.parametrize("bounds", ["", "2.6", ">=", ">=2.6;<3", "~=2.6", ">=2.6,", ">=two", ">=2.6+cpu"])
def test_an_invalid_version_bound_is_refused(bounds: str) -> None:
    data = RULES["tf32-on-cuda"].model_dump(by_alias=True, exclude_none=True)
    with pytest.raises(ValueError, match="is not a list of bounds"):
        Rule.model_validate(data | {"torch": bounds})


def test_a_wrong_bound_is_reported_with_its_position_in_the_file(tmp_path: Path) -> None:
    text = (pipeline.shipped_rules() / "half-sums-on-cuda.yaml").read_text().replace('torch: ">=2.6,<2.15"', "torch: from 2.6 on")
    (tmp_path / "half-sums-on-cuda.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_rules([tmp_path], plugins.detectors())
    assert caught.value.message.splitlines()[1:] == [
        f"{tmp_path}/half-sums-on-cuda.yaml:4:1: torch: 'from 2.6 on' is not a list of bounds such as '>=2.6,<2.15'"
    ]


def test_the_versions_of_a_rule_are_listed_and_explained() -> None:
    listed, explained = io.StringIO(), io.StringIO()
    rules = pipeline.all_rules()
    print_rules([rules["tf32-on-cuda"].rule, rules["cudnn-benchmark"].rule], listed)
    print_rule(rules["tf32-on-cuda"], explained)
    assert [line.endswith("  torch >=2.6,<2.15") for line in listed.getvalue().splitlines()] == [False, True]
    assert "\nHolds for\n  torch >=2.6,<2.15\n" in explained.getvalue()


@pytest.mark.parametrize(("version", "speaks"), [("2.13.0+cpu", True), ("2.5.0", False), ("2.16.0", False), (None, True)])
def test_a_rule_for_other_torch_versions_finds_nothing(version: str | None, speaks: bool, tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        if version is not None:
            lane.line({"k": "torch", "version": version, "at": 0})
        lane.op("aten.histc.default", lane.external([3], line=1), line=2)

    assert bool(found(tmp_path, "nondeterministic-on-cuda", program)) is speaks


# conditions on settings

CONV, RNN, MATMUL = (f"torch.backends.{part}.fp32_precision" for part in ("cudnn.conv", "cudnn.rnn", "cuda.matmul"))
CUDNN = "torch.backends.cudnn"


def start(lane: LaneBuilder, **switches: Any) -> None:
    """The initial settings of torch 2.13, except for these."""
    first = {
        f"{CUDNN}.enabled": True, f"{CUDNN}.benchmark": False, f"{CUDNN}.allow_tf32": True, "torch.backends.cuda.matmul.allow_tf32": False,
        CONV: "tf32", RNN: "tf32", MATMUL: "none", "environ:NVIDIA_TF32_OVERRIDE": None, "environ:CUBLAS_WORKSPACE_CONFIG": None,
        "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction": True,
        "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction": True,
    } | switches  # fmt: skip
    for name, value in first.items():
        lane.setting(name, value, initial=True)


def test_default_tf32_use_is_forecast_with_the_setting_that_allows_it(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        start(lane)
        x = lane.external([2, 3], line=1)
        for k in (1, 2):
            lane.op("aten.convolution.default", x, line=2, node=k)
        lane.phase = "backward"
        lane.op("aten.convolution_backward.default", x, line=9, node=2)
        lane.phase = "forward"
        lane.op("aten.mkldnn_rnn_layer.default", x, line=3)
        lane.op("aten.addmm.default", x, x, line=4)
        lane.op("aten.convolution.default", x, dtype="bfloat16", line=5)
        lane.op("aten.convolution.default", x, dtype="float64", line=6)

    findings = found(tmp_path, "tf32-on-cuda", program)
    assert places(findings) == [(2, 3), (3, 1)]
    assert all(finding.forecast for finding in findings)
    assert findings[0].message == (
        "aten.convolution and aten.convolution_backward: in TF32 on a GPU that has it, with about three digits "
        "(torch.backends.cudnn.conv.fp32_precision is tf32 from the start)"
    )


@pytest.mark.parametrize(
    "switches",
    [
        {CONV: "ieee", RNN: "ieee"}, {f"{CUDNN}.enabled": False}, {"environ:NVIDIA_TF32_OVERRIDE": "0"},
        {CONV: "none", RNN: "none", f"{CUDNN}.allow_tf32": True},
    ],
)  # fmt: skip
def test_no_tf32_is_forecast_where_it_is_off(switches: dict[str, Any], tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        start(lane, **switches)
        x = lane.external([2, 3], line=1)
        for name in ("convolution", "convolution_backward", "mkldnn_rnn_layer", "addmm", "mm", "bmm"):
            lane.op(f"aten.{name}.default", x, line=2)

    assert found(tmp_path, "tf32-on-cuda", program) == []


def test_an_op_is_judged_by_the_settings_at_its_time(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        start(lane)
        x = lane.external([2, 3], line=1)
        lane.op("aten.mm.default", x, x, line=2)
        lane.op("aten.convolution.default", x, line=2)
        lane.setting(MATMUL, "tf32", line=3)
        lane.setting(CONV, "ieee", line=3)
        lane.op("aten.mm.default", x, x, line=4)
        lane.op("aten.convolution.default", x, line=5)
        lane.setting(MATMUL, "none", line=6)
        lane.op("aten.mm.default", x, x, line=7)

    findings = found(tmp_path, "tf32-on-cuda", program)
    assert places(findings) == [(2, 1), (4, 1)]
    assert findings[0].evidence["ops"] == "aten.convolution"
    assert findings[1].evidence["switches"] == f"{MATMUL} is tf32"


def test_a_setting_that_is_briefly_off_in_each_step_counts_only_where_it_is_on(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        start(lane)
        x = lane.external([2, 3], line=1)
        for _ in range(300):
            lane.setting(f"{CUDNN}.enabled", False)
            lane.op("aten.convolution.default", x, line=2)
            lane.setting(f"{CUDNN}.enabled", True)
            lane.op("aten.convolution.default", x, line=3)
            lane.step()

    assert places(found(tmp_path, "tf32-on-cuda", program)) == [(3, 300)]


def test_an_older_torch_is_judged_by_its_own_settings(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        lane.setting(f"{CUDNN}.enabled", True, initial=True)
        lane.setting(f"{CUDNN}.allow_tf32", True, initial=True)
        lane.setting("torch.backends.cuda.matmul.allow_tf32", False, initial=True)
        x = lane.external([2, 3], line=1)
        lane.op("aten.convolution.default", x, line=2)
        lane.op("aten.mm.default", x, x, line=3)
        lane.setting(f"{CUDNN}.allow_tf32", False, line=4)
        lane.setting("torch.backends.cuda.matmul.allow_tf32", True, line=4)
        lane.op("aten.convolution.default", x, line=5)
        lane.op("aten.mm.default", x, x, line=6)

    assert places(found(tmp_path, "tf32-on-cuda", program)) == [(2, 1), (6, 1)]


def test_threads_inherit_unchanged_settings_of_the_main_lane_or_are_skipped(tmp_path: Path) -> None:
    def findings(name: str, changes: bool) -> list[Finding]:
        run = TraceBuilder(tmp_path / name)
        main, thread = run.lane(), run.lane("thread 1")
        start(main)
        if changes:
            main.setting(CONV, "ieee", line=1)
        thread.op("aten.convolution.default", thread.external([3], line=2), line=3)
        with Tables(run.sealed()) as tables:
            return judge([tables], [RULES["tf32-on-cuda"]], plugins.detectors())

    assert places(findings("still", False)) == [(3, 1)]
    assert findings("changing", True) == []


@pytest.mark.parametrize("rule", [name for name in RULES if name != "nondeterministic-on-cuda"])
def test_unrecorded_settings_are_not_guessed(rule: str, tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external([2, 3], line=1)
        for dtype in ("float32", "float16", "bfloat16"):
            for name in ("convolution", "mm", "mkldnn_rnn_layer", "bernoulli_"):
                lane.op(f"aten.{name}.default", x, dtype=dtype, line=2)

    assert found(tmp_path, rule, program) == []


@pytest.mark.parametrize(
    ("rule", "op", "dtype", "off"),
    [
        ("timed-choice-on-cuda", "aten.convolution.default", "float32", {f"{CUDNN}.benchmark": False}),
        ("timed-choice-on-cuda", "aten.convolution.default", "float32", {f"{CUDNN}.enabled": False}),
        ("varying-rnn-on-cuda", "aten.mkldnn_rnn_layer.default", "float32", {"environ:CUBLAS_WORKSPACE_CONFIG": ":16:8"}),
        ("varying-rnn-on-cuda", "aten._cudnn_rnn.default", "float32", {"environ:CUBLAS_WORKSPACE_CONFIG": ":4096:8"}),
        ("varying-rnn-on-cuda", "aten._cudnn_rnn.default", "float32", {f"{CUDNN}.enabled": False}),
        (
            "half-sums-on-cuda", "aten.bmm.default", "float16",
            {"torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction": False},
        ),
        (
            "half-sums-on-cuda", "aten.addmm.default", "bfloat16",
            {"torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction": False},
        ),
    ],
)  # fmt: skip
def test_a_setting_that_is_off_removes_the_forecast(rule: str, op: str, dtype: str, off: dict[str, Any], tmp_path: Path) -> None:
    def findings(name: str, **switches: Any) -> list[Finding]:
        def program(lane: LaneBuilder) -> None:
            start(lane, **{f"{CUDNN}.benchmark": True} | switches)
            lane.op(op, lane.external([3], line=1), dtype=dtype, line=2)

        return found(tmp_path / name, rule, program)

    assert places(findings("on")) == [(2, 1)]
    assert findings("off", **off) == []


def test_draws_are_forecast_for_modules_only(tmp_path: Path) -> None:
    def program(lane: LaneBuilder) -> None:
        x = lane.external([3], line=1)
        lane.random("aten.bernoulli_.float", x, line=2)
        lane.random("aten.randn_like.default", x, line=3)
        lane.module = "Net.dropout"
        lane.random("aten.bernoulli_.float", x, line=4)
        lane.random("aten.normal_.default", x, line=5)

    assert places(found(tmp_path, "other-draws-on-cuda", program)) == [(4, 1)]


# reports


def forecast_finding(line: int, message: str, rule: str = "tf32-on-cuda", count: int = 1) -> Finding:
    """A finding of the forecast."""
    return Finding(rule=rule, level="note", file="train.py", line=line, message=message, count=count, forecast=True)


def test_lines_with_the_same_forecast_are_grouped_with_the_most_ops_first() -> None:
    audit = Audit(verdict="no-divergence-seen", script=["train.py"], runs=[])
    audit.findings = [
        Finding(rule="own", level="note", message="seen"),
        *(forecast_finding(line, "mm", count=2) for line in range(9)), forecast_finding(20, "conv", count=50),
        *(forecast_finding(30 + k, f"other {k}") for k in range(4)), forecast_finding(40, "a draw", "other-draws-on-cuda"),
    ]  # fmt: skip
    draws, tf32 = forecast(audit)
    assert [finding.rule for finding in seen_findings(audit)] == ["own"]
    assert (draws.rule, draws.more, tf32.rule, tf32.more) == ("other-draws-on-cuda", 0, "tf32-on-cuda", 3)
    assert [(message, len(findings)) for message, findings in tf32.said] == [("conv", 1), ("mm", 9), ("other 0", 1)]


@pytest.mark.parametrize("name", ["terminal", "markdown"])
def test_a_forecast_is_short_and_separate_from_the_findings(name: str) -> None:
    def report(audit: Audit) -> str:
        out = io.StringIO()
        plugins.reports()[name].render(audit, out)
        return out.getvalue()

    audit = on_a_gpu()
    short = report(audit)
    assert short.index("cudnn-benchmark") < short.index("CUDA forecast") < short.index("timed-choice-on-cuda")
    assert "and 1 more place" in short
    audit.findings += [forecast_finding(line, "aten.mm: in TF32", count=100) for line in range(100, 900)]
    assert len(report(audit)) < len(short) + 300
    audit.findings = seen_findings(audit)
    assert "CUDA forecast" not in report(audit)


def test_a_forecast_does_not_change_the_verdict() -> None:
    out = io.StringIO()
    audit = on_a_gpu()
    audit.findings = [finding for finding in audit.findings if finding.forecast]
    plugins.reports()["terminal"].render(audit, out)
    assert ", but " not in out.getvalue()
    assert re.search(r"\d (error|warning|note)", out.getvalue()) is None
