"""What an answer says of quotas: in headers, old and new, and in the extensions of its JSON. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from graphql_prod.resilience.retry.retry_after import moment_of, values_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST = 8
"""Quotas of one answer that are looked at: public APIs have up to three."""

# Above this a reset is a moment since the epoch, above that one in milliseconds.
_EPOCH, _MILLISECONDS = 1e8, 1e11

_LEGACY = re.compile(r"x-rate-?limit-(?:([a-z0-9_-]+)-)?(limit|remaining|reset)(?:-([a-z0-9_-]+))?", re.ASCII)
_NUMBER = re.compile(r"\s*(-?\d{1,18}(?:\.\d{0,9})?)\s*(?:[,;].*)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One quota, as an answer tells of it. None where it does not say.

    :ivar name: by which later answers mean the same one.
    :ivar limit: calls, or points, that it holds in all.
    :ivar remaining: those that are left.
    :ivar reset: seconds until it is whole again.
    :ivar window: seconds that it is for.
    :ivar restore_rate: points that come back a second; None for a quota that comes back all at once.
    """

    name: str = "quota"
    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    window: float | None = None
    restore_rate: float | None = None


def number(value: object) -> float | None:
    """A finite number, also one that is written as a text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value[:60])
        return float(match.group(1)) if match is not None else None
    if isinstance(value, int | float | Decimal):
        try:
            found = float(value)
        except OverflowError:
            return None
        return found if math.isfinite(found) else None
    return None


def quotas_of(headers: Mapping[str, str], body: Mapping[str, Any], now: float) -> tuple[Quota, ...]:
    """The quotas that an answer tells of. Never raises; what cannot be read is as good as not there.

    :param now: seconds since the epoch, for an answer without a ``Date``.
    """
    found = [*_of_points(body), *_of_rate_limit(headers, now), *_of_legacy(headers, now)]
    return tuple(found[:MOST])


def _of_points(body: Mapping[str, Any]) -> Iterator[Quota]:
    extensions = body.get("extensions")
    cost = extensions.get("cost") if isinstance(extensions, dict) else None
    status = cost.get("throttleStatus") if isinstance(cost, dict) else None
    if isinstance(status, dict):
        there = _amount(status.get("currentlyAvailable"))
        rate = number(status.get("restoreRate"))
        if there is not None:
            yield Quota(
                name="cost",
                limit=_amount(status.get("maximumAvailable")),
                remaining=there,
                restore_rate=rate if rate is not None and rate > 0 else None,
            )


def _of_rate_limit(headers: Mapping[str, str], now: float) -> Iterator[Quota]:
    """The IETF's: draft 11, and what its older drafts were."""
    values, policies = values_of(headers, "RateLimit"), values_of(headers, "RateLimit-Policy")
    if values:
        windows = dict(_items(policies))
        items = _items(values)
        for name, facts in items:
            known = windows.get(name, {})
            yield _quota(name, known.get("q"), facts.get("r"), facts.get("t"), known.get("w"), now)
        if not items and (facts := _dictionary(values)):
            yield _quota(
                "quota", facts.get("limit"), facts.get("remaining"), facts.get("reset"), facts.get("w"), now
            )
        return
    single = {
        part: next(iter(values_of(headers, f"RateLimit-{part}")), None)
        for part in ("Limit", "Remaining", "Reset")
    }
    if any(value is not None for value in single.values()):
        window = next((facts.get("w") for _, facts in _items(policies) if facts.get("w") is not None), None)
        yield _quota("quota", single["Limit"], single["Remaining"], single["Reset"], window, now)


def _of_legacy(headers: Mapping[str, str], now: float) -> Iterator[Quota]:
    """``X-RateLimit-Remaining`` and all that is called like it, by what stands around that word."""
    families: dict[str, dict[str, str]] = {}
    for name in list(headers):
        match = _LEGACY.fullmatch(name.lower()[:100])
        if match is not None:
            before, part, after = match.groups()
            value = next(iter(values_of(headers, name)), "")
            families.setdefault(before or after or "quota", {}).setdefault(part, value)
    dated: float | None = None
    for name, facts in families.items():
        if dated is None:
            dated = date_of(headers, now)
        yield _quota(name, facts.get("limit"), facts.get("remaining"), facts.get("reset"), None, dated)


def _quota(name: str, limit: object, remaining: object, reset: object, window: object, now: float) -> Quota:
    wide = number(window)
    return Quota(
        name=name,
        limit=_amount(limit),
        remaining=_amount(remaining),
        reset=_until(reset, now),
        window=wide if wide is not None and wide > 0 else None,
    )


def _amount(value: object) -> float | None:
    found = number(value)
    return None if found is None else max(found, 0.0)


def _until(value: object, now: float) -> float | None:
    """Seconds until a reset: a number of them, or a moment since the epoch, in seconds or milliseconds."""
    found = number(value)
    if found is None:
        if not isinstance(value, str):
            return None
        moment = moment_of(value.strip()[:60])
        return None if moment is None else max(0.0, moment.timestamp() - now)
    if found > _MILLISECONDS:
        found /= 1000
    if found > _EPOCH:
        found -= now
    return max(found, 0.0)


def date_of(headers: Mapping[str, str], now: float) -> float:
    """The server's own clock, in seconds since the epoch."""
    for value in values_of(headers, "Date"):
        moment = moment_of(value.strip())
        if moment is not None:
            return moment.timestamp()
    return now


def _items(values: list[str]) -> list[tuple[str, dict[str, object]]]:
    """A structured field that is a list of named items; empty where it is none."""
    found: list[tuple[str, dict[str, object]]] = []
    for item in _parsed(values, "list") or ():
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], dict):
            value, parameters = item
            if isinstance(value, str) and not isinstance(value, list):
                found.append((str(value)[:100], parameters))
    return found


def _dictionary(values: list[str]) -> dict[str, object]:
    parsed = _parsed(values, "dictionary")
    if not isinstance(parsed, dict):
        return {}
    return {key: value[0] if isinstance(value, tuple) and value else value for key, value in parsed.items()}


def _parsed(values: list[str], kind: Any) -> Any:
    if not values:
        return None
    import http_sf  # only where a server sends such a header

    try:
        return http_sf.parse(", ".join(values)[:4000].encode("ascii"), tltype=kind)
    except (ValueError, RecursionError, ArithmeticError):
        return None
