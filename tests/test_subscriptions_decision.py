"""What the end of a connection means, and how long to wait after it: decided without I/O."""

from __future__ import annotations

import ssl

import aiohttp
import pytest

from graphql_prod import (
    ConfigurationError,
    HTTPStatusError,
    RequestTimeoutError,
    SubscriptionClosedError,
    SubscriptionPolicy,
    TransportError,
)
from graphql_prod.subscriptions.backoff import ReconnectBackoff
from graphql_prod.subscriptions.endings import RejectedError, SilenceError, SocketClosed, UpgradeRefusedError
from graphql_prod.subscriptions.losses import loss_of
from graphql_prod.subscriptions.protocol import UnreadableError
from graphql_prod.subscriptions.reconnect import ReconnectDecision, should_reconnect

FATAL = SubscriptionPolicy().fatal_close_codes
SILENT = SilenceError("did not answer a ping within 1 s", "Look.", "read")

# What happened: the verdict on a first connection, and on one that was up before.
TABLE: list[tuple[Exception, ReconnectDecision, ReconnectDecision]] = [
    *((SocketClosed(code), ReconnectDecision.FATAL, ReconnectDecision.FATAL) for code in sorted(FATAL)),
    *(
        (SocketClosed(code), ReconnectDecision.AGAIN, ReconnectDecision.AGAIN)
        for code in (None, 1000, 1001, 1005, 1008, 1011, 1012, 1013, 1014, 3000, 4000, 4408, 4499, 4999)
    ),
    *(
        (UpgradeRefusedError(status, {}), ReconnectDecision.FATAL, ReconnectDecision.FATAL)
        for status in (401, 403)
    ),
    *(
        (UpgradeRefusedError(status, {}), ReconnectDecision.FATAL, ReconnectDecision.AGAIN)
        for status in (200, 302, 400, 404)
    ),
    *(
        (UpgradeRefusedError(status, {}), ReconnectDecision.AGAIN, ReconnectDecision.AGAIN)
        for status in (408, 429, 500, 503)
    ),
    (RejectedError("no"), ReconnectDecision.FATAL, ReconnectDecision.FATAL),
    (UnreadableError("sent a message that is no JSON"), ReconnectDecision.FATAL, ReconnectDecision.FATAL),
    (SILENT, ReconnectDecision.AGAIN, ReconnectDecision.AGAIN),
    (ConnectionRefusedError(), ReconnectDecision.AGAIN, ReconnectDecision.AGAIN),
    (ConnectionResetError(), ReconnectDecision.AGAIN, ReconnectDecision.AGAIN),
    (TimeoutError(), ReconnectDecision.AGAIN, ReconnectDecision.AGAIN),
    (aiohttp.ServerDisconnectedError(), ReconnectDecision.AGAIN, ReconnectDecision.AGAIN),
    (ssl.SSLCertVerificationError("self-signed"), ReconnectDecision.FATAL, ReconnectDecision.AGAIN),
    (aiohttp.InvalidURL("x"), ReconnectDecision.FATAL, ReconnectDecision.AGAIN),
    (LookupError("a transport's own"), ReconnectDecision.FATAL, ReconnectDecision.AGAIN),
]


@pytest.mark.parametrize(("error", "first", "later"), TABLE, ids=lambda value: repr(value)[:60])
def test_verdicts(error: Exception, first: ReconnectDecision, later: ReconnectDecision) -> None:
    """One table says whether a connection comes back, at first and later."""
    loss = loss_of(error)
    assert should_reconnect(loss, FATAL, established=False, renewable=False) is first
    assert should_reconnect(loss, FATAL, established=True, renewable=False) is later


