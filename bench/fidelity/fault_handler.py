"""signals: faulthandler's stacks, asked for by a signal and after some time, and of a crash."""

import faulthandler
import re
import signal
import time

import torch

torch.ones(1).add_(1)


def outer():
    inner()


def inner():
    signal.raise_signal(signal.SIGUSR2)
    time.sleep(0.5)


with open("stacks.log", "w+") as file:
    faulthandler.register(signal.SIGUSR2, file, all_threads=False)
    faulthandler.dump_traceback_later(0.2, file=file)
    outer()
    faulthandler.cancel_dump_traceback_later()
    file.seek(0)
    text = re.sub(r"0x[0-9a-f]+", "0x", file.read())
    file.truncate(0)
print(text)
faulthandler.enable()
signal.raise_signal(signal.SIGABRT)
