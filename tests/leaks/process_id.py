"""Computes with its process ids."""

import multiprocessing
import os

import torch


def number():
    return os.getpid()  # <- enters


if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        numbers = [os.getpid(), os.getppid(), pool.apply(number)]  # <- enters
    print(torch.tensor(numbers).sum())
