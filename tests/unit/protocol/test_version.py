"""localtunnel.protocol.version: what a version is said to have is what its tables and its codec have."""

import pytest

from localtunnel.errors import MessageError
from localtunnel.protocol.messages import Challenge, Concurrency, Got, ProxyRequest, Release
from localtunnel.protocol.states import TABLES, State
from localtunnel.protocol.version import LTP_0_2, LTP_0_3, VERSIONS, Version
from localtunnel.protocol.wire.codec import check_fields

every_version = pytest.mark.parametrize("version", VERSIONS, ids=str)


def may_come(version: Version, state: State, message: type) -> bool:
    return message in TABLES[version].get(state, {})


@every_version
def test_a_version_has_what_its_tables_have(version: Version) -> None:
    assert version.acknowledges == may_come(version, State.ASSIGNED, Got)
    assert version.has_tokens == may_come(version, State.REQUESTED, Challenge)
    assert version.leases == may_come(version, State.OPEN, Release)
    assert version.speaks_freely == may_come(version, State.OPEN, Concurrency)


@every_version
def test_a_proxy_request_proves_its_right_as_its_version_has_it(version: Version) -> None:
    by_session, by_client = ProxyRequest("demo", session="0" * 32), ProxyRequest("demo", "ann@laptop;Linux")
    right, wrong = (by_session, by_client) if version.has_sessions else (by_client, by_session)
    check_fields(right, version)
    with pytest.raises(MessageError):
        check_fields(wrong, version)


def test_a_version_is_its_header_in_messages_and_nothing_else_equals_it() -> None:
    assert [str(version) for version in VERSIONS] == ["LTP/0.2", "LTP/0.3"]
    assert LTP_0_2 != LTP_0_3
    assert LTP_0_3.header != LTP_0_3