@pytest.mark.parametrize(
    "error",
    [SocketClosed(4401), SocketClosed(4403), UpgradeRefusedError(401, {}), RejectedError("")],
    ids=repr,
)
def test_credentials_are_renewed_where_they_can_be(error: Exception) -> None:
    """Only refusals of credentials, and only while there are others to try."""
    loss = loss_of(error)
    assert should_reconnect(loss, FATAL, established=True, renewable=True) is ReconnectDecision.RENEW
    assert should_reconnect(loss, FATAL, established=True, renewable=False) is ReconnectDecision.FATAL
    assert (
        should_reconnect(loss_of(SocketClosed(4400)), FATAL, established=True, renewable=True)
        is ReconnectDecision.FATAL
    )


def test_the_table_is_a_setting() -> None:
    """A code taken out of the fatal ones reconnects; one put in ends."""
    assert (
        should_reconnect(loss_of(SocketClosed(4403)), frozenset(), established=True, renewable=False)
        is ReconnectDecision.AGAIN
    )
    only = frozenset({1012})
    assert (
        should_reconnect(loss_of(SocketClosed(1012)), only, established=True, renewable=False)
        is ReconnectDecision.FATAL
    )


# What ended it: the error of a first connection, what it says, and the reason that a later one gives.
ERRORS: list[tuple[Exception, type[Exception], str, str]] = [
    (
        SocketClosed(4403, "Forbidden"),
        SubscriptionClosedError,
        "closed the connection with 4403",
        "Forbidden",
    ),
    (SocketClosed(4999), SubscriptionClosedError, "what the server means", "closed the connection with 4999"),
    (SocketClosed(None), TransportError, "without a word", "connection lost"),
    (UpgradeRefusedError(503, {"Retry-After": "7"}), HTTPStatusError, "503 Service Unavailable", "503"),
    (UpgradeRefusedError(401, {}), SubscriptionClosedError, "401 Unauthorized", "401"),
    (SILENT, RequestTimeoutError, "did not answer a ping within 1 s", "did not answer a ping within 1 s"),
    (ConnectionRefusedError(), TransportError, "Check that it is up", "connect"),
    (aiohttp.ConnectionTimeoutError(), RequestTimeoutError, "did not accept a connection", "connect timeout"),
    (
        RejectedError("no"),
        SubscriptionClosedError,
        "refused the connection (no)",
        "refused the connection (no)",
    ),
    (UnreadableError("sent no JSON"), SubscriptionClosedError, "sent no JSON", "sent no JSON"),
    (LookupError("own"), LookupError, "own", "client error"),
]


@pytest.mark.parametrize(("error", "kind", "words", "reason"), ERRORS, ids=lambda value: repr(value)[:40])
def test_errors(error: Exception, kind: type[Exception], words: str, reason: str) -> None:
    """A first connection that fails raises what it was; one that was up, always SubscriptionClosedError."""
    loss = loss_of(error)
    first = loss.error("host:1", "after 2 attempts in 1.00 s", established=False)
    assert type(first) is kind
    assert words in str(first)
    if first is not error:
        assert str(first).startswith("host:1 ")
        assert "after 2 attempts in 1.00 s" in str(first)
    if isinstance(error, OSError):
        assert first.__cause__ is error
    if isinstance(first, RequestTimeoutError):
        assert first.phase == ("read" if error is SILENT else "connect")
    later = loss.error("host:1", "in mid-stream", established=True)
    assert isinstance(later, SubscriptionClosedError)
    assert later.close_code == getattr(error, "code", 4400 if isinstance(error, UnreadableError) else None)
    assert reason in (later.close_reason or "")
    if isinstance(error, OSError | LookupError):
        assert later.__cause__ is error
        assert loss.cause is error
    for told in (first, later):
        assert "None" not in str(told)


