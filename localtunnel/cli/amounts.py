"""Amounts as people write them: bytes a second, moments as a duration from now or as a
date, and how many."""

import datetime
import re

from localtunnel.errors import ConfigError

_RATE = re.compile(r"([0-9]{1,15})([kMG]?)", re.ASCII)
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}

_DURATION = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


LATEST = datetime.datetime(9999, 1, 1, tzinfo=datetime.timezone.utc).timestamp()
"""Seconds since 1970 beyond which a time is taken for a typing error. Earlier dates can
be shown in every time zone."""


def parse_rate(text: str) -> int:
    """Return bytes a second for ``500k``, ``10M`` or ``1000000``; k, M and G are powers
    of 1000. Raises ConfigError."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not a rate; write bytes a second, such as 500k, 10M or 1000000.")
    return int(match[1]) * _FACTORS[match[2]]


def parse_moment(text: str, now: float) -> float:
    """Return the time that ``text`` names, in seconds since 1970: ``30d`` is 30 days
    after ``now``.

    A date, with or without a time (ISO 8601), is in UTC unless it says otherwise.
    Raises ConfigError, also for a time in the past or after ``LATEST``.
    """
    moment = _moment(text, now)
    if moment <= now:
        raise ConfigError(f"{text!r} is in the past; write a time in the future.")
    if moment > LATEST:
        raise ConfigError(f"{text!r} is after the year 9998; write an earlier time, or never.")
    return moment


def _moment(text: str, now: float) -> float:
    match = _DURATION.fullmatch(text)
    if match is not None:
        return now + int(match[1]) * _SECONDS[match[2]]
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"{text!r} is not a time; write a duration, such as 12h, 30d or 8w, or a date, such as 2027-01-31."
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()


def show_moment(seconds: float) -> str:
    """Return a time since 1970 as date and minute in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def rfc3339(seconds: float) -> str:
    """Return a time since 1970 in UTC and to the millisecond, as programs read it:
    ``2027-01-31T12:00:00.000Z``."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def how_many(count: int, noun: str) -> str:
    """Return ``1 tunnel`` or ``2 tunnels``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def show_duration(seconds: float) -> str:
    """Return seconds as people read them: ``0.4 ms``, ``12 ms``, ``1.5 s``, ``2m05s``,
    ``3h20m``."""
    if seconds < 0.9995:
        return show_milliseconds(seconds)
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"


def show_milliseconds(seconds: float) -> str:
    """Return ``0.4 ms`` or ``12 ms``: a decimal is noise in what takes longer."""
    return f"{seconds * 1000:.1f} ms" if seconds < 0.00995 else f"{seconds * 1000:.0f} ms"


def show_size(size: int) -> str:
    """Return bytes as people read them: ``0 B``, ``999 B``, ``1.4 kB``, ``23 MB``; kB
    and MB are powers of 1000."""
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 9.95:
            return f"{amount:.1f} {unit}"
        if amount < 999.5:
            return f"{amount:.0f} {unit}"
    return f"{amount / 1000:.1f} TB"
