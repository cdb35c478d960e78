"""Holds back the calls of a client: its own rate, and what upstreams say of their quotas."""

from __future__ import annotations

import hashlib
import inspect
import logging
import random
from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING, Any

from graphql_prod import clock
from graphql_prod.errors import ConfigurationError
from graphql_prod.runtime import forks
from graphql_prod.throttling.bucket import Bucket, Rate, Ticket
from graphql_prod.throttling.line import Line
from graphql_prod.throttling.quotas import quotas_of
from graphql_prod.throttling.recognition import (
    Reader,
    Rules,
    Throttle,
    bounded,
    cost_of,
    recognised,
    wall_clock,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from graphql_prod.registry import Registry
    from graphql_prod.throttling.policy import ThrottlingPolicy

logger: logging.Logger = logging.getLogger("graphql_prod")

IDENTITIES = 1000
"""Buckets that are kept: the contract's figure."""
_JITTER, _MOST_JITTER = 0.1, 5.0
"""What is added to a wait at most: a share of it, and seconds."""


class _Identity:
    """The bucket of an identity, and the line before it."""

    __slots__ = ("bucket", "line", "owner")

    def __init__(self, registry: Registry, owner: object) -> None:
        self.bucket: Bucket = Bucket()
        self.line: Line = Line(registry)
        self.owner: object = owner  # kept, so that nobody else gets its place


class Held:
    """A call's place: whose bucket it counts against, and what was taken from it."""

    __slots__ = ("identity", "throttling", "ticket")

    throttling: Throttling
    identity: _Identity
    ticket: Ticket | None

    def answered(self, status: int | None, headers: Mapping[str, str] | None, json: Any) -> None:
        """A clean answer has come: it may tell of quotas."""
        ticket = self.ticket
        if ticket is not None:
            self.ticket = None
            identity = self.identity
            told = self.throttling.of_success(status, headers, json)
            identity.bucket.done(clock.monotonic(), ticket, told)
            if identity.line.waiting:
                identity.line.wake()

    def told(self, told: Throttle | None) -> None:
        """An attempt has ended otherwise."""
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            self.identity.bucket.done(clock.monotonic(), ticket, told)
            self.identity.line.wake()

    def release(self) -> None:
        """Nobody waits for an answer any more; again does nothing."""
        self.told(None)


_new = object.__new__


def held_by(throttling: Throttling, identity: _Identity, ticket: Ticket | None) -> Held:
    """A call's place."""
    made = _new(Held)
    made.throttling, made.identity, made.ticket = throttling, identity, ticket
    return made


class Throttling:
    """What a client and its views know of the quotas of their upstream.

    :ivar paces: whether calls are held back before they are sent.
    :ivar refused: answers that refused a call, since the client was made.
    """

    def __init__(self, policy: ThrottlingPolicy, reader: Reader | None, registry: Registry) -> None:
        self.policy = policy
        self.refused = 0
        self.by_quotas: bool = policy.mode == "pace"
        self.paces: bool = self.by_quotas or policy.rate is not None
        self._rules = Rules.of(policy)
        self._reader = reader
        self._reader_failed = False
        self._registry = registry
        self._rate = None if policy.rate is None else Rate(policy.rate, policy.burst)
        self._rate_line = Line(registry)
        self._identities: OrderedDict[Hashable, _Identity] = OrderedDict()
        self._wanted = frozenset(policy.identity_headers)
        self._blocked_until = -inf
        forks.follow(self)

    def begin_anew(self) -> object:
        """In a child that was forked: nobody waits there. What is known of quotas stays true."""
        kept = (self._rate_line, self._identities)
        self._rate_line, self._identities = Line(self._registry), OrderedDict()
        return kept

    # Whom.

    def identity(self, provider: object, headers: Mapping[str, str], static: Mapping[str, str]) -> _Identity:
        """The bucket that a call counts against.

        :param provider: the callable that gives its credentials; None where there is none.
        :param headers: its own, from before the provider is asked.
        :param static: the client's, which a provider's replace.
        """
        wanted, named = self._wanted, []
        for name, value in headers.items():
            low = name.lower()
            if low in wanted and (provider is None or static.get(name) != value):
                named.append(f"{low}\0{value}")
        digest = (
            hashlib.sha256("\1".join(sorted(named)).encode("utf-8", "replace")).digest() if named else b""
        )
        try:
            key: Hashable = (provider, digest)
            found = self._identities.get(key)
        except TypeError:  # a provider that cannot be hashed
            key = (id(provider), digest)
            found = self._identities.get(key)
        if found is None:
            found = self._identities[key] = _Identity(self._registry, provider)
            if len(self._identities) > IDENTITIES:
                self._forget_one()
        else:
            self._identities.move_to_end(key)
        return found

    def _forget_one(self) -> None:
        """The one that was used least recently, and that nobody waits for."""
        for key, each in self._identities.items():
            if not each.line.waiting and not each.bucket.under_way:
                del self._identities[key]
                return

    # Before an attempt.

    def delay(self, identity: _Identity, operation: str) -> float:
        """Seconds that a call which comes now has to wait, as far as can be told."""
        now = clock.monotonic()
        wait = 0.0
        if self._rate is not None:
            wait = Line.estimate(len(self._rate_line.waiting), self._rate.wait(now), self._rate.interval)
        if self.by_quotas:
            bucket, ahead = identity.bucket, len(identity.line.waiting)
            found = bucket.wait(now, operation)
            found = max(bucket.blocked_until - now, 0.0) if found == inf else found
            if ahead:  # a little less than it looks like: nobody is sent away who might come in time
                found += 0.8 * ahead * bucket.interval(now, operation)
            wait = max(wait, found)
        return wait

    def at_once(self, identity: _Identity, operation: str, now: float) -> Held | None:
        """Let a call go that need not wait; None where it has to."""
        rate = self._rate
        if rate is not None:
            if self._rate_line.waiting or (self.by_quotas and identity.line.waiting):
                return None
            if self.by_quotas and identity.bucket.wait(now, operation) > 0:
                return None
            if not rate.try_to_go(now):
                return None
            return held_by(self, identity, identity.bucket.go(now, operation) if self.by_quotas else None)
        if identity.line.waiting:
            return None
        ticket = identity.bucket.try_to_go(now, operation)
        return None if ticket is None else held_by(self, identity, ticket)

    async def turn(self, identity: _Identity, operation: str, *, first: bool) -> Held | None:
        """Wait until a call may go; None if the client is closing. Safe to cancel.

        :param first: whether it was let go before, and refused.
        """
        rate = self._rate
        if rate is not None and not await self._rate_line.turn(rate.wait, rate.go, first=first):
            return None
        if not self.by_quotas:
            return held_by(self, identity, None)
        held = held_by(self, identity, None)
        bucket = identity.bucket

        def go(now: float) -> None:
            held.ticket = bucket.go(now, operation)

        if not await identity.line.turn(lambda now: bucket.wait(now, operation), go, first=first):
            return None
        return held

    # After it.

    def of_success(self, status: int | None, headers: Mapping[str, str] | None, json: Any) -> Throttle | None:
        """What an answer that refuses nothing says of quotas."""
        headers = headers or {}
        if self._reader is not None:
            read = self._read(status, headers, json)
            if read is not None:
                return read
        extensions = json.get("extensions") if isinstance(json, dict) else None
        if not (isinstance(extensions, dict) and "cost" in extensions):
            for name in headers:  # every answer comes here
                if "ratelimit" in name.lower() or "rate-limit" in name.lower():
                    break
            else:
                return None
        body = json if isinstance(json, dict) else {}
        quotas = quotas_of(headers, body, wall_clock())
        cost = cost_of(body)
        return Throttle(refused=False, quotas=quotas, cost=cost) if quotas or cost is not None else None

    def of_failure(
        self, status: int | None, headers: Mapping[str, str] | None, json: Any, *, nothing_ran: bool
    ) -> Throttle | None:
        """Whether an answer refuses a call for coming too soon; None where it says nothing of that."""
        headers = headers or {}
        read = self._read(status, headers, json)
        if read is not None:
            return read if nothing_ran or not read.refused else None
        found = recognised(status, headers, json, self._rules, nothing_ran=nothing_ran, now=wall_clock())
        return found if found is not None or not self.by_quotas else self.of_success(status, headers, json)

    def _read(self, status: int | None, headers: Mapping[str, str], json: Any) -> Throttle | None:
        """What the program's own reader finds; one that fails is logged once, and ignored for this answer."""
        if self._reader is None:
            return None
        try:
            found = self._reader(status, headers, json)
            if found is not None and not isinstance(found, Throttle):
                if hasattr(found, "close"):
                    found.close()  # a coroutine that nobody will await
                raise TypeError(f"it must return a Throttle or None, not {type(found).__name__}")  # noqa: TRY301
        except Exception:
            if not self._reader_failed:
                self._reader_failed = True
                logger.exception(
                    "the throttle_reader of the client for %s failed; it is ignored for this answer. It is "
                    "logged this once",
                    self._registry.host,
                )
            return None
        return found

    def hold_back(self, wait: float) -> None:
        """The server has named a time, or we have chosen one: until then it is known to be there."""
        self._blocked_until = max(self._blocked_until, clock.monotonic() + wait)

    def wait_after(self, told: Throttle, refusals: int) -> float:
        """Seconds until the next attempt of a call that was refused.

        :param refusals: how often it was refused before.
        """
        wait = bounded(told.wait)
        if wait is not None:
            return wait
        policy = self.policy
        return min(policy.wait_max, policy.wait_initial * 2.0 ** min(refusals, 60))

    @staticmethod
    def jittered(wait: float, room: float) -> float:
        """The wait, or a little more, so that not all come back at the same moment."""
        longer = wait + random.random() * min(_JITTER * wait, _MOST_JITTER)  # noqa: S311 -- no secret
        return longer if longer < room else wait

    @property
    def identities(self) -> int:
        """How many identities are known."""
        return len(self._identities)

    @property
    def waiting(self) -> int:
        """Calls that are held back now."""
        return len(self._rate_line.waiting) + sum(
            len(each.line.waiting) for each in self._identities.values()
        )

    @property
    def blocked_for(self) -> float:
        """Seconds until the server allows the next call; 0 where it allows one now."""
        return max(0.0, self._blocked_until - clock.monotonic())


def throttling_of(policy: ThrottlingPolicy, reader: Reader | None, registry: Registry) -> Throttling | None:
    """What a client's settings ask for; None where throttling is off.

    :raises ConfigurationError: the reader cannot be used.
    """
    if reader is not None:
        if not callable(reader):
            raise ConfigurationError(f"throttle_reader must be a callable, not {type(reader).__name__}")
        if inspect.iscoroutinefunction(reader):
            raise ConfigurationError(
                "throttle_reader must be a plain function, not a coroutine function: no answer waits for it"
            )
        if policy.mode == "off":
            raise ConfigurationError(
                "throttle_reader needs throttling.mode=retry or pace; with mode=off nobody asks it"
            )
    return None if policy.mode == "off" else Throttling(policy, reader, registry)
