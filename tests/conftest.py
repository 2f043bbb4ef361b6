"""Fixtures for every test."""

from collections.abc import Iterator

import pytest
from harness import nothing_left_over


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Hold the test to giving back every descriptor, greenlet and watcher that it took."""
    with nothing_left_over():
        yield
