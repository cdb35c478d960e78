"""What answers say of "slow down": one pure function over status, headers and JSON."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from graphql_prod import ThrottlingPolicy
from graphql_prod.throttling.quotas import Quota, number, quotas_of
from graphql_prod.throttling.recognition import LONGEST, Rules, Throttle, recognised

NOW = 1_800_000_000.0
DATE = {"Date": "Fri, 15 Jan 2027 08:00:00 GMT"}
"""The same moment."""


def judged(
    status: int | None,
    headers: dict[str, str] | None = None,
    json: Any = None,
    *,
    nothing_ran: bool = True,
    **policy: Any,
) -> Throttle | None:
    """What a policy makes of an answer."""
    rules = Rules.of(ThrottlingPolicy(**{"mode": "retry", **policy}))
    return recognised(status, CIMultiDict(headers or {}), json, rules, nothing_ran=nothing_ran, now=NOW)


def coded(code: str, **more: Any) -> dict[str, Any]:
    """A request error with a code."""
    return {"errors": [{"message": "slow down", "extensions": {"code": code, **more}}]}


SHOPIFY = {
    "requestedQueryCost": 101,
    "actualQueryCost": None,
    "throttleStatus": {"maximumAvailable": 1000.0, "currentlyAvailable": 1, "restoreRate": 50.0},
}


@pytest.mark.parametrize(
    ("status", "headers", "json", "preset", "wait"),
    [
        # GitHub: the primary limit, in the shapes that were seen.
        (
            200,
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW + 90:.0f}", **DATE},
            {"errors": [{"type": "RATE_LIMITED", "message": "x"}]},
            "github",
            90,
        ),
        (200, {}, {"errors": [{"type": "RATE_LIMIT", "message": "x"}]}, "github", None),
        (200, {}, {"errors": [{"code": "graphql_rate_limit", "message": "x"}]}, "github", None),
        # The secondary one: only a text tells; the primary quota, which is not used up, says nothing of it.
        (200, {}, {"errors": [{"message": "You have exceeded a secondary rate limit."}]}, "github", 60),
        (403, {}, {"message": "You have exceeded a secondary rate limit"}, "github", 60),
        (
            403,
            {"Retry-After": "7", "x-ratelimit-remaining": "4000", "x-ratelimit-reset": f"{NOW + 3000:.0f}"},
            {"message": "secondary rate limit"},
            "github",
            7,
        ),
        (429, {"Retry-After": "2"}, None, None, 2),
        (403, {"Retry-After": "2.5"}, None, None, 2.5),
        (403, {"X-RateLimit-Requests-Remaining": "0", "X-RateLimit-Requests-Reset": "12"}, None, None, 12),
        # Shopify: points that are missing, at the rate at which they come back.
        (200, {}, {**coded("THROTTLED"), "extensions": {"cost": SHOPIFY}}, "shopify", 2),
        (200, {"Retry-After": "2.0"}, coded("THROTTLED"), None, 2),
        # Linear: 400, no underscore in the code, milliseconds.
        (
            400,
            {
                "x-ratelimit-requests-remaining": "0",
                "x-ratelimit-requests-reset": f"{(NOW + 30) * 1000:.0f}",
                **DATE,
            },
            coded("RATELIMITED"),
            "linear",
            30,
        ),
        # Several quotas, of which one is used up.
        (
            400,
            {
                "x-ratelimit-requests-remaining": "9",
                "x-ratelimit-requests-reset": "3600",
                "x-ratelimit-complexity-remaining": "0",
                "x-ratelimit-complexity-reset": "40",
            },
            coded("RATELIMITED"),
            "linear",
            40,
        ),
        # All have something left, and too little for this call.
        (
            400,
            {"x-ratelimit-complexity-remaining": "9", "x-ratelimit-complexity-reset": "40"},
            coded("RATELIMITED"),
            "linear",
            40,
        ),
        # monday: errors that are texts, with the facts beside them; and a code alone.
        (
            200,
            {},
            {
                "errors": ["Complexity budget exhausted"],
                "status_code": 429,
                "extensions": {"retry_in_seconds": 13},
            },
            "monday",
            13,
        ),
        (
            200,
            {},
            {"error_code": "ComplexityException", "error_message": "x", "status_code": 429},
            "monday",
            None,
        ),
        (200, {"Retry-After": "5"}, coded("COMPLEXITY_BUDGET_EXHAUSTED", retry_in_seconds=13), "monday", 13),
        (200, {}, coded("DAILY_LIMIT_EXCEEDED", retry_in_seconds=50_000), "monday", 50_000),
        # AppSync and DGS.
        (200, {}, {"errors": [{"errorType": "ThrottlingException", "message": "x"}]}, "appsync", None),
        (
            200,
            {},
            {"errors": [{"message": "x", "extensions": {"errorType": "TOO_MANY_REQUESTS"}}]},
            None,
            None,
        ),
        (429, {}, {"errors": [{"errorType": "TooManyRequestsException", "message": "x"}]}, "appsync", None),
        (200, {}, coded("rate-limit-exceeded"), "hasura", None),
        # The IETF's draft 11, and older ones.
        (
            429,
            {"RateLimit": '"default";r=0;t=30', "RateLimit-Policy": '"default";q=100;w=60'},
            None,
            None,
            30,
        ),
        (429, {"RateLimit": '"day";r=500;t=80000, "minute";r=0;t=30'}, None, None, 30),
        (429, {"RateLimit": "limit=100, remaining=0, reset=5"}, None, None, 5),
        (429, {"RateLimit-Limit": "100", "RateLimit-Remaining": "0", "RateLimit-Reset": "9"}, None, None, 9),
        (429, {"RateLimit": '"default";r=0;t=30', "Retry-After": "50"}, None, None, 50),
        (429, {"RateLimit": "what is this?", "Retry-After": "soon"}, None, None, None),
        # A date that the server's own clock is held against.
        (429, {"Date": "Wed, 21 Oct 2015 07:28:00 GMT", "x-ratelimit-reset": "1445412487"}, None, None, 7),
    ],
)
def test_what_refuses(
    status: int, headers: dict[str, str], json: Any, preset: str | None, wait: float | None
) -> None:
    """Each shape that public APIs send, with the time that it names."""
    policy: dict[str, Any] = {} if preset is None else {"preset": preset}
    found = judged(status, headers, json, **policy)
    assert found is not None
    assert found.refused
    assert found.wait == (None if wait is None else pytest.approx(wait))


@pytest.mark.parametrize(
    ("status", "headers", "json"),
    [
        (200, {}, {"data": {"hello": "x"}}),
        (
            200,
            {},
            {"data": {"hello": None}, "errors": [{"message": "x", "extensions": {"code": "THROTTLED"}}]},
        ),
        (200, {}, {"errors": [{"message": "x", "extensions": {"code": "THROTTLED"}}, {"message": "y"}]}),
        (200, {}, coded("NOT_FOUND")),
        (200, {}, {"errors": ["no such field"], "status_code": 400}),
        (200, {}, {"errors": [{"message": "You have exceeded a secondary rate limit."}]}),  # no preset
        (403, {}, None),
        (403, {"x-ratelimit-remaining": "7"}, None),
        (503, {"Retry-After": "2"}, None),
        (401, {"x-ratelimit-remaining": "0"}, None),
    ],
)
def test_what_does_not(status: int, headers: dict[str, str], json: Any) -> None:
    """Data, errors without such a code among them, and refusals of another kind."""
    assert judged(status, headers, json) is None


def test_what_may_have_run() -> None:
    """An answer that does not say that nothing of a mutation ran refuses nothing."""
    assert judged(429, {}, coded("THROTTLED"), nothing_ran=False) is None


def test_settings_decide() -> None:
    """Statuses and codes are settings; codes are compared without case, underscores and hyphens."""
    assert judged(420, {}, None) is None
    assert judged(420, {}, None, statuses={420}) is not None
    assert judged(429, {}, None, statuses={420}) is None
    assert judged(200, {}, coded("slow-down"), codes={"SLOW_DOWN"}) is not None
    assert judged(200, {}, coded("THROTTLED"), codes={"SLOW_DOWN"}) is None


def test_quotas() -> None:
    """All that an answer tells of them, by name."""
    headers = {
        "RateLimit": '"a";r=5;t=10, "b";r=1',
        "RateLimit-Policy": '"a";q=50;w=60, "b";q=9',
        "x-ratelimit-limit-tokens": "70",
        "x-ratelimit-remaining-tokens": "3",
    }
    found = quotas_of(CIMultiDict(headers), {"extensions": {"cost": SHOPIFY}}, NOW)
    assert set(found) == {
        Quota(name="cost", limit=1000.0, remaining=1.0, restore_rate=50.0),
        Quota(name="a", limit=50.0, remaining=5.0, reset=10.0, window=60.0),
        Quota(name="b", limit=9.0, remaining=1.0),
        Quota(name="tokens", limit=70.0, remaining=3.0),
    }


def test_numbers() -> None:
    """Numbers, also as texts; nothing that is none, and nothing without end."""
    assert [number(each) for each in (3, 2.5, "7", " 2.0 ", "-1", "5;w=60")] == [3, 2.5, 7, 2, -1, 5]
    none: tuple[Any, ...] = (
        True,
        None,
        "",
        "x",
        "1e9",
        math.inf,
        math.nan,
        10**400,
        "9" * 60,
        [],
        {},
        b"3",
        "²",
    )
    assert [number(each) for each in none] == [None] * len(none)


NUMBERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 10**400, 1e308, "NaN", "inf", "1e999", "", "3", "-5", "9" * 30]),
    st.text(max_size=20),
)
CODES = st.one_of(st.sampled_from(["THROTTLED", "RATELIMITED", "x"]), NUMBERS, st.lists(NUMBERS, max_size=2))
EXTENSIONS = st.one_of(
    NUMBERS,
    st.dictionaries(st.sampled_from(["code", "type", "errorType", "retry_in_seconds", "status_code"]), CODES),
)
COST = st.dictionaries(
    st.sampled_from(["requestedQueryCost", "actualQueryCost", "throttleStatus"]),
    st.one_of(
        NUMBERS,
        st.dictionaries(st.sampled_from(["maximumAvailable", "currentlyAvailable", "restoreRate"]), NUMBERS),
    ),
)
ERROR = st.one_of(
    NUMBERS,
    st.dictionaries(
        st.sampled_from(["message", "type", "code", "errorType", "extensions", "path"]),
        st.one_of(CODES, EXTENSIONS),
    ),
)
JSON = st.one_of(
    NUMBERS,
    st.lists(NUMBERS, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "errors": st.one_of(NUMBERS, st.lists(ERROR, max_size=3)),
            "extensions": st.one_of(EXTENSIONS, st.fixed_dictionaries({"cost": st.one_of(NUMBERS, COST)})),
            "error_code": CODES,
            "error_message": NUMBERS,
            "status_code": NUMBERS,
            "retry_in_seconds": NUMBERS,
            "message": NUMBERS,
        },
    ),
)
HEADERS = st.dictionaries(
    st.one_of(
        st.sampled_from(
            [
                *(
                    "Retry-After",
                    "Date",
                    "RateLimit",
                    "RateLimit-Policy",
                    "RateLimit-Reset",
                    "RateLimit-Remaining",
                ),
                *("x-ratelimit-reset", "x-ratelimit-remaining", "X-RateLimit-Requests-Reset", "x-ratelimit-"),
            ]
        ),
        st.text(max_size=30),
    ),
    st.one_of(
        st.text(max_size=40),
        NUMBERS.map(str),
        st.sampled_from(
            ['"a";r=0;t=-5', '"a";r=1e9;t=5', '"a";t=99999999999999', "a=?1", '"a";r="x"', "();r=3"]
        ),
    ),
    max_size=6,
)


@given(
    status=st.one_of(st.none(), st.sampled_from([200, 400, 403, 429, 503]), st.integers()),
    headers=HEADERS,
    json=JSON,
    preset=st.sampled_from([None, "github", "monday", "shopify"]),
    ran=st.booleans(),
)
def test_anything_at_all(
    status: int | None, headers: dict[str, str], json: Any, preset: str | None, ran: bool
) -> None:
    """Whatever a server sends: no exception, and never a wait that is negative, no number or endless."""
    policy = {} if preset is None else {"preset": preset}
    found = judged(status, headers, json, nothing_ran=ran, **policy)
    if found is not None:
        assert ran
        assert found.wait is None or 0 <= found.wait <= LONGEST
        for quota in found.quotas:
            for fact in (quota.limit, quota.remaining, quota.reset):
                assert fact is None or (0 <= fact < math.inf)
