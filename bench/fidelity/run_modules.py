"""launchers: runpy of a file and of a module, python -m, -c, a zip file, code from a pipe, as a script sees itself there."""

import os
import runpy
import subprocess
import sys
import zipfile

import torch

torch.ones(1) * 2
os.makedirs("package", exist_ok=True)
SEEN = """
import sys
spec = __spec__ and __spec__.name
print(__name__, __package__, globals().get("__file__"), sys.argv[1:], sys.path[0], spec, sorted(globals()), flush=True)
"""
for name in ("package/__init__.py", "package/__main__.py", "package/part.py", "alone.py", "__main__.py"):
    with open(name, "w") as file:
        file.write(SEEN)
with zipfile.ZipFile("zipped.zip", "w") as zipped:
    zipped.write("__main__.py")
sys.stdout.flush()
runpy.run_path("alone.py", run_name="__main__")
runpy.run_module("package.part", run_name="__main__", alter_sys=True)
for words in (
    ["-m", "package"],
    ["-m", "package.part", "a"],
    ["alone.py", "b"],
    ["zipped.zip"],
    ["-c", SEEN, "c"],
    ["-I", "alone.py"],
    ["."],
):
    subprocess.run([sys.executable, *words])
subprocess.run([sys.executable, "-"], input=SEEN, text=True)
os.remove("zipped.zip")  # it holds times
