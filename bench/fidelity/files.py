"""stand-ins: files opened in all ways, paths, folders listed, renamed, mapped, temporary, and errors of each."""

import mmap
import os
import pathlib
import shutil
import tempfile

import numpy as np
import torch

pathlib.Path("data").mkdir()
for k in range(3):
    pathlib.Path(f"data/{k}.txt").write_text(f"{k}\n" * (k + 1))
print(
    sorted(os.listdir("data")),
    sorted(os.listdir(b"data")),
    sorted(entry.name for entry in os.scandir("data")),
    sorted(pathlib.Path("data").glob("*")),
)
with (
    open("log.txt", "a+", newline="") as file,
    open(os.open("raw.bin", os.O_CREAT | os.O_RDWR), "wb", closefd=True) as raw,
    open("data/1.txt") as read,
):
    file.write("a\r\n")
    file.seek(0)
    print(file.read(), raw.write(b"abc"), read.readlines(), file.mode, file.name, file.encoding, raw.name > 2)
os.replace("log.txt", "log.old")
os.rename("data/0.txt", "data/zero.txt")
shutil.copytree("data", "copy")
with open("data/2.txt", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
    mapped[0:1] = b"X"
np.save("x.npy", np.arange(4))
torch.save({"x": torch.arange(3)}, "x.pt")
print(np.load("x.npy", mmap_mode="r+")[1], torch.load("x.pt", mmap=True), os.stat("x.npy").st_size, oct(os.stat("x.pt").st_mode))
with tempfile.TemporaryFile() as file, tempfile.NamedTemporaryFile("w", dir=".", suffix=".txt") as named:
    print(file.write(b"1"), named.write("2"), os.path.exists(named.name))
for do in (
    lambda: open("no/such"),
    lambda: open("data"),
    lambda: open("x.pt", "q"),
    lambda: os.listdir("no"),
    lambda: open(99),
    lambda: open(),
    lambda: os.replace("no", "a"),
):
    try:
        do()
    except (OSError, ValueError, TypeError) as error:
        print(type(error).__name__, error)
os.remove("x.pt")
