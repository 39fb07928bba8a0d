"""The search for causes in small simulated scripts: which factors matter, where, and which are suspected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.experiment import (
    LUCK,
    Search,
    Seen,
    Trial,
    Wanted,
    chance_of_luck,
    runs_needed,
    search,
    search_varied,
    wilson,
)

FACTORS = ["torch-seed", "numpy-seed", "python-seed", "hash-seed", "clock", "process-id", "os-entropy", "file-order", "threads", "cpu-isa"]


@dataclass
class World:
    """A simulated script. `leaks`: for each op of the main lane that may differ, sets of factors; pinning one set suffices."""

    leaks: dict[int, list[set[str]]]
    suspects: dict[int, tuple[str, ...]] = field(default_factory=dict)
    unbearable: set[str] = field(default_factory=set)
    never: int | None = None
    """An op that differs whatever is held."""
    blames: bool = False
    """Whether a run that fails shows with which factor."""

    def seen(self, held: frozenset[str] | set[str]) -> Seen | None:
        """The first difference with these factors pinned."""
        at = [index for index, ways in self.leaks.items() if not any(way <= held for way in ways)]
        at += [] if self.never is None else [self.never]
        return self._at(min(at)) if at else None

    def varied(self, names: frozenset[str]) -> Seen | None:
        """The first difference from the control with these factors varied."""
        at = [index for index, ways in self.leaks.items() if any(way & names for way in ways)]
        return self._at(min(at)) if at else None

    def _at(self, index: int) -> Seen:
        return Seen("main", {"main": index}, f"line {index}", self.suspects.get(index, ()))


def finish(world: World, step: Callable[[list[Trial]], Search], most: int = 60) -> tuple[Search, list[Wanted]]:
    """Make the runs that a search asks for until it is over."""
    trials: list[Trial] = []
    asked: list[Wanted] = []
    while True:
        state = step(trials)
        if state.wanted is None:
            return state, asked
        asked.append(state.wanted)
        assert len(asked) < most
        names = state.wanted.factors
        failed = bool(names & world.unbearable)
        seen = world.varied(names) if state.wanted.purpose == "varies" else world.seen(names)
        blamed = tuple(sorted(names & world.unbearable)) if world.blames else ()
        trials.append(Trial(names, state.wanted.purpose, seen, failed, (f"run-{len(trials)}",), blamed))


def held(world: World, last: tuple[str, ...] = ("threads", "cpu-isa")) -> tuple[Search, list[Wanted]]:
    """Search for the causes that make the controls of this world differ."""
    first = world.seen(frozenset())
    assert first is not None
    return finish(world, lambda trials: search(FACTORS, first, trials, last))


def factors_of(state: Search) -> list[str]:
    return [found.factor for found in state.found]


def test_a_correct_suspicion_takes_one_trial_and_its_converse() -> None:
    state, asked = held(World({7: [{"hash-seed"}]}, {7: ("hash-seed", "file-order")}))

    assert factors_of(state) == ["hash-seed"]
    assert [(wanted.purpose, set(wanted.factors)) for wanted in asked] == [
        ("holds", {"hash-seed"}),
        ("returns", set(FACTORS) - {"hash-seed", "threads", "cpu-isa"}),
    ]
    assert state.found[0].returned is not None
    assert state.unexplained is None


def test_a_wrong_suspicion_is_dropped_and_the_factor_is_still_found() -> None:
    state, asked = held(World({7: [{"clock"}]}, {7: ("hash-seed", "file-order")}))

    assert factors_of(state) == ["clock"]
    assert state.found[0].returned is not None
    assert len(asked) <= 9


def test_a_factor_shared_by_runs_on_one_machine_is_pinned_only_as_a_last_resort() -> None:
    state, asked = held(World({7: [{"threads"}]}))

    assert factors_of(state) == ["threads"]
    assert not asked[0].factors & {"threads", "cpu-isa"}


def test_independent_causes_are_found_one_after_another_each_with_its_difference() -> None:
    world = World({3: [{"torch-seed"}], 9: [{"numpy-seed"}], 20: [{"hash-seed"}]}, {3: ("torch-seed",), 9: ("python-seed", "numpy-seed")})

    state, _ = held(world)

    assert [(found.factor, found.seen.places["main"]) for found in state.found] == [("torch-seed", 3), ("numpy-seed", 9), ("hash-seed", 20)]
    assert all(found.returned is not None and not found.beside for found in state.found)
    assert [found.held.factors for found in state.found[:2]] == [{"torch-seed"}, {"torch-seed", "numpy-seed"}]


def test_two_factors_that_are_needed_together_are_both_found() -> None:
    state, _ = held(World({7: [{"clock", "process-id"}]}))

    assert set(factors_of(state)) == {"clock", "process-id"}
    assert all(found.returned is not None for found in state.found)


def test_a_factor_is_freed_together_with_another_of_the_same_effect() -> None:
    state, _ = held(World({7: [{"torch-seed"}, {"numpy-seed"}]}, {7: ("torch-seed", "numpy-seed")}))

    (found,) = state.found
    assert (found.factor, found.beside) == ("torch-seed", ("numpy-seed",))
    assert found.returned is not None
    assert not found.returned.factors & {"torch-seed", "numpy-seed"}


def test_a_factor_is_freed_together_with_those_that_also_pin_it() -> None:
    world = World({7: [{"hash-seed"}, {"clock"}]}, {7: ("hash-seed",)})
    first = world.seen(frozenset())
    assert first is not None

    state, asked = finish(world, lambda trials: search(FACTORS, first, trials, also_pins={"clock": ("hash-seed",)}))

    assert asked[-1].factors == set(FACTORS) - {"hash-seed", "clock"}
    assert state.found[0].returned is not None


def test_a_factor_with_an_unsuspected_equivalent_is_found_without_a_converse() -> None:
    state, _ = held(World({7: [{"torch-seed"}, {"clock"}]}, {7: ("torch-seed",)}))

    (found,) = state.found
    assert (found.factor, found.returned) == ("torch-seed", None)


def test_a_difference_that_no_factor_removes_is_reported() -> None:
    state, asked = held(World({}, {5: ("clock",)}, never=5))

    assert state.found == ()
    assert state.unexplained is not None
    assert state.unexplained.places == {"main": 5}
    assert asked[-1].factors == set(FACTORS)


def test_causes_found_before_an_unexplained_difference_are_kept() -> None:
    state, _ = held(World({2: [{"torch-seed"}]}, {2: ("torch-seed",)}, never=5))

    assert factors_of(state) == ["torch-seed"]
    assert state.unexplained is not None
    assert state.unexplained.places == {"main": 5}


def test_a_factor_that_breaks_the_script_is_set_aside() -> None:
    state, _ = held(World({7: [{"os-entropy"}]}, {7: ("clock",)}, unbearable={"clock", "file-order"}))

    assert set(state.aside) == {"clock", "file-order"}
    assert factors_of(state) == ["os-entropy"]
    assert state.found[0].returned is not None


@pytest.mark.parametrize("blames", [False, True])
def test_factors_that_break_the_script_are_set_aside_in_the_converse_too(blames: bool) -> None:
    world = World({7: [{"hash-seed"}]}, {7: ("hash-seed",)}, unbearable={"clock", "file-order"}, blames=blames)

    state, asked = held(world)

    assert set(state.aside) == {"clock", "file-order"}
    assert state.found[0].returned is not None
    assert not state.found[0].returned.factors & {"clock", "file-order", "hash-seed"}
    assert (sum(wanted.purpose == "fails" for wanted in asked) == 2) is blames


def test_a_wrongly_blamed_factor_is_not_set_aside() -> None:
    first = Seen("main", {"main": 7}, "line 7", ("hash-seed",))
    held_still = Trial(frozenset({"hash-seed"}), "holds", None)
    rest = frozenset(FACTORS) - {"hash-seed"}
    failed = Trial(rest, "returns", None, failed=True, blamed=("clock",))
    alone = Trial(frozenset({"clock"}), "fails", None)

    state = search(FACTORS, first, [held_still, failed, alone])

    assert state.aside == ()
    assert state.wanted is not None
    assert state.wanted.purpose == "fails"
    assert len(state.wanted.factors) > 1


def test_another_origin_at_the_same_op_is_another_difference() -> None:
    def seen(origin: str, *suspects: str) -> Seen:
        return Seen("main", {"main": 4}, origin, suspects)

    first = seen("python", "python-seed")
    behind = Trial(frozenset({"python-seed"}), "holds", seen("numpy", "numpy-seed"))

    wanted = search(FACTORS, first, [behind]).wanted

    assert wanted is not None
    assert wanted.factors == {"python-seed", "numpy-seed"}


def test_a_difference_that_only_moved_still_counts() -> None:
    first = Seen("main", {"main": 4}, "train.py:39", ("clock",))
    moved = Trial(frozenset({"clock"}), "holds", Seen("main", {"main": 9}, "train.py:39", ("clock",)))

    state = search(FACTORS, first, [moved])

    assert state.found == ()
    assert state.wanted is not None
    assert state.wanted.factors == set(FACTORS)


def test_a_difference_in_another_lane_is_another_difference() -> None:
    first = Seen("worker 0", {"worker 0": 4, "main": 9}, "numpy", ("worker-seed",))
    behind = Trial(frozenset({"worker-seed"}), "holds", Seen("main", {"main": 9}, "torch", ("torch-seed",)))

    wanted = search([*FACTORS, "worker-seed"], first, [behind]).wanted

    assert wanted is not None
    assert wanted.factors == {"worker-seed", "torch-seed"}


def test_a_varied_run_that_agrees_ends_the_search() -> None:
    state, asked = finish(World({}), lambda trials: search_varied(FACTORS, trials))

    assert len(asked) == 1
    assert state.found == ()


def test_a_varied_factor_is_found_alone_and_confirmed_by_varying_all_others() -> None:
    world = World({7: [{"threads"}]}, {7: ("threads", "cpu-isa")})

    state, asked = finish(world, lambda trials: search_varied(FACTORS, trials))

    assert factors_of(state) == ["threads"]
    assert [wanted.factors for wanted in asked] == [set(FACTORS), {"threads"}, set(FACTORS) - {"threads"}]
    assert state.found[0].returned is not None
    assert state.found[0].returned.seen is None


def test_a_factor_whose_variation_breaks_the_script_is_set_aside() -> None:
    world = World({7: [{"hash-seed"}]}, {7: ("hash-seed",)}, unbearable={"clock"})

    state, _ = finish(world, lambda trials: search_varied(FACTORS, trials))

    assert (factors_of(state), state.aside) == (["hash-seed"], ("clock",))


@pytest.mark.parametrize("others", [{}, {30: [{"hash-seed"}]}])
def test_intermittent_differences_are_not_blamed_on_varied_factors(others: dict[int, list[set[str]]]) -> None:
    memory = "uninitialized-memory"
    world = World({7: [{memory}], **others}, {7: (memory,), 30: ("hash-seed",)})

    def varied(trials: list[Trial]) -> Search:
        by_chance = [replace(trial, seen=world.varied(trial.factors | {memory})) for trial in trials]
        return search_varied([*FACTORS, memory], by_chance, [memory])

    state, asked = finish(world, varied)

    assert factors_of(state) == [memory]
    assert [wanted.factors for wanted in asked] == [{*FACTORS, memory}, {memory}, set(FACTORS)]
    assert state.unexplained is not None, "a later difference cannot be seen while this one exists"


def test_if_only_chance_makes_a_difference_nothing_is_found() -> None:
    by_chance = Seen("main", {"main": 3}, "line 3", ("thread-timing",))

    state = search_varied(FACTORS, [Trial(frozenset(FACTORS), "varies", by_chance)], ["thread-timing"])

    assert (state.wanted, state.found, state.unexplained) == (None, (), by_chance)


def test_several_varied_factors_are_all_found() -> None:
    world = World({7: [{"threads"}], 2: [{"cpu-isa"}], 30: [{"hash-seed"}]}, {7: ("threads", "cpu-isa"), 2: ("cpu-isa",)})

    state, _ = finish(world, lambda trials: search_varied(FACTORS, trials))

    assert set(factors_of(state)) == {"threads", "cpu-isa", "hash-seed"}


@given(
    leaks=st.dictionaries(st.integers(0, 50), st.sampled_from(FACTORS).map(lambda name: [{name}]), min_size=1, max_size=3),
    suspects=st.dictionaries(st.integers(0, 50), st.lists(st.sampled_from(FACTORS), max_size=3, unique=True).map(tuple)),
)
def test_exactly_the_factors_that_matter_are_found_whatever_is_suspected(
    leaks: dict[int, list[set[str]]], suspects: dict[int, tuple[str, ...]]
) -> None:
    state, _ = held(World(leaks, suspects))

    assert set(factors_of(state)) == set.union(*(way for ways in leaks.values() for way in ways))
    assert all(found.returned is not None for found in state.found)
    assert state.unexplained is None


@given(st.sets(st.sampled_from(FACTORS), min_size=1, max_size=4), st.lists(st.sampled_from(FACTORS), max_size=2, unique=True))
def test_no_factor_of_a_minimal_set_is_left_out(needed: set[str], suspects: list[str]) -> None:
    state, _ = held(World({7: [needed]}, {7: tuple(suspects)}))

    assert set(factors_of(state)) == needed


def test_a_rate_has_its_wilson_interval() -> None:
    assert wilson(2, 9) == pytest.approx((0.0632, 0.5474), abs=1e-3)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_chance_of_accidental_agreement_matches_counting() -> None:
    # one of one other run differed: the prior of the rate is uniform on [0, 1], so the posterior is 2p, and the mean of 1 - p is 1/3
    assert chance_of_luck(1, 1, 1) == pytest.approx(1 / 3)
    assert chance_of_luck(0, 3, 1) == pytest.approx(4 / 5)


@given(st.integers(1, 20), st.integers(0, 20))
def test_rarer_faults_need_more_runs_and_that_number_suffices(apart: int, agreeing: int) -> None:
    needed = runs_needed(apart, apart + agreeing)

    assert chance_of_luck(apart, apart + agreeing, needed - 1) <= LUCK
    assert needed == 2 or chance_of_luck(apart, apart + agreeing, needed - 2) > LUCK
    assert runs_needed(apart, apart + agreeing + 5) >= needed
