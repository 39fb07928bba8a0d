"""stand-ins: watched functions under inspect, pickle, copy, equality, as attributes of classes, as defaults and in partials."""

import builtins
import copy
import functools
import inspect
import io
import os
import pickle
import random
import time

import numpy as np
import torch


def signature(function):
    try:
        return str(inspect.signature(function))
    except ValueError as error:
        return type(error).__name__


FUNCTIONS = {
    "open": builtins.open, "io.open": io.open, "listdir": os.listdir, "scandir": os.scandir, "replace": os.replace, "time": time.time,
    "monotonic": time.monotonic, "random": random.random, "seed": random.seed, "shuffle": random.shuffle, "rand": np.random.rand,
    "np.seed": np.random.seed, "default_rng": np.random.default_rng, "manual_seed": torch.manual_seed, "from_numpy": torch.from_numpy,
    "save": torch.save, "load": torch.load, "numpy": torch.Tensor.numpy, "backward": torch.Tensor.backward, "urandom": os.urandom,
    "set_num_threads": torch.set_num_threads, "putenv": os.putenv, "system": os.system, "execv": os.execv, "posix_spawn": os.posix_spawn,
}  # fmt: skip
for name, function in FUNCTIONS.items():
    print(
        name, repr(function).partition(" at ")[0], function.__name__, getattr(function, "__module__", "none"), signature(function),
        callable(function),
        inspect.isbuiltin(function), inspect.isfunction(function), inspect.isroutine(function), inspect.ismethod(function),
        copy.copy(function) is function, copy.deepcopy(function) == function, hash(function) == hash(function),
        function.__doc__ is not None, hasattr(function, "no_such"), getattr(function, "__self__", None).__class__.__name__,
    )  # fmt: skip
    try:
        print(pickle.loads(pickle.dumps(function)) == function)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        print(type(error).__name__)


class Keeps:
    clock, listed, opened, drawn = time.localtime, os.listdir, open, random.random

    def default(self, now=time.time, names=os.listdir):
        return now() > 0, len(names("."))


keeps = Keeps()
print(keeps.clock().tm_year > 2000, len(keeps.listed(".")), keeps.opened(__file__).closed, 0 <= keeps.drawn() < 1, keeps.default())
random.seed(3)
print(functools.partial(random.randint, 1, 6)(), list(map(random.gauss, [0.0], [1.0])), functools.wraps(random.sample)(lambda: 0).__name__)
print(
    {os.listdir: 1}[os.listdir],
    os.listdir == os.listdir,
    time.time in {time.time},
    sorted([3, 1], key=functools.cmp_to_key(lambda a, b: a - b)),
)
