"""stand-ins: streams of Python, NumPy and torch, their states taken and given back, subclasses, pickles."""

import pickle
import random
import secrets

import numpy as np
import torch


class Mine(random.Random):
    def random(self):
        return 0.25


random.seed(1)
np.random.seed(1)
torch.manual_seed(1)
state = random.getstate(), np.random.get_state(), torch.get_rng_state()
first = random.random(), np.random.rand(2), torch.rand(2), random.choices("abc", k=3), np.random.default_rng(3).normal(size=2)
random.setstate(state[0])
np.random.set_state(state[1])
torch.set_rng_state(state[2])
print(first, random.random(), np.random.rand(2), torch.rand(2), Mine().uniform(0, 4), Mine(5).sample(range(9), 3))
own = pickle.loads(pickle.dumps((random.Random(4), np.random.default_rng(4), np.random.RandomState(4))))
print(own[0].random(), own[1].random(), own[2].rand(), torch.Generator().manual_seed(4).initial_seed(), len(secrets.token_bytes(8)))
generator = torch.Generator().manual_seed(9)
kept = generator.get_state()
a = torch.randperm(5, generator=generator)
generator.set_state(kept)
print(a, torch.randperm(5, generator=generator), type(generator) is torch.Generator, type(np.random.default_rng()) is np.random.Generator)
with torch.random.fork_rng():
    torch.manual_seed(2)
    print(torch.rand(1))
print(torch.rand(1), torch.initial_seed())
