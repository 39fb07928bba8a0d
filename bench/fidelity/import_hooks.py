"""imports: finders of the script's own that log, refuse and make modules, and reloads."""

import importlib
import sys
import types
from importlib.machinery import ModuleSpec

asked = []


class Logs:
    def find_spec(self, name, path=None, target=None):
        asked.append(name)
        return


class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name == "forbidden":
            raise ImportError("not today", name=name)
        return


class Makes:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name == "made" else None

    def create_module(self, spec):
        return types.ModuleType(spec.name)

    def exec_module(self, module):
        module.answer = 42


sys.meta_path[:0] = [Logs(), Refuses(), Makes()]
import made
import torch

print(made.answer, made.__spec__.loader.__class__.__name__, asked.index("torch"), "numpy" in asked, len(asked) == len(set(asked)))
for name in ("forbidden", "no_such_module", "torch.no_such_part"):
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(type(error).__name__, error, error.name)
sys.meta_path.append(sys.meta_path.pop(1))
print(torch.__spec__.loader.__class__.__name__, type(torch.__loader__).__name__, torch.__spec__.name, torch.ones(1))
import json
import random

print(importlib.reload(random).random() < 1, importlib.reload(json).dumps([1]), sys.modules["json"] is json)
sys.meta_path.insert(0, Refuses())
print(importlib.import_module("colorsys").__name__)
