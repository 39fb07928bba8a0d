"""introspection: what runs when a script ends: exit handlers, finalizers, threads, destructors, and what they print."""

import atexit
import sys
import threading
import time
import weakref

import torch


class Last:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        print("deleted", self.name, flush=True)


def late():
    time.sleep(0.2)
    print("thread", torch.ones(2).sum(), flush=True)


atexit.register(print, "first registered", flush=True)
kept = Last("global")
weakref.finalize(kept, print, "finalized", flush=True)
threading.Thread(target=late).start()


@atexit.register
def ops():
    print("ops at the end", torch.arange(3).sum(), flush=True)


sys.exitfunc = None
print("body", flush=True)
sys.exit("a last word")
