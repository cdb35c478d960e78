"""Whether an answer says "slow down", and for how long: pure functions over status, headers and JSON."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphql_prod.resilience.retry.retry_after import retry_after, values_of
from graphql_prod.throttling.policy import ThrottlingPolicy, canonical
from graphql_prod.throttling.quotas import Quota, number, quotas_of

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 7 * 86_400.0
"""Seconds that no hint exceeds: the longest quota of a public API is a day's."""
UNNAMED = 60.0
"""Seconds that GitHub asks to wait after a secondary limit where it names no time: its documentation."""

_SECONDARY = re.compile(r"secondary rate limit|abuse detection mechanism", re.IGNORECASE)
_CODE_KEYS = ("code", "type", "errorType")
_STATUS_KEYS = ("status_code", "statusCode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """What an answer says of a quota. Also what a ``throttle_reader`` returns.

    :ivar refused: whether the call was refused, and did not run.
    :ivar wait: seconds until the server allows another attempt; None where it does not say.
    :ivar reason: a few fixed words, for logs and metrics.
    :ivar quotas: the quotas that the answer tells of; only ``mode="pace"`` looks at them.
    :ivar cost: what this call has cost of them, or would have; None where it is not said.
    """

    refused: bool = True
    wait: float | None = None
    reason: str = "throttled"
    quotas: tuple[Quota, ...] = ()
    cost: float | None = None


Reader = Callable[[int | None, Mapping[str, str], Any], Throttle | None]
"""A program's own: status, headers and JSON of an answer; None where it has nothing to say."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What refuses a call, as it is compared."""

    statuses: frozenset[int]
    codes: frozenset[str]
    preset: str | None

    @classmethod
    def of(cls, policy: ThrottlingPolicy) -> Rules:
        """Those of a policy."""
        return cls(policy.statuses, policy.all_codes, policy.preset)


def recognised(
    status: int | None, headers: Mapping[str, str], json: Any, rules: Rules, *, nothing_ran: bool, now: float
) -> Throttle | None:
    """What a failed answer says; None if it does not refuse the call for coming too soon.

    Never raises, and never names a wait that is negative, no number or without end.

    :param nothing_ran: whether the answer says that no part of a mutation ran; True for a query.
    :param now: seconds since the epoch, for an answer without a ``Date``.
    """
    body = json if isinstance(json, dict) else {}
    if body.get("data") is not None or not nothing_ran:
        return None
    reason, unnamed = _refusal(status, headers, body, rules)
    if reason is None:
        return None
    found = quotas_of(headers, body, now)
    return Throttle(
        wait=wait_of(headers, body, found, now, unnamed),
        reason=reason,
        quotas=found,
        cost=cost_of(body),
    )


def _refusal(
    status: int | None, headers: Mapping[str, str], body: Mapping[str, Any], rules: Rules
) -> tuple[str | None, float | None]:
    """Why the call was refused, and how long to wait where nothing else says so."""
    if rules.preset == "github" and status in (None, 200, 403, 429) and _tells_of_secondary(body):
        return "secondary limit", UNNAMED
    if status in rules.statuses:
        return f"status {status}", None
    errors = body.get("errors")
    if isinstance(errors, list) and errors and all(isinstance(each, dict) for each in errors):
        if all(_has_code(each, rules.codes) for each in errors):
            return "error code", None
    elif ((isinstance(errors, list) and errors) or "error_code" in body or "error_message" in body) and (
        _is_known(body.get("error_code"), rules.codes) or _has_status(body, 429)
    ):
        return "error code", None  # errors that are texts: the facts stand beside them
    if status == 403 and (retry_after(headers) is not None or _exhausted(headers)):
        return "status 403", None
    return None, None


def _has_status(body: Mapping[str, Any], status: int) -> bool:
    holders = (body, body.get("extensions"))
    return any(
        number(holder.get(key)) == status
        for holder in holders
        if isinstance(holder, dict)
        for key in _STATUS_KEYS
    )


def _tells_of_secondary(body: Mapping[str, Any]) -> bool:
    errors = body.get("errors")
    texts = [body.get("message")]
    if isinstance(errors, list):
        texts += [each.get("message") for each in errors if isinstance(each, dict)]
    return any(isinstance(text, str) and _SECONDARY.search(text[:2000]) for text in texts)


def _has_code(error: Mapping[str, Any], codes: frozenset[str]) -> bool:
    return any(_is_known(code, codes) for code in _codes(error))


def _codes(error: Mapping[str, Any]) -> Iterator[object]:
    extensions = error.get("extensions")
    for holder in (extensions, error):
        if isinstance(holder, dict):
            for key in _CODE_KEYS:
                yield holder.get(key)


def _is_known(code: object, codes: frozenset[str]) -> bool:
    return isinstance(code, str) and len(code) <= 100 and canonical(code) in codes


def _exhausted(headers: Mapping[str, str]) -> bool:
    for name in headers:
        lowered = name.lower()
        if lowered.startswith("x-ratelimit-") and "remaining" in lowered:
            values = values_of(headers, name)
            if any(number(value) == 0 for value in values):
                return True
    return False


def wait_of(
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    quotas: tuple[Quota, ...],
    now: float,
    unnamed: float | None = None,
) -> float | None:
    """The longest wait that an answer names; None if it names none.

    The end of a quota counts where the quota is used up, or does not say how much is left. Where all that are
    named have something left, and nothing else names a time, the latest of their ends counts: the call was
    too expensive for what is left.

    :param unnamed: what counts where nothing else does.
    """
    hints = [retry_after(headers), _retry_in(body), _restored(body)]
    open_ends: list[float] = []
    for quota in quotas:
        if quota.reset is None or quota.restore_rate is not None:
            continue
        (open_ends if quota.remaining is not None and quota.remaining > 0 else hints).append(quota.reset)
    known = [each for each in map(bounded, hints) if each is not None]
    if not known:
        known = [unnamed] if unnamed is not None else [each for each in map(bounded, open_ends) if each]
    return max(known, default=None)


def bounded(wait: float | None) -> float | None:
    """A wait that can be waited: from 0 on, finite, a week at most."""
    if wait is None or not math.isfinite(wait):
        return None if wait is None or math.isnan(wait) or wait < 0 else LONGEST
    return min(max(wait, 0.0), LONGEST)


def _retry_in(body: Mapping[str, Any]) -> float | None:
    holders: list[Any] = [body, body.get("extensions")]
    errors = body.get("errors")
    if isinstance(errors, list):
        for error in errors[:10]:
            if isinstance(error, dict):
                holders += [error, error.get("extensions")]
    found = [
        number(holder.get(key))
        for holder in holders
        if isinstance(holder, dict)
        for key in ("retry_in_seconds", "retryInSeconds", "retryAfter", "retry_after")
    ]
    return max((each for each in found if each is not None), default=None)


def _restored(body: Mapping[str, Any]) -> float | None:
    """Seconds until a bucket of points holds what the call asks for."""
    cost = _cost(body)
    status = cost.get("throttleStatus")
    if not isinstance(status, dict):
        return None
    wanted, there = number(cost.get("requestedQueryCost")), number(status.get("currentlyAvailable"))
    rate = number(status.get("restoreRate"))
    if wanted is None or there is None or rate is None or rate <= 0 or wanted <= there:
        return None
    return (wanted - there) / rate


def cost_of(body: Mapping[str, Any]) -> float | None:
    """What the call has to have in the bucket before it is let in; None where it is not said."""
    cost = _cost(body)
    found = number(cost.get("requestedQueryCost"))
    return found if found is not None and found > 0 else number(cost.get("actualQueryCost"))


def _cost(body: Mapping[str, Any]) -> dict[str, Any]:
    extensions = body.get("extensions")
    cost = extensions.get("cost") if isinstance(extensions, dict) else None
    return cost if isinstance(cost, dict) else {}


def wall_clock() -> float:
    """Seconds since the epoch, for answers without a ``Date``."""
    return time.time()
