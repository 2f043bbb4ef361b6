"""Fixtures for every test."""

from collections.abc import Iterator

import pytest
from harness import nothing_left_over
from harness.state import no_users_files
from hypothesis import settings

# One profile for all: how long an example takes says more about the machine than about
# the code, so that no example has a deadline; pytest-timeout bounds each test as a whole.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that no worker is left alone with one at the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Hold the test to giving back every descriptor, greenlet and watcher that it took."""
    with nothing_left_over():
        yield


@pytest.fixture(scope="session", autouse=True)
def own_files() -> Iterator[None]:
    """No test reads or writes what the user of this machine has stored."""
    with no_users_files():
        yield
