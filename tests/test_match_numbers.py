"""Pairs of programs that show why the matching needs a tuned number: without it the answer would be another one (bench/matching.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from auditor.matching import MatchResult, matched
from auditor.matching.factor import Context, meaning_of
from auditor.report.words.reasons import meaning_of as meaning_text
from tests.series import Program
from tests.test_match import assert_agrees, holds, moved, numbers, origins, pair_of, paired, program_of, scores_of


def match(a: Program, b: Program) -> MatchResult:
    return matched(a.series(), b.series())


def test_a_rate_that_is_computed_in_another_way_and_read_behind_its_change_is_the_same() -> None:
    p, q = Program(), Program()
    w, v, running = np.ones(6), np.ones(6, np.float32), 0.1
    for k, slope in enumerate(numbers(0, 6, many=20)):
        w = p.let("w", w - 0.1 * 0.9**k * slope * w)
        p.let("lr", 0.1 * 0.9**k)
        v = q.let("w", (v - np.float32(running) * slope.astype(np.float32) * v).astype(np.float32))
        running *= 0.9
        q.let("lr", running)
        for program in (p, q):
            program.tick()

    found = match(p, q)

    holds(pair_of(found, "lr").relation, "lag")
    assert_agrees(found)


def test_first_updates_of_adam_have_few_sizes_but_for_epsilon_and_are_no_permutation_of_each_other() -> None:
    x, y = numbers(0, 5), [2 * one + 0.1 for one in numbers(0, 5)]
    slopes = np.random.default_rng(3).permutation(np.repeat([-1.0, 1.0], 8)) * np.abs(np.random.default_rng(4).standard_normal(16))
    other = np.random.default_rng(5).permutation(slopes)
    first = [-0.1 * one / (np.abs(one) + 1e-8) for one in (slopes, other)]

    found = match(program_of(x=x, b=[first[0]]), program_of(x=y, b=[first[1]]))

    assert origins(found) == ["x"], "a permutation of its own would be an origin of its own"


@pytest.mark.parametrize("fill", [-1e9, -1e4])
def test_a_mask_that_is_added_to_the_scores_is_the_same_as_one_that_replaces_them(fill: float) -> None:
    assert_agrees(match(scores_of(fill), scores_of(fill, added=True, dtype=np.float32)))


@pytest.mark.parametrize(("ours", "theirs"), [(-1.0, -10.0), (1.0, 0.9)])
def test_a_penalty_and_a_smoothed_label_are_no_masks(ours: float, theirs: float) -> None:
    programs = []
    for value in (ours, theirs):
        p = Program()
        for k in range(4):
            p.let("target", np.where(np.arange(8) % 4 <= k % 2, value, 0.0))
            p.let("x", numbers(k, 8, many=1)[0])
            p.tick()
        programs.append(p)

    assert origins(match(*programs)) == ["target"]


def test_a_loss_under_another_name_is_found_though_it_differs_later() -> None:
    values = [float(one[0]) for one in numbers(5, 1, many=20)]
    late = [one * (1 if k < 12 else 2) for k, one in enumerate(values)]

    found = match(program_of(loss=values, x=numbers(1, 4)), program_of(objective=late, x=numbers(1, 4)))

    assert paired(found)["loss"] == "objective"
    assert origins(found) == ["loss"]


def test_a_fault_in_a_rate_that_has_become_small_is_not_held_against_its_first_size() -> None:
    rates = [0.5**k for k in range(40)]
    faulty = [np.float32(rate * (1.5 if k >= 34 else 1)) for k, rate in enumerate(rates)]

    found = match(program_of(rate=[np.float64(rate / 3) for rate in rates]), program_of(rate=[rate / np.float32(3) for rate in faulty]))

    assert origins(found) == ["rate"]
    first = pair_of(found, "rate").first
    assert first is not None
    assert first.step == 34


def test_a_factor_of_small_updates_is_seen_behind_the_errors_of_long_sums() -> None:
    p, q = Program(), Program()
    batch = np.random.default_rng(0).standard_normal((200, 784))
    for program, dtype, factor in ((p, np.float64, 1.0), (q, np.float32, 2.0)):
        program.let("x", batch.astype(dtype))
        w = program.let("w", numbers(1, 6, 6, many=1)[0].astype(dtype))
        for slope in numbers(2, 6, 6, many=8):
            w = program.let("w", (w - dtype(factor * 6e-5) * slope.astype(dtype)).astype(dtype))
            program.tick()

    found = match(p, q)

    assert origins(found) == ["w"]
    holds(pair_of(found, "w").update, "factor", pytest.approx(2, rel=0.05))
    first = pair_of(found, "w").first
    assert first is not None
    assert first.step == 0


def chaotic(dtype: Any) -> Program:
    """A map that doubles each error at each step, and which of its values are the larger half."""
    p = Program()
    x = np.random.default_rng(0).uniform(0.1, 0.9, 64).astype(dtype)
    for _ in range(80):
        x = p.let("x", dtype(3.99) * x * (1 - x))
        p.let("high", x > dtype(0.5))
        p.tick()
    return p


def test_when_two_runs_have_nothing_left_in_common_their_decisions_have_not_either() -> None:
    assert_agrees(match(chaotic(np.float64), chaotic(np.float32)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_same_numbers_in_half_precision_are_found_under_another_name(dtype: Any) -> None:
    values = numbers(0, 6, 4)
    found = match(program_of(ours=values), program_of(theirs=[one.astype(dtype) for one in values], unrelated=numbers(1, 6, 4)))
    assert paired(found) == {"ours": "theirs"}
    assert_agrees(found)


@pytest.mark.parametrize(("more", "answer"), [(1, "agree"), (9, "differ")])
def test_an_accuracy_in_percent_may_be_off_by_one_of_the_batch(more: int, answer: str) -> None:
    p, q = Program(), Program()
    for k, x in enumerate(numbers(0, 64, 3, many=6)):
        for program, dtype, extra in ((p, np.float64, 0), (q, np.float32, more if k == 3 else 0)):
            program.let("x", x.astype(dtype))
            program.let("accuracy", 100.0 * ((30, 33, 29, 35, 34, 38)[k] + extra) / 64)
            program.tick()

    assert match(p, q).answer == answer


def test_a_factor_of_the_updates_is_said_with_the_rate_that_differs() -> None:
    p = program_of(lr=[0.1] * 6, w=moved(0))
    q = program_of(lr=[0.37] * 6, w=moved(0, faulty=3.7))

    found = match(p, q)

    assert origins(found) == ["lr"]
    holds(pair_of(found, "w").update, "factor", pytest.approx(3.7, rel=1e-3), says=["`lr` is 0.1 in the first and 0.37 in the second"])


@pytest.mark.parametrize(
    ("factor", "sizes", "precision", "says"),
    [
        (1.5, [3], 1e-7, ""), (5 / 4, [5], 1e-7, "unbiased"), (5001 / 5000, [5001], 1e-6, ""), (1.995, [199], 1e-3, "half"),
        (1.93, [193], 0.02, ""),
    ],
)  # fmt: skip
def test_a_factor_that_can_be_anything_is_not_read(factor: float, sizes: list[int], precision: float, says: str) -> None:
    said = meaning_text(meaning_of(factor, Context([(size, f"{size} rows") for size in sizes]), precision))
    assert says in said
    assert says or not said, said
