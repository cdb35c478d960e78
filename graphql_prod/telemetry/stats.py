"""What a client is doing now, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Connections of the session that we own; zeros while none is open, and for a caller's session.

    :ivar in_use: calls that hold a slot.
    :ivar waiting: calls that wait for one.
    :ivar limit: slots there are.
    """

    in_use: int
    waiting: int
    limit: int


@dataclass(frozen=True, slots=True)
class ThrottleStats:
    """What throttling does, at the moment of asking.

    :ivar refused: answers that refused a call, since the client was made.
    :ivar waiting: calls that are held back before they are sent.
    :ivar blocked_for: seconds until the server allows the next call; 0 where it allows one now.
    :ivar identities: identities whose quotas are known.
    """

    refused: int
    waiting: int
    blocked_for: float
    identities: int


@dataclass(frozen=True, slots=True)
class AdmissionStats:
    """Which calls are sent to an upstream that is ill, at the moment of asking.

    :ivar state: ``"closed"``: all of them; ``"open"``: some; ``"isolated"``: none, by hand.
    :ivar rejection: the probability, from 0 to 1, with which a call would be rejected now.
    :ivar rejected: calls and retries that were not sent, since the client was made.
    :ivar reason: what ``isolate()`` was given; None where it was not called.
    """

    state: str
    rejection: float
    rejected: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class ClientStats:
    """Counts of a client and its views, at the moment of asking.

    :ivar state: ``"open" "draining" "closing" "closed"``.
    :ivar in_flight: calls under way.
    :ivar subscriptions: subscriptions that are active or connecting.
    :ivar subscriptions_down: those of them that have lost their connection, and have no other one yet.
    :ivar sockets: WebSockets held for them, those that are just being opened or closed among them.
    :ivar events: events that came for subscriptions, since the client was made.
    :ivar reconnects: connections of subscriptions that were lost and are back, since the client was made.
    :ivar dropped: events that a full queue threw away, since the client was made.
    :ivar callback_failures: callbacks of subscriptions that failed, since the client was made.
    :ivar retries: attempts that repeated an earlier one, since the client was made.
    :ivar budget: retries that the budget would allow now, or None without one.
    :ivar budget_rejections: retries that the budget refused, since the client was made.
    :ivar pool: the connection pool.
    :ivar schema_age: seconds since the schema was introspected, or None if it never was.
    :ivar throttle: what throttling does; None where it is off.
    :ivar admission: whether calls are sent to an upstream that is ill; None where all of them are, because
        admission is off and nobody has isolated it.
    """

    state: str
    in_flight: int
    subscriptions: int
    subscriptions_down: int
    sockets: int
    events: int
    reconnects: int
    dropped: int
    callback_failures: int
    retries: int
    budget: float | None
    budget_rejections: int
    pool: PoolStats
    schema_age: float | None
    throttle: ThrottleStats | None = None
    admission: AdmissionStats | None = None
