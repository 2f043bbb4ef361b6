"""Ports that note which claims were given up for good."""

import pytest

from localtunnel.server.names.ports import Ports


class NotingPorts(Ports):
    def __init__(self):
        super().__init__(range(20000, 20003))
        self.freed = []

    def free(self, claim):
        self.freed.append(claim)
        super().free(claim)


@pytest.fixture
def ports():
    return NotingPorts()


@pytest.fixture
def freed(ports):
    """The claims that were given up for good."""
    return ports.freed
