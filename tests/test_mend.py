"""Fixes: each change exactly as expected, on scripts in several styles; and none where a few lines cannot help."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor import mend, plugins
from auditor.mend import CHANGES, diff_of, zeroed
from auditor.results import Cause
from tests.processes import bare, environment, start

ROOT = Path(__file__).parent.parent


class Case:
    """A script with `HERE` on the line of the cause, and the hunks of each change; `|` marks the left margin."""

    def __init__(self, name: str, factor: str, source: str, *hunks: str, lane: str = "main", leftover: str | None = None) -> None:
        self.name = name
        self.factor = factor
        self.source = text_of(source, "")
        self.hunks = [text_of(one, " ") for one in hunks]
        self.lane = lane
        self.leftover = leftover

    def mended(self, source: str) -> list[str]:
        return mended(cause_of(self.factor, source), source, lane=self.lane, leftover=self.leftover)


KNOWN = plugins.factors()


def mended(cause: Cause, source: str, lane: str = "main", leftover: str | None = None) -> list[str]:
    """New texts, by the changes that the factor asks for."""
    return mend.mended(cause, source, KNOWN[cause.factor].fixes, lane=lane, leftover=leftover)


def test_every_kind_of_fix_is_used_by_a_factor_and_every_requested_one_exists() -> None:
    assert {name for factor in KNOWN.values() for name in factor.fixes} == set(CHANGES)


def text_of(block: str, empty: str) -> str:
    lines = [line.strip(" ").removeprefix("|") for line in block.split("\n")[1:-1]]
    return "".join(f"{line or empty}\n" for line in lines)


def cause_of(factor: str, source: str, mark: str = "HERE") -> Cause:
    """A cause introduced at the marked line."""
    line = next(number for number, text in enumerate(source.split("\n"), 1) if mark in text)
    return Cause(factor=factor, proved=True, kind="draw", file="train.py", line=line)


def hunks(source: str, text: str) -> str:
    """The diff without its two lines of file names."""
    return diff_of("train.py", source, text).split("\n", 2)[2]


CASES = [
    Case(
        "a seed goes behind the imports",
        "torch-seed",
        '''
        |"""A script."""
        |
        |from __future__ import annotations
        |
        |import torch as t
        |from torch import nn
        |
        |
        |net = nn.Linear(2, 1)  # HERE
        ''',
        """
        |@@ -5,5 +5,7 @@
        | import torch as t
        | from torch import nn
        |
        |+t.manual_seed(0)
        |+
        |
        | net = nn.Linear(2, 1)  # HERE
        """,
    ),
    Case(
        "a seed goes behind imports that follow settings",
        "torch-seed",
        """
        |#!/usr/bin/env python
        |# -*- coding: utf-8 -*-
        |import os
        |os.environ["OMP_NUM_THREADS"] = "1"
        |import torch
        |from torch import (
        |    nn,
        |)  # layers
        |x = torch.rand(3)  # HERE
        """,
        """
        |@@ -6,4 +6,5 @@
        | from torch import (
        |     nn,
        | )  # layers
        |+torch.manual_seed(0)
        | x = torch.rand(3)  # HERE
        """,
    ),
    Case(
        "an import that is missing comes with the seed",
        "torch-seed",
        '''
        |"""Says what it does."""
        |from torch import nn
        |
        |net = nn.Linear(2, 1)  # HERE
        ''',
        '''
        |@@ -1,4 +1,7 @@
        | """Says what it does."""
        | from torch import nn
        |+import torch
        |+
        |+torch.manual_seed(0)
        |
        | net = nn.Linear(2, 1)  # HERE
        ''',
    ),
    Case(
        "a script without a head gets one",
        "python-seed",
        """
        |# a script
        |x = 1
        |def f():
        |    import random
        |    return random.random()  # HERE
        |f()
        """,
        """
        |@@ -1,4 +1,7 @@
        | # a script
        |+import random
        |+
        |+random.seed(0)
        | x = 1
        | def f():
        |     import random
        """,
    ),
    Case(
        "a name that was imported by itself is used",
        "torch-seed",
        """
        |from torch import manual_seed, rand
        |x = rand(3)  # HERE
        """,
        """
        |@@ -1,2 +1,3 @@
        | from torch import manual_seed, rand
        |+manual_seed(0)
        | x = rand(3)  # HERE
        """,
    ),
    Case(
        "semicolons are kept",
        "torch-seed",
        """
        |import torch; x = torch.rand(3)  # HERE
        """,
        """
        |@@ -1 +1 @@
        |-import torch; x = torch.rand(3)  # HERE
        |+import torch; torch.manual_seed(0); x = torch.rand(3)  # HERE
        """,
    ),
    Case(
        "a late seed is moved up",
        "torch-seed",
        """
        |import torch
        |
        |net = torch.nn.Linear(2, 1)  # HERE
        |
        |torch.manual_seed(42)  # as everybody
        |x = torch.rand(2)
        """,
        """
        |@@ -1,6 +1,7 @@
        | import torch
        |+
        |+torch.manual_seed(42)  # as everybody
        |
        | net = torch.nn.Linear(2, 1)  # HERE
        |
        |-torch.manual_seed(42)  # as everybody
        | x = torch.rand(2)
        """,
        """
        |@@ -1,4 +1,6 @@
        | import torch
        |+
        |+torch.manual_seed(0)
        |
        | net = torch.nn.Linear(2, 1)  # HERE
        |
        """,
    ),
    Case(
        "a late seed is moved as far as its names allow",
        "torch-seed",
        """
        |import argparse
        |import torch
        |
        |parser = argparse.ArgumentParser()
        |args = parser.parse_args()
        |net = torch.nn.Linear(2, 1)  # HERE
        |torch.manual_seed(args.seed)
        """,
        """
        |@@ -3,5 +3,5 @@
        |
        | parser = argparse.ArgumentParser()
        | args = parser.parse_args()
        |+torch.manual_seed(args.seed)
        | net = torch.nn.Linear(2, 1)  # HERE
        |-torch.manual_seed(args.seed)
        """,
        """
        |@@ -1,5 +1,7 @@
        | import argparse
        | import torch
        |+
        |+torch.manual_seed(0)
        |
        | parser = argparse.ArgumentParser()
        | args = parser.parse_args()
        """,
    ),
    Case(
        "a seed function of the script is moved up behind it",
        "numpy-seed",
        """
        |import random
        |import numpy as np
        |import torch
        |
        |SEED = 3
        |
        |
        |def seed_all(seed: int) -> None:
        |    random.seed(seed)
        |    np.random.seed(seed)
        |    torch.manual_seed(seed)
        |
        |
        |noise = np.random.rand(3)  # HERE
        |seed_all(SEED)
        """,
        """
        |@@ -11,5 +11,7 @@
        |     torch.manual_seed(seed)
        |
        |
        |+seed_all(SEED)
        |+
        |+
        | noise = np.random.rand(3)  # HERE
        |-seed_all(SEED)
        """,
        """
        |@@ -1,6 +1,8 @@
        | import random
        | import numpy as np
        | import torch
        |+
        |+np.random.seed(0)
        |
        | SEED = 3
        |
        """,
    ),
    Case(
        "a late seed in main is moved above what draws",
        "torch-seed",
        """
        |import torch
        |from lightning import seed_everything
        |
        |class Net(torch.nn.Module):
        |    def __init__(self):
        |        super().__init__()
        |        self.layer = torch.nn.Linear(2, 1)  # HERE
        |
        |def main(args):
        |    print(args)
        |    net = Net()
        |    seed_everything(args.seed)
        |    return net
        |
        |if __name__ == "__main__":
        |    main(parse())
        """,
        """
        |@@ -8,8 +8,8 @@
        |
        | def main(args):
        |     print(args)
        |+    seed_everything(args.seed)
        |     net = Net()
        |-    seed_everything(args.seed)
        |     return net
        |
        | if __name__ == "__main__":
        """,
        """
        |@@ -1,5 +1,7 @@
        | import torch
        | from lightning import seed_everything
        |+
        |+torch.manual_seed(0)
        |
        | class Net(torch.nn.Module):
        |     def __init__(self):
        """,
    ),
    Case(
        "a late seed behind the guard is moved within it",
        "torch-seed",
        """
        |import torch
        |
        |if __name__ == "__main__":
        |    print("go")
        |    net = torch.nn.Linear(2, 1)  # HERE
        |    torch.manual_seed(0)
        """,
        """
        |@@ -2,5 +2,5 @@
        |
        | if __name__ == "__main__":
        |     print("go")
        |+    torch.manual_seed(0)
        |     net = torch.nn.Linear(2, 1)  # HERE
        |-    torch.manual_seed(0)
        """,
        """
        |@@ -1,4 +1,6 @@
        | import torch
        |+
        |+torch.manual_seed(0)
        |
        | if __name__ == "__main__":
        |     print("go")
        """,
    ),
    Case(
        "a generator's own seed",
        "torch-seed",
        """
        |import torch
        |é = "ü"; g = torch.Generator(); g.seed()  # HERE
        |x = torch.rand(3, generator=g)
        """,
        """
        |@@ -1,3 +1,3 @@
        | import torch
        |-é = "ü"; g = torch.Generator(); g.seed()  # HERE
        |+é = "ü"; g = torch.Generator(); g.manual_seed(0)  # HERE
        | x = torch.rand(3, generator=g)
        """,
    ),
    Case(
        "a generator without a seed",
        "torch-seed",
        """
        |import torch
        |g = torch.Generator(  # HERE
        |    device="cpu",
        |)  # x
        """,
        """
        |@@ -1,4 +1,4 @@
        | import torch
        | g = torch.Generator(  # HERE
        |     device="cpu",
        |-)  # x
        |+).manual_seed(0)  # x
        """,
        """
        |@@ -1,4 +1,5 @@
        | import torch
        |+torch.manual_seed(0)
        | g = torch.Generator(  # HERE
        |     device="cpu",
        | )  # x
        """,
    ),
    Case(
        "numpy's generator gets a seed where it is made",
        "numpy-seed",
        """
        |from numpy.random import default_rng as rng, Generator, PCG64
        |a = rng(); b = Generator(PCG64(  # HERE
        |    None,
        |))
        """,
        """
        |@@ -1,4 +1,4 @@
        | from numpy.random import default_rng as rng, Generator, PCG64
        |-a = rng(); b = Generator(PCG64(  # HERE
        |-    None,
        |+a = rng(0); b = Generator(PCG64(  # HERE
        |+    0,
        | ))
        """,
    ),
    Case(
        "a generator that was made above gets a seed",
        "numpy-seed",
        """
        |import numpy as np
        |
        |rng = np.random.default_rng()
        |
        |
        |def noise():
        |    return rng.normal()  # HERE
        """,
        """
        |@@ -1,6 +1,6 @@
        | import numpy as np
        |
        |-rng = np.random.default_rng()
        |+rng = np.random.default_rng(0)
        |
        |
        | def noise():
        """,
        """
        |@@ -1,4 +1,6 @@
        | import numpy as np
        |+
        |+np.random.seed(0)
        |
        | rng = np.random.default_rng()
        |
        """,
        """
        |@@ -1,6 +1,8 @@
        | import numpy as np
        |
        |-rng = np.random.default_rng()
        |+np.random.seed(0)
        |+
        |+rng = np.random.default_rng(0)
        |
        |
        | def noise():
        """,
    ),
    Case(
        "all that a line takes gets a seed",
        "numpy-seed",
        """
        |import numpy as np
        |x = [np.random.rand(3), np.random.RandomState().rand(3)]  # HERE
        """,
        """
        |@@ -1,2 +1,3 @@
        | import numpy as np
        |-x = [np.random.rand(3), np.random.RandomState().rand(3)]  # HERE
        |+np.random.seed(0)
        |+x = [np.random.rand(3), np.random.RandomState(0).rand(3)]  # HERE
        """,
        """
        |@@ -1,2 +1,3 @@
        | import numpy as np
        |+np.random.seed(0)
        | x = [np.random.rand(3), np.random.RandomState().rand(3)]  # HERE
        """,
        """
        |@@ -1,2 +1,2 @@
        | import numpy as np
        |-x = [np.random.rand(3), np.random.RandomState().rand(3)]  # HERE
        |+x = [np.random.rand(3), np.random.RandomState(0).rand(3)]  # HERE
        """,
    ),
    Case(
        "numpy's global stream",
        "numpy-seed",
        """
        |# %%
        |import numpy as np
        |# %% [markdown]
        |# A notebook.
        |# %%
        |x = np.random.rand(3)  # HERE
        """,
        """
        |@@ -1,5 +1,6 @@
        | # %%
        | import numpy as np
        |+np.random.seed(0)
        | # %% [markdown]
        | # A notebook.
        | # %%
        """,
    ),
    Case(
        "python's stream and generators",
        "python-seed",
        """
        |import random
        |
        |random.seed()  # HERE
        """,
        """
        |@@ -1,3 +1,3 @@
        | import random
        |
        |-random.seed()  # HERE
        |+random.seed(0)  # HERE
        """,
    ),
    Case(
        "python's generator",
        "python-seed",
        """
        |from random import Random
        |x = [3, 1]
        |Random().shuffle(x)  # HERE
        """,
        """
        |@@ -1,3 +1,3 @@
        | from random import Random
        | x = [3, 1]
        |-Random().shuffle(x)  # HERE
        |+Random(0).shuffle(x)  # HERE
        """,
    ),
    Case(
        "entropy in a worker comes from the loader's seed",
        "os-entropy",
        """
        |import numpy as np
        |
        |class Noise:
        |	def __getitem__(self, index):
        |		"ä"; return np.random.default_rng().normal()  # HERE
        """,
        """
        |@@ -2,4 +2,4 @@
        |
        | class Noise:
        | 	def __getitem__(self, index):
        |-		"ä"; return np.random.default_rng().normal()  # HERE
        |+		"ä"; return np.random.default_rng(np.random.randint(2**31)).normal()  # HERE
        """,
        lane="worker 1",
    ),
    Case(
        "entropy in the main process",
        "os-entropy",
        """
        |import random
        |rng = random.SystemRandom()
        |def f():
        |    return rng.random()  # HERE
        """,
        """
        |@@ -1,4 +1,4 @@
        | import random
        |-rng = random.SystemRandom()
        |+rng = random.Random(0)
        | def f():
        |     return rng.random()  # HERE
        """,
    ),
    Case(
        "workers get a generator and a function",
        "worker-seed",
        """
        |import numpy as np
        |import torch
        |from torch.utils.data import DataLoader
        |
        |loader = DataLoader(
        |    data,
        |    batch_size=2,
        |    num_workers=(2),  # two
        |    shuffle=True,
        |)
        |for x in loader:  # HERE
        |    pass
        """,
        """
        |@@ -7,6 +7,7 @@
        |     batch_size=2,
        |     num_workers=(2),  # two
        |     shuffle=True,
        |+    generator=torch.Generator().manual_seed(0),
        | )
        | for x in loader:  # HERE
        |     pass
        """,
        """
        |@@ -1,12 +1,21 @@
        | import numpy as np
        | import torch
        | from torch.utils.data import DataLoader
        |+import random
        |+
        |+
        |+def seed_worker(worker_id):
        |+    seed = torch.initial_seed() % 2**32
        |+    np.random.seed(seed)
        |+    random.seed(seed)
        |
        | loader = DataLoader(
        |     data,
        |     batch_size=2,
        |     num_workers=(2),  # two
        |     shuffle=True,
        |+    generator=torch.Generator().manual_seed(0),
        |+    worker_init_fn=seed_worker,
        | )
        | for x in loader:  # HERE
        |     pass
        """,
        lane="worker 0",
    ),
    Case(
        "workers of a script without the name torch",
        "worker-seed",
        """
        |from torch.utils import data as d
        |for x in d.DataLoader(z, num_workers=n, worker_init_fn=f): pass  # HERE
        """,
        """
        |@@ -1,2 +1,3 @@
        | from torch.utils import data as d
        |-for x in d.DataLoader(z, num_workers=n, worker_init_fn=f): pass  # HERE
        |+import torch
        |+for x in d.DataLoader(z, num_workers=n, worker_init_fn=f, generator=torch.Generator().manual_seed(0)): pass  # HERE
        """,
    ),
    Case(
        "a seed from the clock",
        "clock",
        """
        |import time
        |from numpy.random import default_rng
        |rng = default_rng(seed=int(time.time() * 1000) % 2**32)  # HERE
        """,
        """
        |@@ -1,3 +1,3 @@
        | import time
        | from numpy.random import default_rng
        |-rng = default_rng(seed=int(time.time() * 1000) % 2**32)  # HERE
        |+rng = default_rng(seed=0)  # HERE
        """,
    ),
    Case(
        "a seed from the clock by a name",
        "clock",
        """
        |from datetime import datetime
        |import torch
        |seed = int(datetime.now().timestamp())  # HERE
        |torch.manual_seed(seed)
        """,
        """
        |@@ -1,4 +1,4 @@
        | from datetime import datetime
        | import torch
        |-seed = int(datetime.now().timestamp())  # HERE
        |+seed = 0  # HERE
        | torch.manual_seed(seed)
        """,
    ),
    Case(
        "a seed from the clock by a name at the call",
        "clock",
        """
        |import time
        |import torch
        |now = time.time_ns()
        |torch.manual_seed(now)  # HERE
        """,
        """
        |@@ -1,4 +1,4 @@
        | import time
        | import torch
        |-now = time.time_ns()
        |+now = 0
        | torch.manual_seed(now)  # HERE
        """,
    ),
    Case(
        "a default seed from the clock",
        "clock",
        """
        |import argparse, time
        |parser = argparse.ArgumentParser()
        |parser.add_argument("--seed", type=int, default=int(time.time()))  # HERE
        """,
        """
        |@@ -1,3 +1,3 @@
        | import argparse, time
        | parser = argparse.ArgumentParser()
        |-parser.add_argument("--seed", type=int, default=int(time.time()))  # HERE
        |+parser.add_argument("--seed", type=int, default=0)  # HERE
        """,
    ),
    Case(
        "a seed from the process number",
        "process-id",
        """
        |import os
        |import random
        |random.seed(os.getpid()); x = random.random()  # HERE
        """,
        """
        |@@ -1,3 +1,3 @@
        | import os
        | import random
        |-random.seed(os.getpid()); x = random.random()  # HERE
        |+random.seed(0); x = random.random()  # HERE
        """,
    ),
    Case(
        "a seed from the system's entropy",
        "os-entropy",
        """
        |import os, torch
        |torch.manual_seed(int.from_bytes(  # HERE
        |    os.urandom(4), "big"))
        """,
        """
        |@@ -1,3 +1,2 @@
        | import os, torch
        |-torch.manual_seed(int.from_bytes(  # HERE
        |-    os.urandom(4), "big"))
        |+torch.manual_seed(0)
        """,
    ),
    Case(
        "sets are sorted, the nearest first",
        "hash-seed",
        """
        |import torch
        |words = set(open("words"))
        |ids = {w: i for i, w in enumerate(words)}
        |for w in words | {"end"}:
        |    rows.append(ids[w])
        |x = torch.tensor(rows)  # HERE
        """,
        """
        |@@ -1,6 +1,6 @@
        | import torch
        | words = set(open("words"))
        | ids = {w: i for i, w in enumerate(words)}
        |-for w in words | {"end"}:
        |+for w in sorted(words | {"end"}):
        |     rows.append(ids[w])
        | x = torch.tensor(rows)  # HERE
        """,
        """
        |@@ -1,6 +1,6 @@
        | import torch
        | words = set(open("words"))
        |-ids = {w: i for i, w in enumerate(words)}
        |+ids = {w: i for i, w in enumerate(sorted(words))}
        | for w in words | {"end"}:
        |     rows.append(ids[w])
        | x = torch.tensor(rows)  # HERE
        """,
        """
        |@@ -1,6 +1,6 @@
        | import torch
        | words = set(open("words"))
        |-ids = {w: i for i, w in enumerate(words)}
        |-for w in words | {"end"}:
        |+ids = {w: i for i, w in enumerate(sorted(words))}
        |+for w in sorted(words | {"end"}):
        |     rows.append(ids[w])
        | x = torch.tensor(rows)  # HERE
        """,
    ),
    Case(
        "a set becomes a dictionary by its name",
        "address-layout",
        """
        |nodes = set(made)
        |if a in nodes:
        |    for node in nodes: print(node)  # HERE
        """,
        """
        |@@ -1,3 +1,3 @@
        |-nodes = set(made)
        |+nodes = dict.fromkeys(made)
        | if a in nodes:
        |     for node in nodes: print(node)  # HERE
        """,
    ),
    Case(
        "a set becomes a dictionary where it stands",
        "address-layout",
        """
        |for node in {a, b}: x = [n for n in {f(m) for m in made}]  # HERE
        """,
        """
        |@@ -1 +1 @@
        |-for node in {a, b}: x = [n for n in {f(m) for m in made}]  # HERE
        |+for node in {a, b}: x = [n for n in dict.fromkeys(f(m) for m in made)]  # HERE
        """,
        """
        |@@ -1 +1 @@
        |-for node in {a, b}: x = [n for n in {f(m) for m in made}]  # HERE
        |+for node in dict.fromkeys([a, b]): x = [n for n in {f(m) for m in made}]  # HERE
        """,
        """
        |@@ -1 +1 @@
        |-for node in {a, b}: x = [n for n in {f(m) for m in made}]  # HERE
        |+for node in dict.fromkeys([a, b]): x = [n for n in dict.fromkeys(f(m) for m in made)]  # HERE
        """,
    ),
    Case(
        "listings are sorted",
        "file-order",
        """
        |import os
        |from glob import glob
        |from pathlib import Path
        |def rows(folder):
        |	for name in os.listdir(folder):
        |		yield name
        |names = [*rows("a"), *glob(  # HERE
        |	"b/*",
        |)]
        """,
        """
        |@@ -2,8 +2,8 @@
        | from glob import glob
        | from pathlib import Path
        | def rows(folder):
        |-	for name in os.listdir(folder):
        |+	for name in sorted(os.listdir(folder)):
        | 		yield name
        |-names = [*rows("a"), *glob(  # HERE
        |+names = [*rows("a"), *sorted(glob(  # HERE
        | 	"b/*",
        |-)]
        |+))]
        """,
        """
        |@@ -4,6 +4,6 @@
        | def rows(folder):
        | 	for name in os.listdir(folder):
        | 		yield name
        |-names = [*rows("a"), *glob(  # HERE
        |+names = [*rows("a"), *sorted(glob(  # HERE
        | 	"b/*",
        |-)]
        |+))]
        """,
        """
        |@@ -2,7 +2,7 @@
        | from glob import glob
        | from pathlib import Path
        | def rows(folder):
        |-	for name in os.listdir(folder):
        |+	for name in sorted(os.listdir(folder)):
        | 		yield name
        | names = [*rows("a"), *glob(  # HERE
        | 	"b/*",
        """,
    ),
    Case(
        "scandir is sorted by names",
        "file-order",
        """
        |import os
        |sizes = [entry.stat().st_size for entry in os.scandir(".")]  # HERE
        """,
        """
        |@@ -1,2 +1,2 @@
        | import os
        |-sizes = [entry.stat().st_size for entry in os.scandir(".")]  # HERE
        |+sizes = [entry.stat().st_size for entry in sorted(os.scandir("."), key=lambda entry: entry.name)]  # HERE
        """,
    ),
    Case(
        "zeros in the place of empty",
        "uninitialized-memory",
        """
        |import torch
        |x = torch.empty(
        |    3, 4, dtype=torch.float32,  # HERE
        |)
        """,
        """
        |@@ -1,4 +1,4 @@
        | import torch
        |-x = torch.empty(
        |+x = torch.zeros(
        |     3, 4, dtype=torch.float32,  # HERE
        | )
        """,
    ),
    Case(
        "zeros for every kind of empty",
        "uninitialized-memory",
        """
        |import torch, numpy as np
        |"é"; a = torch.empty_like(x, memory_format=m); b = x.new_empty(3); c = np.empty_like(x)  # HERE
        """,
        """
        |@@ -1,2 +1,2 @@
        | import torch, numpy as np
        |-"é"; a = torch.empty_like(x, memory_format=m); b = x.new_empty(3); c = np.empty_like(x)  # HERE
        |+"é"; a = torch.zeros_like(x, memory_format=m); b = x.new_zeros(3); c = np.zeros_like(x)  # HERE
        """,
        """
        |@@ -1,2 +1,2 @@
        | import torch, numpy as np
        |-"é"; a = torch.empty_like(x, memory_format=m); b = x.new_empty(3); c = np.empty_like(x)  # HERE
        |+"é"; a = torch.zeros_like(x, memory_format=m); b = x.new_empty(3); c = np.empty_like(x)  # HERE
        """,
        """
        |@@ -1,2 +1,2 @@
        | import torch, numpy as np
        |-"é"; a = torch.empty_like(x, memory_format=m); b = x.new_empty(3); c = np.empty_like(x)  # HERE
        |+"é"; a = torch.empty_like(x, memory_format=m); b = x.new_zeros(3); c = np.empty_like(x)  # HERE
        """,
    ),
    Case(
        "zeros by a name of their own",
        "uninitialized-memory",
        """
        |from numpy import empty, zeros as z
        |x = empty(3)
        |y = x + 1  # HERE
        """,
        """
        |@@ -1,3 +1,3 @@
        | from numpy import empty, zeros as z
        |-x = empty(3)
        |+x = z(3)
        | y = x + 1  # HERE
        """,
    ),
    Case(
        "a file that was left over is removed first",
        "leftover-files",
        '''
        |"""Trains."""
        |import torch
        |
        |state = torch.load("a {b}.pt")  # HERE
        ''',
        '''
        |@@ -1,4 +1,7 @@
        | """Trains."""
        | import torch
        |+from pathlib import Path
        |+
        |+Path("a {b}.pt").unlink(missing_ok=True)  # every run starts without it
        |
        | state = torch.load("a {b}.pt")  # HERE
        ''',
        leftover="a {b}.pt",
    ),
    Case(
        "a file that was left over is removed behind the guard",
        "leftover-files",
        """
        |from pathlib import Path
        |import torch
        |
        |def main():
        |    torch.load("runs/last.pt")  # HERE
        |
        |if __name__ == "__main__":
        |    # go
        |    main()
        """,
        """
        |@@ -6,4 +6,5 @@
        |
        | if __name__ == "__main__":
        |     # go
        |+    Path("runs/last.pt").unlink(missing_ok=True)  # every run starts without it
        |     main()
        """,
        leftover="runs/last.pt",
    ),
    Case(
        "batches in order",
        "worker-timing",
        """
        |import torch
        |for x in torch.utils.data.DataLoader(z, num_workers=2, in_order = False): pass  # HERE
        """,
        """
        |@@ -1,2 +1,2 @@
        | import torch
        |-for x in torch.utils.data.DataLoader(z, num_workers=2, in_order = False): pass  # HERE
        |+for x in torch.utils.data.DataLoader(z, num_workers=2, in_order = True): pass  # HERE
        """,
    ),
    Case(
        "results in order",
        "worker-timing",
        """
        |with Pool(2) as pool:
        |    for x in (pool
        |              .imap_unordered(f, z)):  # HERE
        |        pass
        """,
        """
        |@@ -1,4 +1,4 @@
        | with Pool(2) as pool:
        |     for x in (pool
        |-              .imap_unordered(f, z)):  # HERE
        |+              .imap(f, z)):  # HERE
        |         pass
        """,
    ),
    Case(
        "futures in order",
        "thread-timing",
        """
        |from concurrent import futures as cf
        |jobs = []
        |for k in range(3):
        |    jobs.append(pool.submit(f, k))
        |x = [job.result() for job in cf.as_completed(jobs)]  # HERE
        """,
        """
        |@@ -2,4 +2,4 @@
        | jobs = []
        | for k in range(3):
        |     jobs.append(pool.submit(f, k))
        |-x = [job.result() for job in cf.as_completed(jobs)]  # HERE
        |+x = [job.result() for job in jobs]  # HERE
        """,
    ),
    Case(
        "a clock that is not only a seed stays a clock",
        "clock",
        """
        |import time, random
        |began = int(time.time())  # HERE
        |random.seed(began)
        |print(time.time() - began)
        """,
        """
        |@@ -1,4 +1,4 @@
        | import time, random
        | began = int(time.time())  # HERE
        |-random.seed(began)
        |+random.seed(0)
        | print(time.time() - began)
        """,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_proposed_changes_are_exactly_these(case: Case) -> None:
    assert [hunks(case.source, text) for text in case.mended(case.source)] == case.hunks


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_windows_line_ends_are_kept(case: Case) -> None:
    texts = [text.replace("\n", "\r\n") for text in case.mended(case.source)]
    assert case.mended(case.source.replace("\n", "\r\n")) == texts
    assert texts


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_byte_order_mark_is_kept(case: Case) -> None:
    texts = [f"\ufeff{text}" for text in case.mended(case.source)]
    assert case.mended(f"\ufeff{case.source}") == texts
    assert texts


class Reference(NamedTuple):
    """A script of this repository, its cause, and the change of it."""

    path: str
    factor: str
    mark: str
    removed: list[str]
    added: list[str]


@pytest.mark.parametrize(
    "reference",
    [
        Reference(
            "examples/batch_order.py", "hash-seed", "<- diverges",
            ["x = torch.tensor([readings[name] for name in names])  # <- diverges"],
            ["x = torch.tensor([readings[name] for name in sorted(names)])  # <- diverges"],
        ),
        Reference("examples/lstm_late_seed.py", "torch-seed", "<- diverges", ["torch.manual_seed(42)"], ["torch.manual_seed(42)", ""]),
        Reference("examples/lstm_unseeded.py", "torch-seed", "<- diverges", [], ["torch.manual_seed(0)", ""]),
        Reference("examples/fizbuz_torch.py", "numpy-seed", "<- diverges", [], ["", "np.random.seed(0)"]),
        Reference(
            "examples/clock_seed.py", "clock", "<- diverges",
            ["torch.manual_seed(time.time_ns() % 2**31)  # <- diverges"], ["torch.manual_seed(0)  # <- diverges"],
        ),
        Reference(
            "examples/uninitialized_mask.py", "uninitialized-memory", "mask = torch.empty",
            ["mask = torch.empty(64, 64, dtype=torch.uint8)  # <- enters"], ["mask = torch.zeros(64, 64, dtype=torch.uint8)  # <- enters"],
        ),
        Reference(
            "tests/leaks/address_layout.py", "address-layout", "for node in nodes",
            ["nodes = {Node(k) for k in range(30)}"], ["nodes = dict.fromkeys(Node(k) for k in range(30))"],
        ),
        Reference(
            "tests/leaks/worker_timing.py", "worker-timing", "for batch in",
            ["for batch in DataLoader(torch.arange(400.0), batch_size=2, num_workers=2, in_order=False):  # <- enters"],
            ["for batch in DataLoader(torch.arange(400.0), batch_size=2, num_workers=2, in_order=True):  # <- enters"],
        ),
    ],
    ids=lambda one: one.path,
)  # fmt: skip
def test_the_first_change_of_a_repository_script_is_the_one_made_by_hand(reference: Reference) -> None:
    source = (ROOT / reference.path).read_text()
    first = mended(cause_of(reference.factor, source, reference.mark), source)[0]
    lines = hunks(source, first).split("\n")
    assert [line[1:] for line in lines if line.startswith("-")] == reference.removed
    assert [line[1:] for line in lines if line.startswith("+")] == reference.added


@pytest.mark.torch
def test_the_fixed_script_gives_the_same_rows_for_every_hash_seed(tmp_path: Path) -> None:
    source = (ROOT / "tests" / "leaks" / "hash_seed.py").read_text()
    (tmp_path / "before.py").write_text(source)
    (tmp_path / "after.py").write_text(mended(cause_of("hash-seed", source, "for word in words"), source)[0])
    before, after = (
        {bare(tmp_path, name, env=environment(PYTHONHASHSEED=str(seed))).out for seed in range(3)} for name in ("before.py", "after.py")
    )
    assert len(before) > 1
    assert len(after) == 1
    assert after != {b""}


@pytest.mark.parametrize(
    ("factor", "source"),
    [
        ("torch-seed", "import torch\ntorch.manual_seed(1)\nx = torch.rand(3)  # HERE"),
        ("torch-seed", "from x import y as torch\nz = y()  # HERE"),
        ("torch-seed", "x = f()  # HERE\nimport torch\n"),
        ("numpy-seed", "import numpy as np\nrng = np.random.default_rng(3)\nnp.random.seed(1)\nx = rng.normal()  # HERE"),
        ("os-entropy", "import secrets\nx = secrets.randbelow(3)  # HERE"),
        ("os-entropy", "import os, random\nx = [os.urandom(1), random.SystemRandom().random()]  # HERE"),
        ("os-entropy", "import uuid\nrun = uuid.uuid4()  # HERE"),
        ("clock", "import time\nx = time.time()  # HERE\nprint(x)"),
        ("clock", "import time, torch\nstarted = time.time()  # HERE\ntorch.tensor(started)\ntorch.manual_seed(0)"),
        ("process-id", "import os\nname = f'run-{os.getpid()}'  # HERE"),
        ("worker-seed", "from torch.utils.data import DataLoader\nx = DataLoader(d)  # HERE"),
        ("worker-seed", "import torch\nx = torch.utils.data.DataLoader(d, num_workers=0)  # HERE"),
        ("worker-seed", "import torch\nx = torch.utils.data.DataLoader(d, num_workers=2, **more)  # HERE"),
        ("hash-seed", "x = hash('a') % 10  # HERE"),
        ("hash-seed", "s = set(a)\nx = s.pop()  # HERE"),
        ("hash-seed", "for x in sorted(set(a)): pass  # HERE"),
        ("address-layout", "s = set(a)\ns.add(b)\nfor x in s: pass  # HERE"),
        ("address-layout", "for x in set(a) | b: pass  # HERE"),
        ("address-layout", "x = id(a) % 3  # HERE"),
        ("file-order", "import os\nfor a, b, c in os.walk('.'): pass  # HERE"),
        ("file-order", "import os\nwith os.scandir('.') as found:\n    for x in found: pass  # HERE"),
        ("file-order", "from pathlib import Path\nx = next(Path('.').glob('*'))  # HERE"),
        ("file-order", "import os\nx = f'{os.listdir()}'  # HERE"),
        ("uninitialized-memory", "import torch\nx = torch.empty(3, 3, 3, 3, memory_format=torch.channels_last)  # HERE"),
        ("uninitialized-memory", "from torch import empty\nx = empty(3)  # HERE"),
        ("thread-timing", "from concurrent.futures import as_completed\nfor x in as_completed(jobs()): pass  # HERE"),
        ("thread-timing", "from concurrent.futures import as_completed\njobs = f()\nfor x in as_completed(jobs): pass  # HERE"),
        ("thread-timing", "from concurrent.futures import as_completed\njobs = []\nx = next(as_completed(jobs))  # HERE"),
        ("threads", "import torch\nx = torch.rand(3).sum()  # HERE"),
        ("kernels", "import torch\nx = torch.rand(3).sum()  # HERE"),
        ("cpu-isa", "import torch\nx = torch.rand(3).sum()  # HERE"),
        ("environment", "import time\nx = time.localtime()  # HERE"),
        ("torch-seed", "import torch\nx = torch.rand(3  # HERE"),
        ("leftover-files", "x = open('a')  # HERE"),
    ],
)
def test_without_a_small_fix_there_is_no_change(factor: str, source: str) -> None:
    assert mended(cause_of(factor, source), source) == []


@pytest.mark.parametrize("leftover", ["/etc/passwd", "../other.pt", "C:\\a.pt", "", "a\nb", "."])
def test_no_change_removes_files_outside_the_working_directory(leftover: str) -> None:
    source = "import torch\nx = torch.load('a.pt')  # HERE\n"
    assert mended(cause_of("leftover-files", source), source, leftover=leftover) == []
    assert mended(cause_of("leftover-files", source), source, leftover="a.pt")


def test_a_worker_without_access_to_the_loaders_seed_gets_no_repeating_seed() -> None:
    source = "from numpy.random import default_rng\ndef noise():\n    return default_rng().random()  # HERE\n"
    assert mended(cause_of("os-entropy", source), source, lane="worker 0") == []
    assert len(mended(cause_of("os-entropy", source), source)) == 1


def test_a_cause_without_a_line_gets_no_change() -> None:
    cause = Cause(factor="torch-seed", proved=True, kind="draw")
    assert mended(cause, "import torch\nx = torch.rand(3)\n") == []


ZEROED = """
for x in data:
    loss.backward()
    w1.data -= w1.grad  # HERE
    w1.grad.zero_()
    w2.grad.data.zero_()  # the last
print(loss)
"""


@pytest.mark.parametrize(
    ("source", "name", "line"),
    [
        (ZEROED, "b1", "    b1.grad.zero_()"),
        (ZEROED, "self.b1", "    self.b1.grad.zero_()"),
        (ZEROED.replace("grad.zero_()", "grad = None").replace("grad.data.zero_()", "grad = None"), "b1", "    b1.grad = None"),
        (ZEROED.replace("    ", "\t"), "b1", "\tb1.grad.zero_()"),
    ],
)  # fmt: skip
def test_a_gradient_is_zeroed_after_the_others(source: str, name: str, line: str) -> None:
    text = zeroed(source, cause_of("", source).line or 0, name)
    lines = source.split("\n")
    behind = next(index for index, one in enumerate(lines) if "# the last" in one)
    assert text == "\n".join([*lines[: behind + 1], line, *lines[behind + 1 :]])


def test_the_gradient_of_the_example_is_zeroed_in_the_usual_place() -> None:
    source = (ROOT / "examples" / "fizbuz_torch.py").read_text()
    text = zeroed(source, cause_of("", source, "b1.data -=").line or 0, "b1")
    assert text == source.replace("        b2.grad.data.zero_()\n", "        b2.grad.data.zero_()\n        b1.grad.zero_()\n")


def test_a_gradient_is_zeroed_on_the_same_line_if_the_others_are() -> None:
    assert (
        zeroed("loss.backward()\na.grad.zero_(); b.grad.zero_()", 1, "c")
        == "loss.backward()\na.grad.zero_(); b.grad.zero_(); c.grad.zero_()"
    )
    assert zeroed("loss.backward()\na.grad.zero_()", 1, "c") == "loss.backward()\na.grad.zero_()\nc.grad.zero_()"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("loss.backward()", "b"),
        ("loss.backward()\noptimizer.zero_grad()", "b"),
        ("loss.backward()\na.grad.zero_()", "a"),
        ("loss.backward()\na.grad.zero_()", "the weight"),
        ("loss.backward()\nif a.grad is not None:\n    a.grad.zero_()", "b"),
        ("loss.backward()\ndef other():\n    a.grad.zero_()", "b"),
        ("loss.backward()\nfor p in parameters:\n    p.grad.zero_()", "b"),
        ("loss.backward(\n", "b"),
    ],
)
def test_no_gradient_is_zeroed_unless_others_are_zeroed_one_by_one(source: str, name: str) -> None:
    assert zeroed(source, 1, name) is None


def applied(folder: Path, path: str, old: str, new: str, *command: str) -> str:
    """The content of a file after a program has applied the diff of two texts."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(old.encode())
    done = start(list(command), folder, stdin=diff_of(path, old, new).encode())
    assert done.status == 0, done.said
    return file.read_bytes().decode()


TOOLS = [
    pytest.param(tool, marks=pytest.mark.skipif(shutil.which(tool[0]) is None, reason=f"there is no {tool[0]} here"), id=tool[0])
    for tool in (("git", "apply", "-"), ("patch", "-p1", "--binary"))
]


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("train.py", "a\nb\n", "a\nc\n"),
        ("src/my train.py", "a\n", "b\n"),
        ("é.py", "ä = 1\n", "ö = 1\n"),
        ("train.py", "a\r\nb\r\n", "a\r\nc\r\nb\r\n"),
        ("train.py", "a\nb", "a\nc"),
        ("train.py", "a\nb", "a\nb\nc"),
        ("train.py", "a\nb\n", "a\nb"),
        ("train.py", "\tif x:\n\t\ty\n", "\tif x:\n\t\tz\n"),
        ("train.py", "x = '\x0c\u2028'\ny\n", "x = '\x0c\u2028'\nz\n"),
        ("train.py", "-- a\n++ b\n", "-- a\n++ c\n"),
    ],
)
def test_a_diff_is_accepted_by_git_and_by_patch(tool: tuple[str, ...], path: str, old: str, new: str, tmp_path: Path) -> None:
    assert applied(tmp_path, path, old, new, *tool) == new


@pytest.mark.parametrize("case", CASES[::4], ids=lambda case: case.name)
@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_every_change_can_be_applied_as_a_diff(case: Case, end: str, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("there is no git here")
    source = case.source.replace("\n", "\r\n") if end == "\r\n" else case.source if end else case.source.rstrip("\n")
    texts = case.mended(source)
    assert texts
    for text in texts:
        assert applied(tmp_path, "train.py", source, text, "git", "apply", "-") == text


def test_equal_texts_have_no_diff_and_paths_are_relative_to_the_root() -> None:
    assert diff_of("train.py", "a\n", "a\n") == ""
    assert diff_of("/home/train.py", "a\n", "b\n") == "--- a/home/train.py\n+++ b/home/train.py\n@@ -1 +1 @@\n-a\n+b\n"


# A small grammar of scripts

HEADS = st.sampled_from(["", '"""Doc."""\n', "#!/bin/python\n", "from __future__ import annotations\n", "'é'\n"])
IMPORTS = st.lists(
    st.sampled_from(
        [
            "import torch\n",
            "import numpy as np\n",
            "import random, time; import os\n",
            "from torch.utils.data import DataLoader\n",
            "try:\n    import torch\nexcept ImportError:\n    pass\n",
            "from glob import (\n    glob,\n)\n",
            "import torch as t\n",
        ]
    ),
    max_size=4,
).map("".join)
LINES = st.sampled_from(
    [
        "x = torch.rand(3)",
        "torch.manual_seed(1)",
        "torch.manual_seed(seed)",
        "seed = int(time.time())",
        "y = np.random.default_rng()",
        "random.seed(time.time()); z = 'é'; torch.seed()",
        "words = {'a', 'ü', *x}",
        "for w in words: pass",
        "v = [w for w in set(\n    words\n)]",
        "names = os.listdir('.')",
        "z = np.empty(3); y = torch.empty(\n    3,  # é\n)",
        "DataLoader(x, num_workers=2)",
        "for b in DataLoader(\n    x,\n    num_workers=2,  # )\n    in_order=False,\n): print(b)",
        "g = torch.Generator(); g.seed()",
        "x = [*glob('*')]",
        "w.grad.zero_()",
        "pass",
        "np.random.seed()",
    ]
)


def indented(lines: list[str], indent: str) -> str:
    return "".join(f"{indent}{part}\n" for line in lines for part in line.split("\n"))


BLOCKS = st.one_of(
    st.lists(LINES, min_size=1, max_size=3).map(lambda lines: indented(lines, "")),
    st.builds(
        lambda head, lines, indent: f"{head}:\n{indented(lines, indent)}",
        st.sampled_from(["def f(a)", "@f\ndef g()", "class A", "if __name__ == '__main__'", "while x", "with f() as seed"]),
        st.lists(LINES, min_size=1, max_size=3), st.sampled_from(["    ", "\t", " "]),
    ),
)  # fmt: skip
SOURCES = st.builds(
    lambda head, imports, blocks, newline, end: (head + imports + "\n".join(blocks)).rstrip("\n").replace("\n", newline) + newline * end,
    HEADS, IMPORTS, st.lists(BLOCKS, max_size=4), st.sampled_from(["\n", "\r\n"]), st.integers(0, 1),
)  # fmt: skip
FACTORS = ["torch-seed", "numpy-seed", "python-seed", "os-entropy", "clock", "process-id", "worker-seed", "hash-seed", "address-layout",
           "file-order", "uninitialized-memory", "worker-timing", "thread-timing", "leftover-files"]  # fmt: skip


@given(SOURCES, st.sampled_from(FACTORS), st.integers(1, 25), st.sampled_from(["main", "worker 0"]))
def test_a_changed_source_parses_and_differs_only_in_its_hunks(source: str, factor: str, line: int, lane: str) -> None:
    cause = Cause(factor=factor, proved=True, kind="draw", line=line)
    texts = mended(cause, source, lane=lane, leftover="a/b.pt")
    assert len(texts) == len(set(texts)) <= 3
    for text in texts:
        ast.parse(text)
        assert text != source
        assert ("\r" in text) == ("\r" in source)
        assert text.count("\n") == text.count("\r\n") or "\r" not in source
        assert patched(source, diff_of("train.py", source, text)) == text


def patched(source: str, diff: str) -> str:
    """A text with a diff applied exactly; everything outside the hunks is copied."""
    lines, done, text = re.findall(r"[^\n]*\n|[^\n]+", source), 0, []
    for hunk in re.findall(r"^@@ .*\n(?:[-+ \\].*\n)+", diff, re.MULTILINE):
        head, *body = re.findall(r".*\n", hunk.replace("\n\\ No newline at end of file\n", "\x00\n"))
        place = re.match(r"@@ -(\d+)(,0)?", head)
        assert place is not None
        begin = int(place[1]) - (place[2] is None)
        text += lines[done:begin]
        done = begin
        for line in (one.replace("\x00\n", "") for one in body):
            if line.startswith(("-", " ")):
                assert lines[done] == line[1:]
                done += 1
            if line.startswith(("+", " ")):
                text.append(line[1:])
    return "".join([*text, *lines[done:]])