def test_a_refused_upgrade_keeps_its_facts() -> None:
    """Status, headers and Retry-After are there for code, also below a fatal end."""
    loss = loss_of(UpgradeRefusedError(503, {"Retry-After": "7"}))
    error = loss.error("host", "", established=False)
    assert isinstance(error, HTTPStatusError)
    assert (error.status, error.retry_after, error.headers["retry-after"]) == (503, 7.0, "7")
    assert loss.retry_after == 7.0
    cause = loss_of(UpgradeRefusedError(401, {})).error("host", "", established=True).__cause__
    assert isinstance(cause, HTTPStatusError)
    assert (cause.status, cause.response.json) == (401, {})
    refused, raised = UpgradeRefusedError(503, {}), aiohttp.ClientError()
    refused.__cause__ = raised
    assert loss_of(refused).error("host", "", established=False).__cause__ is raised
    refused.__cause__ = KeyboardInterrupt()
    assert loss_of(refused).cause is None


@pytest.mark.parametrize(
    ("status", "location", "what", "hint"),
    [
        (200, "", "200 OK", "endpoint's path"),
        (300, "", "300 Multiple Choices, a redirect that is not followed", "target the endpoint"),
        (
            302,
            "https://b.example/x?y",
            "302 Found, a redirect to b.example that is not",
            "target the endpoint",
        ),
        (400, "", "400 Bad Request", "log of the server"),
        (401, "", "401 Unauthorized", "credentials"),
        (404, "", "404 Not Found", "endpoint's path"),
        (405, "", "405 Method Not Allowed", "log of the server"),
    ],
)
def test_what_a_refused_upgrade_says(status: int, location: str, what: str, hint: str) -> None:
    """The status in words, where a redirect leads without what may be secret in it, and what to look at."""
    loss = loss_of(UpgradeRefusedError(status, {"Location": location} if location else {}))
    assert loss.what.startswith(f"answered the WebSocket upgrade with {what}")
    assert hint in loss.hint


def test_backoff_doubles_up_to_its_longest() -> None:
    """Each wait is drawn from 0 to a limit that doubles; what the server asks for comes on top."""
    backoff = ReconnectBackoff(SubscriptionPolicy(wait_initial=1, wait_max=8))
    for longest in (1, 2, 4, 8, 8, 8):
        assert 0 <= backoff.wait() <= longest
    backoff.forget()
    assert 3 <= backoff.wait(floor=3) <= 4
    assert backoff.wait(floor=3600) == 8
    backoff.forget()
    assert backoff.wait() <= 1


def test_backoff_reaches_its_limits() -> None:
    """Full jitter: in a thousand draws some lie near 0 and some near the limit."""
    draws = [ReconnectBackoff(SubscriptionPolicy(wait_initial=1, wait_max=1)).wait() for _ in range(1000)]
    assert min(draws) < 0.1
    assert max(draws) > 0.9


def test_a_long_outage_does_not_overflow() -> None:
    """Days of attempts leave the wait what it was."""
    backoff = ReconnectBackoff(SubscriptionPolicy(wait_initial=0.5, wait_max=30))
    assert all(backoff.wait() <= 30 for _ in range(5000))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"wait_initial": 40}, None),
        ({"wait_initial": 5, "wait_max": 1}, "wait_initial, wait_max"),
        ({"connect_attempts": 0}, "connect_attempts"),
        ({"max_queue": 0}, "max_queue"),
        ({"overflow": "spill"}, "overflow"),
        ({"ping_interval": 0}, "ping_interval"),
        ({"fatal_close_codes": [99]}, "fatal_close_codes"),
        ({"max_reconnects": -1}, "max_reconnects"),
        ({"lingers": 1}, "lingers"),
        ({"fatal_close_codes": "4400, 4403"}, None),
        ({"ack_timeout": None, "ping_interval": None, "pong_timeout": None, "max_reconnects": None}, None),
    ],
    ids=str,
)
def test_policies(settings: dict[str, object], named: str | None) -> None:
    """Numbers that contradict one another or make no sense are refused, naming them."""
    if named is None:
        SubscriptionPolicy(**settings)  # type: ignore[arg-type]
        return
    with pytest.raises(ConfigurationError, match=named):
        SubscriptionPolicy(**settings)  # type: ignore[arg-type]
