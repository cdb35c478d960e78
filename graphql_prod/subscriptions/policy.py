"""The settings of subscriptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WrapValidator

from graphql_prod.settings.base import Listed, Number, Policy, Seconds
from graphql_prod.urls import http_url, redacted

if TYPE_CHECKING:
    from pydantic import ValidatorFunctionWrapHandler

Overflow = Literal["block", "drop_oldest", "error"]

# graphql-ws (the protocol's reference client) ends on the 44XX and 4500; the others are RFC 6455's for
# mistakes that the next connection would make again.
FATAL_CLOSE_CODES = frozenset(
    {4400, 4401, 4403, 4406, 4409, 4429, 4500, 1002, 1003, 1007, 1009, 1010, 1015},
)


# The credentials were refused: codes that servers close with, and what they say where they have none for it.
REFUSED_CLOSE_CODES = frozenset({4401, 4403})
REFUSED_WORDS = frozenset(
    {
        "access denied",
        "auth failed",
        "authentication error",
        "authentication failed",
        "authentication required",
        "authorization failed",
        "authorization required",
        "bad credentials",
        "connection initialization failed",
        "credentials expired",
        "expired jwt",
        "expired token",
        "forbidden",
        "invalid access token",
        "invalid auth token",
        "invalid authentication",
        "invalid authorization",
        "invalid credentials",
        "invalid jwt",
        "invalid signature",
        "invalid token",
        "jwt expired",
        "jwt invalid",
        "jwt not valid",
        "login required",
        "must be authenticated",
        "must be logged in",
        "not authenticated",
        "not authorised",
        "not authorized",
        "not logged in",
        "permission denied",
        "session expired",
        "signature expired",
        "token expired",
        "token invalid",
        "token no longer valid",
        "token not valid",
        "token revoked",
        "unauthenticated",
        "unauthorised",
        "unauthorized",
        "verify jwt",
    }
)

RefusesClose = Callable[[int | None, str | None], bool]


def _or_predicate(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    return value if callable(value) else handler(value)


if TYPE_CHECKING:
    RefusedCloses = frozenset[int] | RefusesClose
else:  # judged as a set, a mistake is told once and not once for each member of a union
    RefusedCloses = Annotated[
        Listed[Annotated[int, Number, Field(ge=1000, le=4999)]],
        WrapValidator(_or_predicate),
        PlainSerializer(lambda value: value),
    ]


EndpointProvider = Callable[[], str | Awaitable[str]]


def _usable_endpoint(value: object) -> object:
    if callable(value):
        return value
    http_url(value)
    return str(value).strip()


if TYPE_CHECKING:
    Endpoint = str | EndpointProvider
else:  # a callable is for code only
    Endpoint = Annotated[
        Any,
        BeforeValidator(_usable_endpoint),
        PlainSerializer(lambda value: redacted(value) if isinstance(value, str) else value),
    ]


class SubscriptionPolicy(Policy):
    """How subscriptions connect, stay alive, reconnect and hand over their events. Times in seconds.

    :param connect_attempts: attempts to connect, in all, before ``subscribe()`` or ``stream()`` raises.
    :param ack_timeout: for one attempt, from the first byte to the server's acknowledgement. None: no limit.
    :param ping_interval: silence after which the server is pinged. None: never.
    :param pong_timeout: silence after a ping that makes the connection a lost one. None: no limit.
    :param wait_initial: the longest wait before the first reconnect; it doubles with each further one.
        The wait is drawn evenly between 0 and that (full jitter), so that not all clients come back at once.
    :param wait_max: the longest wait of all.
    :param max_reconnects: attempts in a row to reconnect, before the subscription ends. None: no limit.
    :param stable_after: how long a connection stays up until the attempts before it are forgotten.
    :param fatal_close_codes: close codes that end a subscription; after any other it reconnects.
    :param refused_close_codes: close codes that refuse the credentials: they are renewed once, then the
        subscription ends. In code also a predicate over code and reason.
    :param refused_words: phrases that refuse the credentials in prose, in the reason of a close or in an
        error; compared as words, without case. The ``auth_error_codes`` of the client are looked for too.
    :param max_queue: events that wait for their reader, at most.
    :param max_queue_bytes: bytes of them, as they came, at most. An event that is larger alone is let through
        when none waits. None: no limit.
    :param overflow: what happens at one event more than either allows: ``"block"`` reads no further,
        ``"drop_oldest"`` drops and tells a gap, ``"error"`` ends the subscription.
    :param callback_executor: True runs callbacks that are plain functions in a thread.
    :param share_connection: True puts subscriptions of the same endpoint, protocol, credentials and
        ``connection_init`` payload on one socket; there ``"block"`` acts as ``"error"``.
    :param idle_timeout: silence of a subscription, without any event, after which it is subscribed anew, its
        connection too where that is its own; reported as a gap. The clock stands still while its queue is
        full. None: silence is no reason.
    :param endpoint: a URL of its own for subscriptions; in code also a sync or async callable that returns
        one, asked at each connect. None: the client's.
    :param compression: True offers permessage-deflate. What inflates is bounded by ``max_response_bytes``.
    :param linger: how long a shared socket stays open after its last subscription.
    """

    secret_keys: ClassVar[frozenset[str]] = frozenset({"endpoint"})
    nested: ClassVar[tuple[tuple[str, str], ...]] = (("wait_initial", "wait_max"),)

    connect_attempts: Annotated[int, Number, Field(ge=1)] = 4
    ack_timeout: Seconds | None = 10.0
    ping_interval: Seconds | None = 20.0
    pong_timeout: Seconds | None = 10.0
    wait_initial: Annotated[float, Number, Field(ge=0)] = 0.5
    wait_max: Annotated[float, Number, Field(ge=0)] = 30.0
    max_reconnects: Annotated[int, Number, Field(ge=0)] | None = None
    stable_after: Annotated[float, Number, Field(ge=0)] = 10.0
    fatal_close_codes: Listed[Annotated[int, Number, Field(ge=1000, le=4999)]] = FATAL_CLOSE_CODES
    refused_close_codes: RefusedCloses = REFUSED_CLOSE_CODES
    refused_words: Listed[str] = REFUSED_WORDS
    max_queue: Annotated[int, Number, Field(ge=1)] = 1000
    max_queue_bytes: Annotated[int, Number, Field(ge=1)] | None = 16 * 1024 * 1024
    overflow: Overflow = "block"
    callback_executor: bool = False
    share_connection: bool = False
    idle_timeout: Seconds | None = None
    endpoint: Endpoint | None = None
    compression: bool = False
    linger: Annotated[float, Number, Field(ge=0)] = 1.0
