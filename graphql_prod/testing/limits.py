"""Limits of calls as public APIs have them, and what their answers say of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from graphql_prod import clock

from .answers import JSON, Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

Style = Literal["github", "ratelimit", "linear"]


class Limit(Protocol):
    """A limit of a :class:`RateLimitedServer`."""

    def admit(self, cost: float) -> tuple[bool, Answer | None, Mapping[str, str], Mapping[str, Any]]:
        """Judge a call: whether it is let in, the refusal if not, and headers and extensions to add."""

    def left(self) -> None:
        """A call that was let in has been answered."""


@dataclass(slots=True)
class PointsBucket:
    """Points that come back at a rate, as Shopify has them: a call that is too expensive is refused.

    :param capacity: points that the bucket holds; it begins full.
    :param restore_rate: points that come back a second.
    """

    capacity: float = 1000.0
    restore_rate: float = 50.0
    _there: float | None = field(default=None, init=False)
    _at: float = field(default=0.0, init=False)

    def admit(self, cost: float) -> tuple[bool, Answer | None, Mapping[str, str], Mapping[str, Any]]:
        now = clock.monotonic()
        there = self.capacity if self._there is None else self._there + self.restore_rate * (now - self._at)
        there = min(self.capacity, there)
        admitted = there >= cost
        self._there, self._at = there - cost if admitted else there, now
        told = {
            "requestedQueryCost": cost,
            "actualQueryCost": cost if admitted else None,
            "throttleStatus": {
                "maximumAvailable": self.capacity,
                "currentlyAvailable": math.floor(self._there),
                "restoreRate": self.restore_rate,
            },
        }
        if admitted:
            return True, None, {}, {"cost": told}
        body = {
            "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
            "extensions": {"cost": told},
        }
        return False, Answer(body=body, media_type=JSON), {}, {}

    def left(self) -> None:
        """Nothing is given back."""


@dataclass(slots=True)
class FixedWindow:
    """So many calls, or points, in each window; then nothing until the next one begins.

    :param limit: calls, or points where operations have costs.
    :param window: seconds.
    :param style: ``"github"`` tells by ``x-ratelimit-*`` with an epoch in seconds and refuses under 200,
        ``"linear"`` with an epoch in milliseconds and refuses under 400; ``"ratelimit"`` tells by the IETF's
        ``RateLimit`` and ``RateLimit-Policy`` and refuses with 429 and ``Retry-After``.
    """

    limit: float = 100.0
    window: float = 10.0
    style: Style = "ratelimit"
    _began: float | None = field(default=None, init=False)
    _left: float = field(default=0.0, init=False)

    def admit(self, cost: float) -> tuple[bool, Answer | None, Mapping[str, str], Mapping[str, Any]]:
        now = clock.monotonic()
        if self._began is None or now >= self._began + self.window:
            passed = 0.0 if self._began is None else (now - self._began) // self.window
            self._began = now if self._began is None else self._began + passed * self.window
            self._left = self.limit
        admitted = self._left >= cost
        self._left -= cost if admitted else 0.0
        seconds = self._began + self.window - now
        headers = self._headers(seconds)
        if admitted:
            return True, None, headers, {}
        return False, self._refusal(headers, seconds), {}, {}

    def _headers(self, seconds: float) -> dict[str, str]:
        left, limit = math.floor(self._left), math.floor(self.limit)
        if self.style == "ratelimit":
            return {
                "RateLimit": f'"default";r={left};t={math.ceil(seconds)}',
                "RateLimit-Policy": f'"default";q={limit};w={math.ceil(self.window)}',
            }
        # As their clocks would say it: the epoch of the reader's own, which a Date of 0 stands for.
        name = "x-ratelimit-" if self.style == "github" else "x-ratelimit-requests-"
        reset = _DATE + math.ceil(seconds)
        return {
            f"{name}limit": str(limit),
            f"{name}remaining": str(left),
            f"{name}reset": str(reset if self.style == "github" else reset * 1000),
            "Date": _DATE_TEXT,
        }

    def _refusal(self, headers: dict[str, str], seconds: float) -> Answer:
        if self.style == "ratelimit":
            retry = {"Retry-After": str(math.ceil(seconds))}
            return Answer(status=429, body="too many requests", headers={**headers, **retry})
        if self.style == "github":
            error: dict[str, Any] = {"type": "RATE_LIMITED", "message": "API rate limit exceeded"}
            return Answer(body={"errors": [error]}, media_type=JSON, headers=headers)
        error = {"message": "Rate limit exceeded", "extensions": {"code": "RATELIMITED"}}
        return Answer(status=400, body={"errors": [error]}, media_type=JSON, headers=headers)

    def left(self) -> None:
        """Nothing is given back."""


@dataclass(slots=True)
class ConcurrencyLimit:
    """So many calls at once; it is told only by refusing.

    :param most: calls under way.
    :param retry_after: seconds that a refusal asks to wait; None: it does not say.
    """

    most: int = 10
    retry_after: float | None = 1.0
    _under_way: int = field(default=0, init=False)

    def admit(self, cost: float) -> tuple[bool, Answer | None, Mapping[str, str], Mapping[str, Any]]:
        if self._under_way < self.most:
            self._under_way += 1
            return True, None, {}, {}
        headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        return False, Answer(status=429, body="too many at once", headers=headers), {}, {}

    def left(self) -> None:
        self._under_way -= 1


@dataclass(slots=True)
class SecondaryLimit:
    """So many points in any span of time, told of by a text alone: GitHub's secondary limit.

    :param points: points in the span.
    :param span: seconds.
    :param retry_after: seconds that a refusal asks to wait; None: it does not say.
    """

    points: float = 2000.0
    span: float = 60.0
    retry_after: float | None = None
    _spent: list[tuple[float, float]] = field(default_factory=list, init=False)

    def admit(self, cost: float) -> tuple[bool, Answer | None, Mapping[str, str], Mapping[str, Any]]:
        now = clock.monotonic()
        self._spent = [(at, points) for at, points in self._spent if now - at < self.span]
        if sum(points for _, points in self._spent) + cost <= self.points:
            self._spent.append((now, cost))
            return True, None, {}, {}
        headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        error = {"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}
        return False, Answer(body={"errors": [error]}, media_type=JSON, headers=headers), {}, {}

    def left(self) -> None:
        """Nothing is given back."""


_DATE = 1_800_000_000
_DATE_TEXT = "Fri, 15 Jan 2027 08:00:00 GMT"
