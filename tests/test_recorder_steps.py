"""Phase and step of each recorded op in different styles of training loops; and the levels of recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.trace.reader import opened
from tests.processes import made_once
from tests.recordings import Recorded, record

pytestmark = pytest.mark.torch


def places(recorded: Recorded, mark: str, name: str = "") -> list[tuple[int, str]]:
    """Step and phase of each op of the marked line, with repeats removed."""
    found: list[tuple[int, str]] = []
    for row in recorded.at(mark):
        if (not name or row.op == f"aten.{name}") and found[-1:] != [(row.step, row.phase)]:
            found.append((row.step, row.phase))
    return found


def test_a_plain_loop_has_all_four_phases_in_each_step(tmp_path: Path) -> None:
    source = """
        import torch
        from torch import nn

        torch.manual_seed(0)
        data = torch.randn(4, 3)  # data
        model = nn.Linear(3, 2)  # model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        early = data.exp()  # no graph
        for step in range(3):
            batch = data + step  # batch
            loss = model(batch).square().sum()  # forward
            optimizer.zero_grad()
            loss.backward()  # backward
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # clip
            optimizer.step()  # update
            scheduler.step()
            print(loss.item())  # said
            with torch.no_grad():
                model(data).mean()  # evaluation
            try:
                model(data.sin() @ data)  # fails
            except RuntimeError:
                data.cos()  # afterwards
        data.tan()  # end
        """
    recorded = record(tmp_path, source)

    assert places(recorded, "data") == places(recorded, "model") == places(recorded, "no graph") == [(0, "setup")]
    assert places(recorded, "batch") == [(0, "forward"), (1, "forward"), (2, "forward")]
    assert places(recorded, "forward") == [(k, "forward") for k in range(3)]
    assert [p for p in places(recorded, "backward") if p[1] == "backward"] == [(k, "backward") for k in range(3)]
    assert places(recorded, "backward", "mm.default") == [(k, "backward") for k in range(3)]
    assert places(recorded, "clip") == [(k, "forward") for k in range(3)]
    assert places(recorded, "update") == [(k, "optimizer") for k in range(3)]
    for mark in ("said", "evaluation", "fails", "afterwards"):
        assert places(recorded, mark) == [(k + 1, "forward") for k in range(3)]
    assert places(recorded, "end") == [(3, "forward")]
    assert [e["step"] for e in recorded.events("step")] == [0, 1, 2]
    assert recorded.main.steps == 3

    steps = recorded.events("step")
    assert [repr(e["loss"]) for e in steps] == recorded.out
    assert {e["optimizer"] for e in steps} == {"SGD"}
    for name in ("parameters", "gradients", "loss_digest"):
        assert len({e[name] for e in steps}) == 3
    assert len({e["state"] for e in steps}) == 1  # plain SGD has none
    updates = recorded.at("update")
    for e in steps:
        assert e["row"] == max(r.row for r in updates if r.step == e["step"]) + 1


def test_every_op_of_an_optimizer_step_is_in_its_phase_in_every_implementation(tmp_path: Path) -> None:
    source = """
        import torch

        torch.manual_seed(0)
        for how in ({"foreach": True}, {"foreach": False}, {"fused": True}):
            parameters = [torch.nn.Parameter(torch.ones(k + 2)) for k in range(3)]
            optimizer = torch.optim.AdamW(parameters, lr=0.01, **how)
            for step in range(2):
                optimizer.zero_grad()
                sum(p.square().sum() for p in parameters).backward()  # backward
                optimizer.step()  # update
                print([round(p.sum().item(), 6) for p in parameters])  # between
        """
    recorded = record(tmp_path, source)

    assert places(recorded, "update") == [(k, "optimizer") for k in range(6)]
    assert [r for r in recorded.rows() if r.phase == "optimizer" and r.line != recorded.line("update")] == []
    assert places(recorded, "between") == [(k, "forward") for k in range(1, 7)]
    assert places(recorded, "backward", "mul.Tensor") == [(k, "backward") for k in range(6)]
    names = [{r.op for r in recorded.at("update") if r.step // 2 == k} for k in range(3)]
    assert "aten._foreach_addcdiv_.ScalarList" in names[0]
    assert "aten.addcdiv_.default" in names[1]
    assert not any("foreach" in name for name in names[1])
    assert "aten._fused_adamw_.default" in names[2]
    states = [e["state"] for e in recorded.events("step")]
    assert len({states[0], states[1]}) == 2
    assert recorded.out[:2] == recorded.out[2:4]


def test_forward_and_backward_inside_a_closure_are_distinguished_from_the_optimizer(tmp_path: Path) -> None:
    source = """
        import torch

        torch.manual_seed(0)
        w = torch.nn.Parameter(torch.ones(3))

        def closure():
            optimizer.zero_grad()
            loss = w.exp().sum()  # forward
            loss.backward()  # backward
            return loss

        optimizer = torch.optim.LBFGS([w], max_iter=3)
        for step in range(2):
            optimizer.step(closure)  # with a closure
            w.detach().sin()  # between
        optimizer = torch.optim.SGD([w], lr=0.1)
        optimizer.step(closure)  # an ordinary one
        optimizer.step(closure=closure)  # by keyword
        optimizer.step()  # without
        """
    recorded = record(tmp_path, source)

    assert recorded.main.steps == 5
    forward = recorded.at("forward")
    assert {r.phase for r in forward} == {"forward"}
    assert len([r for r in forward if r.op == "aten.exp.default" and r.step == 0]) > 1  # LBFGS calls it more than once
    assert {r.step for r in forward} == {0, 1, 2, 3}
    assert {r.phase for r in recorded.at("backward") if r.op == "aten.mul.Tensor"} == {"backward"}
    assert places(recorded, "backward", "mul.Tensor") == [(k, "backward") for k in range(4)]
    assert places(recorded, "with a closure") == [(0, "optimizer"), (1, "optimizer")]
    assert "aten.dot.default" in {r.op for r in recorded.at("with a closure")}
    assert places(recorded, "between") == [(1, "forward"), (2, "forward")]
    assert places(recorded, "an ordinary one") == [(2, "optimizer")]
    assert places(recorded, "by keyword") == [(3, "optimizer")]
    assert places(recorded, "without") == [(4, "optimizer")]
    assert recorded.names("an ordinary one") == recorded.names("by keyword") == recorded.names("without") == ["add_.Tensor"]


def test_two_optimizers_in_one_iteration_are_one_step_and_accumulation_is_none(tmp_path: Path) -> None:
    source = """
        import torch

        torch.manual_seed(0)
        g, d = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
        g_optimizer = torch.optim.SGD(g.parameters(), lr=0.1)
        d_optimizer = torch.optim.Adam(d.parameters(), lr=0.1, foreach=False)
        held_out = torch.randn(4, 2)  # set aside

        def batch():
            return torch.randn(4, 2)  # a batch

        def trained(k):
            x = batch()
            d_optimizer.zero_grad()
            d(g(x).detach()).sum().backward()  # discriminator
            d_optimizer.step()  # its update
            g_optimizer.zero_grad()
            for part in x.split(2):
                d(g(part)).square().mean().backward()  # a part
            g_optimizer.step()  # the update of the generator

        for step in range(3):
            trained(step)
        """
    recorded = record(tmp_path, source)

    assert [(e["step"], e["optimizer"]) for e in recorded.events("step")] == [(k, name) for k in range(3) for name in ("Adam", "SGD")]
    assert recorded.main.steps == 3
    assert places(recorded, "set aside") == [(0, "setup")]
    assert places(recorded, "a batch") == [(k, "forward") for k in range(3)]
    assert [p for p in places(recorded, "discriminator") if p[1] == "backward"] == [(k, "backward") for k in range(3)]
    assert places(recorded, "its update") == [(k, "optimizer") for k in range(3)]
    parts = places(recorded, "a part")
    assert parts == [(k, phase) for k in range(3) for _ in range(2) for phase in ("forward", "backward")]
    assert places(recorded, "the update of the generator") == [(k, "optimizer") for k in range(3)]


def test_steps_are_counted_the_same_with_many_scaled_or_no_optimizers(tmp_path: Path) -> None:
    source = """
        import sys
        import threading

        import torch

        def scaled():
            p = torch.nn.Parameter(torch.ones(2))
            optimizer, scaler = torch.optim.SGD([p], lr=0.1), torch.amp.GradScaler("cpu")
            for k in range(6):
                optimizer.zero_grad()
                scaler.scale(p.square().sum() * (float("inf") if k in (1, 4) else 1)).backward()
                scaler.step(optimizer)
                scaler.update()

        def in_backward():
            parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
            optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in parameters}
            for p in parameters:
                p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step())
            for _ in range(4):
                sum(p.square().sum() for p in parameters).backward()

        def critic():
            d, g = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
            of_d, of_g = torch.optim.SGD([d], lr=0.1), torch.optim.Adam([g], lr=0.1)
            for _ in range(5):
                for _ in range(3):
                    of_d.zero_grad()
                    d.square().sum().backward()
                    of_d.step()
                of_g.zero_grad()
                g.square().sum().backward()
                of_g.step()

        if len(sys.argv) == 1:
            for work in (scaled, in_backward, critic):
                thread = threading.Thread(target=work)
                thread.start()
                thread.join()
        else:
            critic()
        """
    recorded = record(tmp_path, source)
    lanes = recorded.trace.lanes
    assert [lanes[f"thread {k}"].steps for k in (1, 2, 3)] == [6, 4, 5]
    skipped = [e for e in lanes["thread 1"].events_of("step") if "parameters" not in e]
    assert [e["step"] for e in skipped] == [1, 4]

    for steps in (1, 3):
        folder = tmp_path / str(steps)
        folder.mkdir()
        cut = record(folder, source.replace("len(sys.argv) == 1", "False"), "--steps", str(steps))
        assert cut.main.steps == steps
        assert [e["step"] for e in cut.events("step")] == [k for k in range(steps) for _ in range(4)]


def test_each_autograd_grad_is_a_step_if_weights_are_updated_by_hand(tmp_path: Path) -> None:
    source = """
        import torch

        w = torch.ones(3, requires_grad=True)
        for step in range(3):
            loss = (w * w).sum()  # forward
            (g,) = torch.autograd.grad(loss, w)
            with torch.no_grad():
                w -= 0.1 * g  # update
        """
    recorded = record(tmp_path, source)

    assert recorded.main.steps == 3
    assert places(recorded, "forward") == places(recorded, "update") == [(k, "forward") for k in range(3)]


def test_without_an_optimizer_backward_and_the_following_update_are_one_step(tmp_path: Path) -> None:
    source = """
        import torch

        torch.manual_seed(0)
        w = torch.ones(3, requires_grad=True)
        for step in range(3):
            loss = (w * w).sum()  # forward
            loss.backward()  # backward
            with torch.no_grad():
                w -= 0.1 * w.grad  # update
                w.grad.zero_()  # zeroed
        y = (w * 2).square().sum()  # for a gradient
        (g,) = torch.autograd.grad(y, w, create_graph=True)  # first
        z = g.square().sum()  # of the gradient
        z.backward()  # second
        (w * 1).neg()  # end
        """
    recorded = record(tmp_path, source)

    assert places(recorded, "forward") == [(k, "forward") for k in range(3)]
    assert places(recorded, "backward", "mul.Tensor") == [(k, "backward") for k in range(3)]
    assert places(recorded, "update") == places(recorded, "zeroed") == [(k, "forward") for k in range(3)]
    assert places(recorded, "for a gradient") == [(3, "forward")]
    assert places(recorded, "first", "pow.Tensor_Scalar") == [(3, "backward")]
    assert places(recorded, "of the gradient") == [(3, "forward")]
    assert (3, "backward") in places(recorded, "second")
    assert places(recorded, "end") == [(4, "forward")]
    assert recorded.main.steps == 4
    assert [e["step"] for e in recorded.events("step")] == [0, 1, 2, 3]
    assert "optimizer" not in recorded.events("step")[0]
    assert "parameters" not in recorded.events("step")[0]

    lines = {r.forward_line for r in recorded.at("second") if r.forward_line is not None and r.phase == "backward"}
    assert lines - {recorded.line("first")} == {recorded.line("of the gradient"), recorded.line("for a gradient")}
    first = {r.forward_line for r in recorded.at("first") if r.phase == "backward" and r.forward_line is not None}
    assert first == {recorded.line("for a gradient")}


def test_a_node_made_in_a_backward_pass_does_not_belong_to_a_later_forward_op(tmp_path: Path) -> None:
    source = """
        import torch
        from torch.utils.checkpoint import checkpoint

        w = torch.ones(3, requires_grad=True)
        y = (w * 2).square().sum()  # forward
        (g,) = torch.autograd.grad(y, w, create_graph=True)  # first
        with torch.no_grad():
            w.neg()  # unrelated
        g.square().sum().backward()  # second
        z = checkpoint(lambda v: v.sin().exp(), w, use_reentrant=True)  # recomputed
        z.sum().backward()  # recomputes
        w.cos()  # unrelated as well
        """
    recorded = record(tmp_path, source)

    lines = {r.forward_line for mark in ("second", "recomputes") for r in recorded.at(mark) if r.phase == "backward"}
    assert recorded.line("forward") in lines
    assert recorded.line("unrelated") not in lines
    assert recorded.line("unrelated as well") not in lines


def test_the_last_backward_without_an_optimizer_is_a_step_too(tmp_path: Path) -> None:
    source = """
        import torch

        w = torch.ones(3, requires_grad=True)
        for step in range(3):
            loss = (w * w).sum()
            loss.backward()
            with torch.no_grad():
                w -= 0.1 * w.grad
            print(loss.item())
        """
    recorded = record(tmp_path, source)

    assert [repr(e["loss"]) for e in recorded.events("step")] == recorded.out
    assert recorded.main.steps == 3


def test_a_caught_error_in_a_backward_pass_keeps_the_phases_correct(tmp_path: Path) -> None:
    source = """
        import torch

        torch.manual_seed(0)
        w = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.SGD([w], lr=0.1)

        class Fails(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, grad):
                grad.sin()  # before the error
                raise ValueError("no")

        w.exp().sum().backward()
        optimizer.step()  # step 0
        try:
            Fails.apply(w.exp()).sum().backward()
        except ValueError:
            w.detach().cos()  # after it
        optimizer.zero_grad()
        w.exp().sum().backward()  # again
        optimizer.step()  # step 1
        w.detach().ceil()  # end
        """
    recorded = record(tmp_path, source)

    assert places(recorded, "step 0") == [(0, "optimizer")]
    assert places(recorded, "before the error") == [(1, "backward")]
    assert places(recorded, "after it") == [(1, "forward")]
    assert [p for p in places(recorded, "again") if p[1] == "backward"] == [(1, "backward")]
    assert places(recorded, "step 1") == [(1, "optimizer")]
    assert places(recorded, "end") == [(2, "forward")]
    assert recorded.main.steps == 2


def test_a_caught_error_in_a_step_keeps_the_phases_correct(tmp_path: Path) -> None:
    source = """
        import torch

        torch.manual_seed(0)
        w = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.SGD([w], lr=0.1)

        def closure():
            raise ValueError("no")

        w.exp().sum().backward()
        try:
            optimizer.step(closure)
        except ValueError:
            w.detach().tan()  # after it
        optimizer.step()  # step 0
        w.detach().ceil()  # end
        """
    recorded = record(tmp_path, source)

    assert places(recorded, "after it") == [(0, "forward")]
    assert places(recorded, "step 0") == [(0, "optimizer")]
    assert places(recorded, "end") == [(1, "forward")]
    assert recorded.main.steps == 1


STEADY = """
    import torch

    torch.manual_seed(0)
    data = torch.randn(4, 3)  # data
    model = torch.nn.Linear(3, 2)  # model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(5):
        loss = model(data).square().sum()  # forward
        optimizer.zero_grad()
        loss.backward()  # backward
        optimizer.step()  # update
    print(model.weight.sum().item())
    """


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The complete run of the steady script."""
    folder, run = made_once(tmp_path_factory, "full", lambda folder: record(folder, STEADY).trace.path.name)
    return Recorded(folder, STEADY, opened(folder / run))


