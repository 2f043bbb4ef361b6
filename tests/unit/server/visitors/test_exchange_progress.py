"""localtunnel.server.visitors.exchange: a visitor who moves nothing for too long, and nobody else."""

from localtunnel.server.visitors.exchange import Progress


def test_it_has_stalled_when_nothing_has_moved_for_as_long_as_allowed() -> None:
    progress = Progress(15.0)
    assert [progress.has_stalled(7, 5.0) for _ in range(5)] == [False, False, False, True, True]


def test_every_byte_begins_the_time_anew() -> None:
    progress = Progress(10.0)
    assert not any(progress.has_stalled(count // 2, 5.0) for count in range(100))


def test_nothing_at_all_is_no_movement() -> None:
    """The first look finds zero bytes, and is the one from which the time counts."""
    progress = Progress(5.0)
    assert not progress.has_stalled(0, 5.0)
    assert progress.has_stalled(0, 5.0)


def test_it_may_go_on_after_all() -> None:
    progress = Progress(5.0)
    progress.has_stalled(1, 5.0)
    assert progress.has_stalled(1, 5.0)
    assert not progress.has_stalled(2, 5.0)
