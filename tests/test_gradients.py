"""Gradients: the leaf and the name of each, and whether a backward pass adds to a gradient that was already used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from auditor import plugins
from auditor.judge import judge
from auditor.results import Finding
from auditor.trace.reader import Trace, opened
from auditor.trace.tables import Tables
from tests.findings import shipped
from tests.processes import line_of, made_once, record_of, write


def gradients(trace: Trace) -> list[dict[str, Any]]:
    """Each write or accumulation of a leaf's gradient."""
    with Tables(trace) as tables:
        return tables.query('SELECT * FROM gradients ORDER BY lane, "row"')


def findings(trace: Trace, *rules: str) -> list[Finding]:
    """What these rules find in a run."""
    with Tables(trace) as tables:
        return judge([tables], [shipped(rule) for rule in rules], plugins.detectors())


@pytest.mark.torch
def test_a_leaf_has_the_name_that_the_script_gives_it(tmp_path: Path) -> None:
    source = """
        import torch
        from torch import nn

        class Holder:
            def __init__(self):
                self.scale = torch.ones(3, requires_grad=True)
                self.net = nn.Linear(3, 3, bias=False)

        plain = torch.ones(3, requires_grad=True)
        some = [torch.ones(3, requires_grad=True), None]
        named = {"shift": torch.ones(3, requires_grad=True)}
        holder = Holder()
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, bias=False))

        def train():
            local = torch.ones(3, requires_grad=True)
            x = model(holder.net(plain * some[0] + named["shift"] * holder.scale)) * local
            x.sum().backward()  # backward

        train()
        """
    trace = record_of(tmp_path, "train", source)
    found = gradients(trace)
    names = {row["leaf"] for row in found}
    local = "local" if sys.version_info >= (3, 12) else "a tensor of shape [3]"
    assert names == {
        "plain",
        "some[0]",
        "named['shift']",
        "holder.scale",
        "holder.net.weight",
        "model.0.weight",
        "model.0.bias",
        "model.1.weight",
        local,
    }
    assert {row["line"] for row in found} == {line_of(source, "# backward")}
    assert {row["before"] for row in found} == {None}


@pytest.mark.torch
def test_parameters_held_only_by_a_library_are_named_after_their_module(tmp_path: Path) -> None:
    source = """
        import torch

        def made():
            net = torch.nn.Sequential(torch.nn.Linear(3, 1))
            return lambda x: net(x)

        def loss_of(f):
            return f(torch.ones(2, 3)).sum()

        loss_of(made()).backward()
        """
    names = {row["leaf"] for row in gradients(record_of(tmp_path, "train", source))}
    assert names == {"Sequential.0.weight", "Sequential.0.bias"}


@pytest.mark.torch
def test_inputs_created_in_every_step_share_a_name_and_are_not_searched_forever(tmp_path: Path) -> None:
    source = """
        import torch

        for step in range(600):
            x = torch.ones(2, requires_grad=True)
            x.sum().backward()
        """
    found = [row["leaf"] for row in gradients(record_of(tmp_path, "train", source))]
    assert len(set(found)) == 2
    assert found[0] == "x"
    assert found.index("a tensor of shape [2]") == len(found) * 500 // 600


LOOP = """
    import torch

    torch.manual_seed(0)
    x = torch.randn(8, 4)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.{optimizer}
    for step in range(4):
        {before}
        for part in x.split({size}):
            model(part).square().mean().backward()  # backward
        {between}
        optimizer.step()
        {after}
    """


#: Variants of a loop, and whether a gradient in it is stale.
CHANGED: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"before": "optimizer.zero_grad()"}, False),
    ({"before": "optimizer.zero_grad(set_to_none=False)"}, False),
    ({"after": "model.zero_grad()"}, False),
    ({"before": "optimizer.zero_grad()", "size": 2}, False),
    ({"size": 2}, True),
    ({"between": "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)"}, True),
    ({"before": "optimizer.zero_grad()", "between": "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)", "size": 2}, False),
    ({"optimizer": "AdamW(model.parameters(), foreach=True)"}, True),
    ({"optimizer": "AdamW(model.parameters(), foreach=True)", "before": "optimizer.zero_grad()"}, False),
    ({"optimizer": "SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1, foreach=True)"}, True),
    ({"after": "if step % 2: optimizer.zero_grad()"}, True),
    ({"before": "model.weight.grad = None", "after": "model.bias.grad = torch.zeros(1)"}, False),
]


def changed(changes: dict[str, Any]) -> str:
    """The loop with these changes."""
    how = {"optimizer": "Adam(model.parameters(), lr=0.1)", "size": 8, "before": "pass", "between": "pass", "after": "pass"} | changes
    return LOOP.format(**how)


@pytest.fixture(scope="session")
def in_loops(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """The findings in one run of all of them, each in a module of its own."""

    def make(folder: Path) -> str:
        write(folder, **{f"loop_{k}": changed(changes) for k, (changes, _) in enumerate(CHANGED)})
        return record_of(folder, "train", "\n".join(f"import loop_{k}" for k in range(len(CHANGED)))).path.name

    folder, run = made_once(tmp_path_factory, "loops", make)
    return findings(opened(folder / run), "stale-gradient", "unused-gradients", "untrained-parameter")


@pytest.mark.torch
@pytest.mark.parametrize("loop", range(len(CHANGED)), ids=[str(changes) for changes, _ in CHANGED])
def test_a_gradient_is_stale_if_it_is_used_then_added_to_and_used_again(loop: int, in_loops: list[Finding]) -> None:
    changes, stale = CHANGED[loop]
    assert {finding.file for finding in in_loops} <= {f"loop_{k}.py" for k in range(len(CHANGED))}
    found = [finding for finding in in_loops if finding.file == f"loop_{loop}.py"]
    assert [finding.rule for finding in found] == (["stale-gradient"] if stale else [])
    for finding in found:
        assert finding.line == line_of(changed(changes), "# backward")
        assert "model.weight and model.bias" in finding.message or "model.bias and model.weight" in finding.message


@pytest.mark.torch
def test_the_tensor_forgotten_when_zeroing_is_named_with_the_zeroed_ones(tmp_path: Path) -> None:
    source = """
        import torch

        torch.manual_seed(0)
        w1, b1, w2 = (torch.randn(shape, requires_grad=True) for shape in ((4, 3), (3,), (3, 1)))
        x = torch.randn(8, 4)
        for step in range(3):
            (torch.sigmoid(x @ w1 + b1) @ w2).square().mean().backward()  # backward
            with torch.no_grad():
                for w in (w1, b1, w2):
                    w -= 0.1 * w.grad  # update
            w1.grad = w2.grad = None
        """
    (finding,) = findings(record_of(tmp_path, "train", source), "stale-gradient")
    assert finding.line == line_of(source, "# backward")
    assert f"the gradient of b1, which the update in train.py:{line_of(source, '# update')} already used" in finding.message
    assert finding.message.endswith("w1 and w2 are zeroed")
    assert finding.count == 2


@pytest.mark.torch
@pytest.mark.programs
def test_gradient_rules_find_nothing_in_a_run_without_gradients(tmp_path: Path) -> None:
    trace = record_of(tmp_path, "train", "import torch\ntorch.ones(3).sum()\n")
    assert findings(trace, "stale-gradient", "unused-gradients", "untrained-parameter") == []