def test_level_steps_records_no_ops_and_a_window_only_those_of_its_steps(full: Recorded, tmp_path: Path) -> None:
    steps = record(tmp_path / "steps", STEADY, "--level", "steps")
    window = record(tmp_path / "window", STEADY, "--window", "1:3")
    first = record(tmp_path / "first", STEADY, "--window", "0:2")

    def seen(recorded: Recorded) -> list[dict[str, object]]:
        names = ("step", "loss", "loss_digest", "parameters", "gradients", "state", "optimizer")
        return [{name: event[name] for name in names} for event in recorded.events("step")]

    assert full.out == steps.out == window.out == first.out
    assert len(seen(full)) == 5
    assert seen(steps) == seen(window) == seen(first) == seen(full)
    assert [r for r in steps.rows() if r.kind != "draw"] == []
    assert [e["stream"] for e in steps.events("seed")] == ["torch-cpu"]
    assert all("rng" in event for event in steps.events("step"))

    def ops(recorded: Recorded, chosen: range) -> list[tuple[str, int, int, str, int | None, str | None, int | None]]:
        rows = [r for r in recorded.rows() if r.kind == "op" and r.step in chosen]
        return [(r.op, r.step, r.digest, r.phase, r.line, r.module, r.forward_line) for r in rows]

    assert {r.step for r in window.rows()} == {1, 2}
    assert ops(window, range(5)) == ops(full, range(1, 3))
    assert [e["level"] for e in window.events("level")] == ["ops", "steps"]
    assert {r.step for r in first.rows()} == {0, 1}
    assert ops(first, range(5)) == ops(full, range(2))
    assert [e["level"] for e in first.events("level")] == ["steps"]
    assert full.events("level") == []


