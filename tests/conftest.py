"""Fixtures for all tests: the user's cache is not touched, and processes do not waste each other's CPU time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep audits without a directory in a cache of the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True, scope="session")
def sleeping_openmp_threads() -> Iterator[None]:
    """Let OpenMP threads sleep while they wait for one another.

    Every process has one thread per core, but the tests run several processes at once: threads that wait by spinning (the default of
    libgomp: its manual, GOMP_SPINCOUNT) take CPU time from the thread that they wait for. The results, and how work is split among threads,
    are the same.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_WAIT_POLICY", "passive")
        yield


@pytest.fixture(autouse=True, scope="session")
def sigint_enabled() -> Iterator[None]:
    """Make child processes receive SIGINT even if the tests run as a shell's background job, which ignores it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
