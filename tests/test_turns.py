"""Which updates form one step, for common training loops: real frames of real loops, with a call as an update."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable

import pytest

from auditor.record.places import Places
from auditor.trace.turns import Place, Turns

Update = Callable[[], None]


class Optimizers:
    """Makes objects whose call is an update."""

    def __init__(self) -> None:
        numbers = itertools.count(1)
        self.turns = Turns()
        self.places = Places(lambda _table, _entry: next(numbers))
        self.made = 0

    def new(self) -> Update:
        self.made += 1
        number, updates = self.made, self.turns.updates

        def update() -> None:
            self.turns.add(number, updates, self.places.of(sys._getframe(1))[1])

        return update


def alone(o: Optimizers) -> None:
    update = o.new()
    for _ in range(4):
        update()


def unrolled(o: Optimizers) -> None:
    update = o.new()
    update()
    update()
    update()


def a_gan(o: Optimizers) -> None:
    d, g = o.new(), o.new()
    for _ in range(6):
        d(), d(), g()  # on real images, on false ones


def critic_in_a_loop(o: Optimizers) -> None:
    d, g = o.new(), o.new()
    for _ in range(4):
        for _ in range(5):
            d()
        g()


def critic_behind_the_generator(o: Optimizers) -> None:
    d, g = o.new(), o.new()
    k = 0
    while k < 4:
        g()
        for _ in range(3):
            d()
        k += 1


def critic_that_is_trained_longer_at_first(o: Optimizers) -> None:
    d, g = o.new(), o.new()
    for k in range(8):
        for _ in range(10 if k < 2 else 3):
            d()
        g()


def generator_at_every_fifth_turn(o: Optimizers) -> None:
    d, g = o.new(), o.new()
    for k in range(10):
        d()
        if k % 5 == 4:
            g()


def one_at_even_turns_the_other_at_odd(o: Optimizers) -> None:
    a, b = o.new(), o.new()
    for k in range(10):
        if k % 2:
            b()
        else:
            a()


def actor_and_critic_in_loops_of_their_own(o: Optimizers) -> None:
    actor, critic = o.new(), o.new()
    for _ in range(3):
        for _ in range(8):
            actor()
        for _ in range(6):
            critic()


def in_functions(o: Optimizers) -> None:
    d, g = o.new(), o.new()

    def step() -> None:
        d()
        g()

    def epoch() -> None:
        for _ in range(3):
            step()

    for _ in range(2):
        epoch()


def a_list_of_them(o: Optimizers) -> None:
    for _ in range(5):
        if not o.made:
            made = [o.new(), o.new()]
        for update in made:
            update()


def called(update: Update) -> None:
    update()


def one_for_each_parameter(o: Optimizers) -> None:
    made = [o.new() for _ in range(4)]
    for k in range(5):
        list(map(called, made[k % 2 :]))


def made_anew_in_each_turn(o: Optimizers) -> None:
    for _ in range(5):
        a, b = o.new(), o.new()
        a(), b()


def one_made_anew_in_each_fold(o: Optimizers) -> None:
    for _ in range(3):
        update = o.new()
        for _ in range(4):
            update()


def another_from_the_fifth_turn_on(o: Optimizers) -> None:
    update = o.new()
    for k in range(8):
        if k == 5:
            update = o.new()
        update()


def phases_one_after_another(o: Optimizers) -> None:
    a, b = o.new(), o.new()
    for _ in range(7):
        a()
    for _ in range(5):
        b()


def phases_in_one_loop(o: Optimizers) -> None:
    a, b = o.new(), o.new()
    for k in range(10):
        if k < 6:
            a()
        else:
            b()


def phases_of_epochs(o: Optimizers) -> None:
    a, b = o.new(), o.new()
    for epoch in range(4):
        if epoch < 2:
            for _ in range(5):
                a()
        else:
            for _ in range(5):
                b()


def both_after_one_alone(o: Optimizers) -> None:
    for _ in range(2):  # as for each seed
        d = o.new()
        for _ in range(4):
            d()
        g = o.new()
        for _ in range(5):
            d(), g()


def begins_late(o: Optimizers) -> None:
    d, g = o.new(), o.new()
    for k in range(10):
        d()
        if k >= 6:
            g()


def begins_late_behind_a_loop(o: Optimizers) -> None:
    d, g = o.new(), o.new()
    for k in range(10):
        for _ in range(3):
            d()
        if k >= 6:
            g()


def never_updates(o: Optimizers) -> None:
    a, _ = o.new(), o.new()
    for _ in range(2):
        for _ in range(3):
            a()


def two_loops_in_an_epoch(o: Optimizers) -> None:
    update = o.new()
    for _ in range(2):
        for _ in range(3):
            update()
        for _ in range(2):
            update()


def a_third_at_the_end_of_each_epoch(o: Optimizers) -> None:
    a, b, c = o.new(), o.new(), o.new()
    for _ in range(3):
        for _ in range(4):
            a(), b()
        c()


def one_turn(o: Optimizers) -> None:
    d, g = o.new(), o.new()
    for _ in range(1):
        for _ in range(5):
            d()
        g()


@pytest.mark.parametrize(
    ("program", "steps"),
    [
        (alone, 4), (unrolled, 3), (a_gan, 6), (critic_in_a_loop, 4), (critic_behind_the_generator, 4),
        (critic_that_is_trained_longer_at_first, 8), (generator_at_every_fifth_turn, 10), (one_at_even_turns_the_other_at_odd, 5),
        (actor_and_critic_in_loops_of_their_own, 3), (in_functions, 6), (a_list_of_them, 5), (one_for_each_parameter, 5),
        (made_anew_in_each_turn, 5), (one_made_anew_in_each_fold, 12), (another_from_the_fifth_turn_on, 8), (phases_one_after_another, 12),
        (phases_in_one_loop, 10), (phases_of_epochs, 20), (both_after_one_alone, 18), (begins_late, 10), (begins_late_behind_a_loop, 10),
        (never_updates, 6), (two_loops_in_an_epoch, 10), (a_third_at_the_end_of_each_epoch, 12), (one_turn, 1),
    ],
)  # fmt: skip
def test_a_step_is_one_iteration_of_the_training_loop(program: Callable[[Optimizers], None], steps: int) -> None:
    optimizers = Optimizers()
    program(optimizers)
    numbers = optimizers.turns.numbers()

    assert len(numbers) == optimizers.turns.updates
    assert sorted(set(numbers)) == list(range(steps))
    assert numbers == sorted(numbers)


def test_a_long_series_of_one_optimizer_is_a_phase_and_not_one_iteration() -> None:
    optimizers = Optimizers()
    a, b = optimizers.new(), optimizers.new()
    for _ in range(2):
        for _ in range(300):
            a()
        for _ in range(300):
            b()

    assert len(set(optimizers.turns.numbers())) == 1200


def test_counting_while_a_script_runs_takes_little_memory_and_matches_the_end() -> None:
    turns, optimizers = Turns(kept=10), Optimizers()
    place = {"frames": [[0, 4]], "loops": [[0, 2]]}
    for k in range(100):
        turns.add(1 + k % 2, 0, Place.of(place))
        optimizers.turns.add(1 + k % 2, 0, Place.of(place))

    assert turns.count == 50
    assert turns.is_complete(False)
    assert len(turns._history) == 10
    assert optimizers.turns.numbers() == [k // 2 for k in range(100)]