def test_a_changed_level_reaches_other_threads_at_their_next_module(tmp_path: Path) -> None:
    source = """
        import threading
        import torch

        def serve():
            served = torch.nn.Linear(3, 2)
            for _ in range(5):
                turn.wait()
                served(torch.ones(1, 3))  # served
                torch.ones(2) * 2  # behind
                turn.wait()

        turn = threading.Barrier(2)
        thread = threading.Thread(target=serve)
        thread.start()
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(5):
            turn.wait()
            turn.wait()
            model(torch.ones(4, 3)).sum().backward()
            optimizer.step()
        thread.join()
        """
    recorded = record(tmp_path, source, "--window", "1:3")

    lane = recorded.trace.lanes["thread 1"]
    assert [event["level"] for event in lane.events_of("level")] == ["ops", "steps"]
    behind = lane.query("SELECT op, step FROM records WHERE line = ? AND kind = 'op' AND op GLOB 'aten.mul*'", recorded.line("behind"))
    assert len(behind) == 2  # while the main thread is in steps 1 and 2
    served = lane.query("SELECT count(*) AS n FROM records WHERE line = ? AND op GLOB 'aten.addmm*'", recorded.line("served"))
    assert served == [{"n": 2}]


def test_a_mode_below_one_of_the_users_passes_ops_through_at_a_lower_level(tmp_path: Path) -> None:
    source = """
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode

        class Counting(TorchDispatchMode):
            ops = 0

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                Counting.ops += 1
                return func(*args, **(kwargs or {}))

        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with Counting():
            for step in range(5):
                model(torch.ones(4, 3)).sum().backward()
                optimizer.step()
        print(Counting.ops)
        """
    whole = record(tmp_path / "whole", source)
    window = record(tmp_path / "window", source, "--window", "0:2")

    assert window.out == whole.out
    assert {r.step for r in window.rows()} == {0, 1}
    assert {r.step for r in whole.rows()} == {0, 1, 2, 3, 4}
    assert window.main.steps == 5


def test_tensors_made_before_a_window_are_external_in_it(full: Recorded, tmp_path: Path) -> None:
    window = record(tmp_path / "window", STEADY, "--window", "2:3")

    externals = [r for r in window.rows() if r.kind == "external"]
    assert [(r.shape, r.line) for r in externals] == [
        ([2, 3], window.line("forward")), ([2], window.line("forward")), ([4, 3], window.line("forward")),
    ]  # fmt: skip
    made = {r.digest for r in full.rows() if r.line in (full.line("data"), full.line("update"))}
    assert {r.digest for r in externals} <= made
    assert [r.line for r in full.rows() if r.kind == "external"] == []
    assert all(k >= 0 for r in window.rows() for k in r.inputs)


def test_a_script_with_a_step_limit_ends_after_its_steps(tmp_path: Path) -> None:
    recorded = record(tmp_path, STEADY, "--steps", "2")

    assert (recorded.main.steps, recorded.main.facts["stopped"], recorded.main.ended) == (2, "steps", True)
    assert places(recorded, "update") == [(0, "optimizer"), (1, "optimizer")]
    assert recorded.out == []
