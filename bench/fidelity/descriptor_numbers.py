"""descriptors: which are open, which number the next file gets, dup2 over numbers, a small limit."""

import os
import resource

import torch


def listed():
    return sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1]  # the last one is of the listing itself


print(listed())
x = torch.ones(3) * 2
torch.save(x, "x.pt")
print(listed(), torch.load("x.pt"))
with open("numbers.txt", "w") as file:
    print(file.fileno(), os.dup(1), os.dup2(1, 40), os.dup2(file.fileno(), 7))
    os.write(7, b"through seven\n")
    torch.rand(2).sum()
print(listed())
os.closerange(3, 50)
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
kept = []
try:
    while True:
        kept.append(open(os.devnull))
except OSError as error:
    print(len(kept), error.strerror)
for k in range(2000):
    x = x + 1
print(x, listed() if kept.pop().close() else "closed")
