"""Draws and seeds: torch's, Python's and NumPy's streams, shared ones and the script's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.recordings import Recorded, Row, record

pytestmark = pytest.mark.torch


def draws(recorded: Recorded, mark: str) -> list[Row]:
    """Draws of the marked line."""
    return recorded.at(mark, "draw")


def drawn(recorded: Recorded, mark: str) -> tuple[str, str]:
    """Stream and function of the first draw of the marked line."""
    row = draws(recorded, mark)[0]
    return row.stream, row.op


def seeds(recorded: Recorded, mark: str) -> list[dict[str, Any]]:
    """Seeds of the marked line."""
    return [e for e in recorded.events("seed") if (e["file"], e["line"]) == ("train.py", recorded.line(mark))]


def test_a_random_torch_op_is_preceded_by_its_draw_with_stream_and_state(tmp_path: Path) -> None:
    source = """
        import torch
        import torch.nn.functional as F

        torch.manual_seed(11)  # seed
        x = torch.rand(2)  # rand
        x = torch.randperm(4)  # permutation
        x = F.dropout(torch.ones(4))  # dropout
        x = F.dropout(torch.ones(4), training=False)  # no dropout
        x = torch.empty(3).uniform_(0, 2)  # in place
        x = torch.ones(3).multinomial(1)  # multinomial
        x = torch.nn.Linear(2, 2)  # init
        x = torch.ones(3).exp()  # no draw
        torch.manual_seed(11)  # seed again
        x = torch.rand(2)  # rand again
        x = torch.rand(0)  # nothing
        torch.manual_seed(seed=12)  # another seed
        x = torch.rand(2)  # rand after another

        own = torch.Generator()
        own.manual_seed(11)  # own seed
        x = torch.rand(2, generator=own)  # own
        x = torch.rand(2)  # shared after own
        own.seed()  # own entropy
        x = torch.randn(2, generator=own)  # own after entropy
        torch.seed()  # entropy
        state = torch.get_rng_state()
        torch.set_rng_state(state)  # as it was
        torch.rand(1)
        torch.set_rng_state(state)  # restored
        with torch.random.fork_rng():
            torch.manual_seed(1)
        torch.initial_seed()
        """
    recorded = record(tmp_path, source)

    for mark, op in {
        "rand": "rand.default", "permutation": "randperm.default", "in place": "uniform_.default", "multinomial": "multinomial.default",
        "rand again": "rand.default",
    }.items():  # fmt: skip
        (draw,) = draws(recorded, mark)
        row = recorded.op(mark, op)
        assert (draw.stream, draw.op, draw.row) == ("torch-cpu", row.op, row.row - 1)
        assert draw.index == row.index  # a draw takes no op number
    assert len(draws(recorded, "init")) == 2
    assert len(draws(recorded, "dropout")) == 1
    assert draws(recorded, "no dropout") == draws(recorded, "no draw") == []

    states = {mark: draws(recorded, mark)[0].digest for mark in ("rand", "permutation", "rand again", "rand after another", "own")}
    assert states["rand"] == states["rand again"] == states["own"]  # two generators with one seed
    assert len(set(states.values())) == 3
    assert recorded.op("rand").digest == recorded.op("rand again").digest
    assert draws(recorded, "own")[0].stream == "torch-own"
    assert draws(recorded, "shared after own")[0].stream == "torch-cpu"
    assert draws(recorded, "own after entropy")[0].digest != states["own"]

    def said(mark: str) -> list[tuple[str, str | None, bool]]:
        return [(e["stream"], e["value"], e["entropy"]) for e in seeds(recorded, mark)]

    assert said("seed") == said("seed again") == [("torch-cpu", "11", False)]
    assert said("another seed") == [("torch-cpu", "12", False)]
    assert said("own seed") == [("torch-own", "11", False)]
    for mark, stream in (("own entropy", "torch-own"), ("entropy", "torch-cpu")):
        ((found, value, entropy),) = said(mark)
        assert (found, entropy) == (stream, True)
        assert int(value or 0) > 0
    assert said("restored") == [("torch-cpu", None, False)]
    assert [e["state"] for e in seeds(recorded, "seed")] == [states["rand"]]
    assert [e["row"] for e in seeds(recorded, "seed")] == [draws(recorded, "rand")[0].row]


def test_draws_and_seeds_of_pythons_random_are_recorded_under_any_alias(tmp_path: Path) -> None:
    source = """
        import random
        from random import random as bare, shuffle, seed
        import secrets, tempfile, uuid

        import torch
        from torch.distributed.elastic.rendezvous.utils import _delay as wait_for_ranks

        def op():
            torch.ones(1)

        bare()  # by a name of its own
        op()
        random.random()  # by its own name
        op()
        random.seed(3)  # seed
        bare()  # after the seed
        op()
        shuffle([1, 2, 3])  # shuffle
        op()
        seed("text")  # a text
        random.getrandbits(3)  # bits
        op()
        random.seed()  # entropy
        random.gauss(0, 1)  # gauss
        state = random.getstate()
        random.setstate(state)  # as it was
        random.random()
        random.setstate(state)  # restored
        own = random.Random(4)
        own.randint(1, 5)  # own
        op()
        other = random.Random(4)
        other.randint(1, 5)  # own with the same seed
        op()
        tempfile.mkdtemp(), uuid.uuid4(), secrets.token_hex(), secrets.randbelow(3)  # the library's own affair
        wait_for_ranks((0.0, 0.001))  # a launcher's affair
        seed(3), bare()  # the first seed again
        op()
        bare()  # one later
        """
    recorded = record(tmp_path, source)

    assert [drawn(recorded, m) for m in ("by a name of its own", "by its own name", "after the seed", "one later")] == [
        ("python", "random.random")
    ] * 4
    assert drawn(recorded, "shuffle") == ("python", "random.shuffle")
    assert drawn(recorded, "bits") == ("python", "random.getrandbits")
    assert drawn(recorded, "gauss") == ("python", "random.gauss")
    assert drawn(recorded, "own") == drawn(recorded, "own with the same seed") == ("python-own", "random.randint")
    assert all(len(draws(recorded, m)) == 1 for m in ("own", "shuffle", "bits"))  # not also the parts that it is made of
    assert draws(recorded, "the library's own affair") == draws(recorded, "a launcher's affair") == []

    def state(mark: str) -> int:
        return draws(recorded, mark)[0].digest

    assert state("own") == state("own with the same seed")
    assert state("after the seed") == state("the first seed again") != state("one later")
    assert len({state(m) for m in ("by a name of its own", "by its own name", "after the seed", "shuffle", "bits", "gauss")}) == 6

    def said(mark: str) -> list[tuple[str, str | None, bool]]:
        return [(e["stream"], e["value"], e["entropy"]) for e in seeds(recorded, mark)]

    assert said("seed") == said("the first seed again") == [("python", "3", False)]
    assert said("a text") == [("python", "'text'", False)]
    assert [(e["stream"], e["entropy"]) for e in seeds(recorded, "entropy")] == [("python", True)]
    assert seeds(recorded, "as it was") == []
    assert [(e["function"], e["value"]) for e in seeds(recorded, "restored")] == [("random.setstate", None)]
    assert seeds(recorded, "seed")[0]["state"] == state("after the seed")
    assert len(recorded.events("seed")) == 5


def test_draws_and_seeds_of_numpys_global_and_own_generators_are_recorded(tmp_path: Path) -> None:
    source = """
        import numpy as np
        from numpy.random import default_rng, rand, seed
        import torch

        def op():
            torch.ones(1)

        np.random.rand(2)  # global
        op()
        rand(2)  # by name
        op()
        seed(3)  # seed
        np.random.shuffle([1, 2])  # shuffle
        op()
        np.random.seed()  # entropy
        np.random.normal()  # normal
        state = np.random.get_state()
        np.random.set_state(state)  # as it was
        np.random.rand()
        np.random.set_state(state)  # restored
        a = default_rng(5)  # made
        a.normal(size=3)  # own normal
        op()
        b = np.random.default_rng(np.random.SeedSequence(5))  # made of a sequence
        b.normal(size=3)  # own with the same seed
        op()
        c = np.random.default_rng()  # made of entropy
        c.integers(3)  # own of entropy
        op()
        d = np.random.Generator(np.random.PCG64(5))
        d.permutation(4)  # own permutation
        op()
        e = np.random.RandomState(9)
        e.randn(2)  # own state
        op()
        f = np.random.RandomState(9)
        f.randn(2)  # own state again
        op()
        g = a.spawn(1)[0]
        g.random()  # spawned
        op()
        np.random.seed(3), np.random.shuffle([1, 2])  # seed again
        np.arange(3).mean()  # no draw
        """
    recorded = record(tmp_path, source)

    for mark in ("global", "by name", "shuffle", "normal"):
        assert drawn(recorded, mark)[0] == "numpy"
    for mark in (
        "own normal", "own with the same seed", "own of entropy", "own permutation", "own state", "own state again", "spawned",
    ):  # fmt: skip
        assert drawn(recorded, mark)[0] == "numpy-own"
    assert drawn(recorded, "own normal")[1] == "numpy.normal"
    assert drawn(recorded, "shuffle")[1] == "numpy.shuffle"
    assert draws(recorded, "no draw") == draws(recorded, "made") == draws(recorded, "restored") == []

    def state(mark: str) -> int:
        return draws(recorded, mark)[0].digest

    assert state("own normal") == state("own with the same seed") == state("own permutation")
    assert state("own state") == state("own state again")
    assert state("shuffle") == state("seed again")
    marks = ("global", "by name", "shuffle", "normal", "own normal", "own of entropy", "own state", "spawned")
    assert len({state(m) for m in marks}) == len(marks)

    def said(mark: str) -> list[tuple[str, str | None, bool]]:
        return [(e["stream"], e["value"], e["entropy"]) for e in seeds(recorded, mark)]

    assert said("seed") == said("seed again") == [("numpy", "3", False)]
    assert said("entropy") == [("numpy", None, True)]
    assert said("made") == [("numpy-own", "5", False)]
    assert said("made of entropy") == [("numpy-own", None, True)]
    (sequence,) = seeds(recorded, "made of a sequence")
    assert "entropy=5" in sequence["value"]
    assert [e["state"] for m in ("made", "made of a sequence") for e in seeds(recorded, m)] == [state("own normal")] * 2
    assert seeds(recorded, "as it was") == []
    assert [(e["function"], e["value"]) for e in seeds(recorded, "restored")] == [("numpy.set_state", None)]


def test_a_draw_after_a_new_seed_or_from_another_generator_is_recorded_again(tmp_path: Path) -> None:
    source = """
        import random
        import numpy as np
        import torch

        random.random()  # python before
        random.seed(3)
        random.random()  # python after
        torch.ones(1)
        np.random.rand()  # numpy before
        np.random.seed(3)
        np.random.rand()  # numpy after
        torch.ones(1)
        a, b = np.random.default_rng(5), np.random.default_rng(6)
        a.normal()  # one
        b.normal()  # another
        """
    recorded = record(tmp_path, source)

    for before, after in (("python before", "python after"), ("numpy before", "numpy after"), ("one", "another")):
        first, second = draws(recorded, before), draws(recorded, after)
        assert [r.digest for r in first] != [r.digest for r in second]
        assert first
        assert second


def test_the_operating_systems_generator_works_as_without_the_recorder(tmp_path: Path) -> None:
    source = """
        import random, secrets
        import torch

        torch.ones(1)
        print(0 <= random.SystemRandom().randint(0, 9) < 10, 0 <= random.SystemRandom().random() < 1)
        print(secrets.SystemRandom().choice([3]), secrets.choice([4]))
        """
    recorded = record(tmp_path, source)

    assert recorded.out == ["True True", "3 4"]


def test_a_seed_object_is_recorded_without_its_address(tmp_path: Path) -> None:
    source = """
        import numpy as np
        import torch

        torch.ones(1)
        a = np.random.default_rng(np.random.PCG64(1))  # a bit generator
        b = np.random.default_rng(a)  # a generator
        """
    recorded = record(tmp_path, source)

    for mark in ("a bit generator", "a generator"):
        (seed,) = seeds(recorded, mark)
        assert "0x" not in str(seed["value"])


def test_draws_by_one_function_are_recorded_once_per_calling_line(tmp_path: Path) -> None:
    source = """
        import random
        import torch
        for _ in range(50):
            name = random.random()  # first
            number = random.random()  # second
        torch.ones(1) * number
        """
    recorded = record(tmp_path, source)
    assert (len(draws(recorded, "first")), len(draws(recorded, "second"))) == (1, 1)
