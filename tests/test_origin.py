"""The line that introduces a random difference, for hand-written runs of scripts given as text: `# <- enters` marks the true line."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from auditor import plugins
from auditor.compare import compare
from auditor.diagnose import entered_at
from auditor.report.words.reasons import sentence_of
from auditor.results import Divergence
from auditor.source import Flow
from tests.builder import LaneBuilder, TraceBuilder

#: Observable events of a script: the marked lines in order, and what each does. `draw STREAM`: unseeded; `seeded STREAM`: in the same state
#: in both runs; `seed STREAM`: with different values; `other`: its tensor differs; `one` and `two`: only that run does it.
VARIANTS = {
    "a seed that is drawn": """
        import random, torch
        name = random.random()  # draw python
        number = random.randint(1, 9999)  # draw python <- enters
        torch.manual_seed(number)  # seed torch-cpu
        x = torch.rand(3)  # drawn torch-cpu
    """,
    "a seed that is drawn in a function and given elsewhere": """
        import random, numpy as np, torch
        def seed_of(args):
            return args.seed or random.getrandbits(16)  # draw python <- enters
        def prepare(seed):
            np.random.seed(seed)  # seed numpy
        prepare(seed_of(args))
        x = torch.tensor(np.random.rand(3))  # draw numpy other
    """,
    "a seed of a generator of its own": """
        import numpy as np, torch
        root = np.random.rand()  # draw numpy <- enters
        rng = np.random.default_rng(int(root * 1e6))  # seed numpy-own
        x = torch.tensor(rng.normal(size=3))  # draw numpy-own other
    """,
    "a seed that is drawn by a seed that is drawn": """
        import random, numpy as np, torch
        first = random.random()  # draw python <- enters
        np.random.seed(int(first * 100))  # seed numpy
        second = np.random.randint(100)  # draw numpy
        torch.manual_seed(second)  # seed torch-cpu
        x = torch.rand(3)  # drawn torch-cpu
    """,
    "a branch that leaves its function": """
        import random, numpy as np, torch
        def choose():
            if random.random() < 0.5:  # draw python <- enters
                return torch.tensor(np.random.normal(size=2))  # seeded numpy one
            return w.detach() + 1  # two
        x = choose()
    """,
    "a branch around a call": """
        import random, numpy as np, torch
        other = np.random.rand()  # draw numpy
        flip = random.random()  # draw python <- enters
        noise = np.random.rand()  # draw numpy
        def train():
            return torch.ones(3) * 2  # other
        if flip < 0.5:
            x = train()
    """,
    "an earlier draw that goes nowhere": """
        import random, torch
        print(random.random())  # draw python
        x = torch.tensor([random.random() for _ in range(3)])  # draw python other <- enters
    """,
    "a later draw of another stream that goes nowhere": """
        import random, numpy as np, torch
        weights = [random.random() for _ in range(3)]  # draw python <- enters
        print(np.random.rand())  # draw numpy
        x = torch.tensor(weights)  # other
    """,
    "a shuffle in place": """
        import random, numpy as np, torch
        rows = list(range(9))
        random.shuffle(rows)  # draw python <- enters
        label = np.random.rand()  # draw numpy
        x = torch.tensor(rows)  # other
    """,
    "a function that shuffles what it is given": """
        import numpy as np, random, torch
        def mix(rows):
            np.random.shuffle(rows)  # draw numpy <- enters
        rows = np.arange(9)
        mix(rows)
        print(random.random())  # draw python
        x = torch.from_numpy(rows)  # other
    """,
    "a loop that is left by chance": """
        import random, numpy as np, torch
        n = 0
        while True:
            n += 1
            if random.random() < 0.1:  # draw python <- enters
                break
        print(np.random.rand())  # draw numpy
        x = torch.ones(n)  # other
    """,
    "an attribute that a class draws": """
        import random, numpy as np, torch
        class Data:
            def __init__(self):
                self.scale = random.uniform(1, 2)  # draw python <- enters
            def __getitem__(self, k):
                return k * self.scale
        data = Data()
        print(np.random.rand())  # draw numpy
        x = torch.tensor([data[k] for k in range(3)])  # other
    """,
    "a seed from elsewhere, with a draw beside it that goes nowhere": """
        import os, random, numpy as np, torch
        print(random.random())  # draw python
        np.random.seed(os.getpid())  # seed numpy <- enters
        x = torch.tensor(np.random.rand(3))  # draw numpy other
    """,
    "a number of draws that a draw decides": """
        import random, numpy as np, torch
        np.random.seed(0)
        if random.random() < 0.5:  # draw python <- enters
            np.random.rand()  # seeded numpy one
        x = torch.tensor(np.random.rand(3))  # seeded numpy other
    """,
}  # fmt: skip
_WORDS = re.compile(r"(drawn|draw|seeded|seed) ([\w-]+)|(other|one|two)\b")


def _run(path: Path, text: str, which: int) -> TraceBuilder:
    run = TraceBuilder(path)
    lane = run.lane()
    word = f"run {which}"
    times: dict[str, int] = {}
    lane.op("aten.ones.default", line=1)
    for line, code in enumerate(text.splitlines(), 1):
        said = code.partition("#")[2]
        alone = {"one": 1, "two": 2}
        if any(name in said.split() and number != which for name, number in alone.items()):
            continue
        for how, stream, tensor in _WORDS.findall(said):
            _do(lane, how, stream, tensor, word, line, times)
    lane.op("aten.relu.default", line=len(text.splitlines()))
    return run


def _do(lane: LaneBuilder, how: str, stream: str, tensor: str, word: str, line: int, times: dict[str, int]) -> None:
    if how == "seed":
        lane.seed(stream, word, function=f"{stream}.seed", state=word, line=line)
    elif how == "drawn":
        lane.random("aten.rand.default", state=word, line=line)
    elif how in ("draw", "seeded"):
        times[stream] = times.get(stream, 0) + 1
        lane.draw(stream, f"{stream}.draw", f"{word if how == 'draw' else ''} {times[stream]}", line=line)
    elif tensor == "two":
        lane.op("aten.add.Tensor", line=line)
    else:
        lane.external(digest=word, line=line)


def _found(tmp_path: Path, text: str) -> tuple[Divergence, Flow]:
    flow = Flow(lambda file: text if file == "train.py" else "")
    a, b = (_run(tmp_path / name, text, which).sealed() for which, name in ((1, "a"), (2, "b")))
    found, mirrored = compare(a, b, flow=flow).divergence, compare(b, a, flow=flow).divergence
    assert found is not None
    assert mirrored is not None
    assert (found.line, found.op) == (mirrored.line, mirrored.op)
    return found, flow


@pytest.mark.parametrize("variant", VARIANTS)
def test_randomness_originates_at_the_marked_line(variant: str, tmp_path: Path) -> None:
    text = dedent(VARIANTS[variant]).strip()
    enters = next(k for k, line in enumerate(text.splitlines(), 1) if "<- enters" in line)
    found, _ = _found(tmp_path, text)
    assert found.line == enters
    assert found.kind == "draw"


def test_two_streams_that_feed_one_tensor_each_have_their_own_line(tmp_path: Path) -> None:
    text = dedent("""
        import random, numpy as np, torch
        print(random.random())  # draw python
        a = random.random()  # draw python
        b = np.random.rand()  # draw numpy
        x = torch.tensor([a, b])  # other
    """).strip()
    found, _ = _found(tmp_path, text)
    lines = {
        factor: entered_at(plugins.factors(), factor, found, [], lambda _file: text)[0].line for factor in ("python-seed", "numpy-seed")
    }
    assert lines == {"python-seed": 3, "numpy-seed": 4}


def test_a_stream_that_only_one_run_drew_from_does_not_differ(tmp_path: Path) -> None:
    found, _ = _found(tmp_path, dedent(VARIANTS["a branch that leaves its function"]).strip())
    assert [stream.name for stream in found.detail.streams] == ["python"]


def test_a_value_made_from_a_draw_is_reported_with_its_line(tmp_path: Path) -> None:
    found, _ = _found(tmp_path, dedent(VARIANTS["a seed that is drawn"]).strip())
    assert "a seed of torch-cpu is computed from it at train.py:4" in sentence_of(found.reasons)


def test_a_draw_in_another_file_is_followed_through_its_function(tmp_path: Path) -> None:
    texts = {
        "train.py": "import helper, torch\nx = torch.tensor(helper.pick(3))\n",
        "helper.py": "def pick(n):\n    return random.random()\n",
    }
    flow = Flow(lambda file: texts.get(file, ""))
    assert flow.distance("helper.py", 2, "pick", "train.py", 2) == 0
    assert flow.distance("helper.py", 2, "name", "train.py", 2) is None
    assert flow.distance("helper.py", 2, "<module>", "train.py", 2) is None
