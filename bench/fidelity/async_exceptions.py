"""signals: an exception that one thread raises in another one, which is in the middle of ops."""

import ctypes
import threading
import time

import torch


class StopError(Exception):
    pass


ended = []


def work():
    try:
        x = torch.ones(4)
        while True:
            x = (x * 2).sin()
            torch.rand(2)
    except StopError as error:
        ended.append((type(error).__name__, error.args))


for _ in range(10):
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.05)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(StopError))
    thread.join()
print(len(ended), set(ended))
