"""What all tests share: nothing is written to the user's own cache, and no process burns the time of another."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep audits that name no directory in a cache of the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True, scope="session")
def threads_that_wait_asleep() -> Iterator[None]:
    """Let OpenMP's threads sleep where they wait for one another.

    Each process has as many as there are cores and takes them for its own, but the tests run several at once: threads that wait by
    spinning (the default of libgomp: its manual, GOMP_SPINCOUNT) take the time of the thread that they wait for. What is computed, and
    from how many parts, is the same.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_WAIT_POLICY", "passive")
        yield


@pytest.fixture(autouse=True, scope="session")
def interrupts_that_arrive() -> Iterator[None]:
    """Let the processes that tests start take interrupts also where the tests run as a shell's background job, which ignores them."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
