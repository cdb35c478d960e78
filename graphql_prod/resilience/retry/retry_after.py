"""``Retry-After`` in every form that RFC 9110 knows, and in those that servers send all the same."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_tz
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_TIME = r"\d\d:\d\d:\d\d"
# IMF-fixdate (also with a zone in numbers, as mail has it), RFC 850, asctime.
_DATE = (
    rf"[a-z]{{3}},\ \d\d?\ [a-z]{{3}}\ \d{{4}}\ {_TIME}\ (?:gmt|utc|[+-]\d{{4}})"
    rf"|[a-z]{{6,9}},\ \d\d-[a-z]{{3}}-\d\d\ {_TIME}\ gmt"
    rf"|[a-z]{{3}}\ [a-z]{{3}}\ [\d\ ]\d\ {_TIME}\ \d{{4}}"
)
_ITEM = re.compile(rf"\s*(?:({_NUMBER})|({_DATE}))\s*(?:,|\Z)", re.ASCII | re.IGNORECASE)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` asks for, or None; of several wishes the longest.

    Seconds with or without a fraction, or a date, which is held against the answer's own ``Date``: a clock of
    ours that is wrong does no harm. A value that is none of these is as good as none. Never raises.
    """
    wishes: list[float] = []
    for value in values_of(headers, "Retry-After"):
        wishes += _wishes(value, headers)
    return max(wishes, default=None)


def values_of(headers: Mapping[str, str], name: str) -> list[str]:
    """Every value of a header, in the kinds of headers that aiohttp, httpx and websockets have."""
    for every in ("getall", "get_list", "get_all"):
        ask = getattr(headers, every, None)
        if ask is not None:
            return list(ask(name)) if name in headers else []
    return [value for known, value in headers.items() if known.lower() == name.lower()]


def _wishes(value: str, headers: Mapping[str, str]) -> list[float]:
    """The wishes in one value; none of them unless all can be read."""
    found: list[float] = []
    at = 0
    while at < len(value):
        item = _ITEM.match(value, at)
        if item is None:
            return []
        number, date = item.groups()
        seconds = float(number) if number else _until(date, headers)
        if seconds is None:
            return []
        found.append(seconds)
        at = item.end()
    return found


def _until(date: str, headers: Mapping[str, str]) -> float | None:
    then = moment_of(date)
    if then is None:
        return None
    dates = values_of(headers, "Date")
    now = moment_of(dates[0].strip()) if dates else None
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())


def moment_of(date: str) -> datetime | None:
    """The moment that a date of HTTP's names; None where it is none."""
    if re.fullmatch(_DATE, date, re.ASCII | re.IGNORECASE) is None:
        return None
    try:
        parts = parsedate_tz(date)
        if parts is None:
            return None
        year, month, day, hour, minute, second = parts[:6]
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
        return moment.fromtimestamp(moment.timestamp() - (parts[9] or 0), UTC)
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        return None
