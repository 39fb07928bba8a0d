"""imports: files beside the script that have names which the recorder imports, too: xxhash, auditor, json, mmap, and a package."""

import os
import sys

NAMES = ("xxhash", "auditor", "sitecustomize", "mmap", "reprlib", "json", "ctypes", "arm", "lane", "digest", "errors", "plan", "trace")
if not os.path.exists("auditor"):
    os.mkdir("auditor")
    for name in NAMES:
        with open("auditor/__init__.py" if name == "auditor" else f"{name}.py", "w") as file:
            file.write(f"here = {name!r}\n")
    os.execv(sys.executable, [sys.executable, __file__])

import importlib

print({name: getattr(importlib.import_module(name), "here", None) for name in NAMES})
for name in NAMES:
    del sys.modules[name]
sys.path.append(sys.path.pop(0))
import torch

torch.manual_seed(0)
model = torch.nn.Linear(2, 1)
model(torch.rand(3, 2)).sum().backward()
import xxhash

print(model.weight.grad, sorted(name for name in sys.modules if name.startswith("auditor")), xxhash.xxh3_64_hexdigest(b"x"))
