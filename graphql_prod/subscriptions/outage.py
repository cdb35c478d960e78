"""An outage of a channel: since when, how often a connection was tried, whom it ends, how long to wait."""

from __future__ import annotations

import contextlib
import logging
import random
from typing import TYPE_CHECKING, Any, Protocol

from graphql_prod import clock
from graphql_prod.runtime import logs
from graphql_prod.subscriptions.backoff import ReconnectBackoff
from graphql_prod.subscriptions.events import SubscriptionGap
from graphql_prod.subscriptions.reconnect import ReconnectDecision, should_reconnect
from graphql_prod.subscriptions.rest import Rest
from graphql_prod.texts.redaction import conceal

if TYPE_CHECKING:
    from graphql_prod.admission.admission import Admission
    from graphql_prod.runtime.logs import FloodGate
    from graphql_prod.subscriptions.connector import Connector
    from graphql_prod.subscriptions.losses import ConnectionLost
    from graphql_prod.subscriptions.policy import SubscriptionPolicy
    from graphql_prod.subscriptions.subscriber import Subscriber

logger: logging.Logger = logging.getLogger("graphql_prod")


REJECTED = 1.0
"""Seconds, more or less, after which a reconnect that is not admitted asks again."""


class Reporting(Protocol):
    """Where outages are counted and renewals logged."""

    reconnects: int
    floods: FloodGate

    def report_renewal(self, channel: Any, evidence: str) -> None:
        """Log why new credentials are asked for."""


class LostChannel(Protocol):
    """The channel that is without a connection."""

    subscribers: dict[str, Subscriber]
    connector: Connector

    @property
    def host(self) -> str:
        """Whom it connects to, for texts."""

    @property
    def manager(self) -> Reporting:
        """Where outages are counted."""

    def unregister(self, subscriber: Subscriber) -> None:
        """Let a subscription go."""


class Outage:
    """From the loss of a connection, or the first attempt, to the next acknowledgement.

    :ivar renewed: whether credentials were renewed, and no connection has been stable since.
    """

    __slots__ = (
        "_asked",
        "_backoff",
        "_begun",
        "_channel",
        "_lost",
        "_policy",
        "_reconnects",
        "_rest",
        "_tried",
        "renewed",
    )

    def __init__(self, channel: LostChannel, policy: SubscriptionPolicy) -> None:
        self._channel = channel
        self._policy = policy
        self._backoff = ReconnectBackoff(policy)
        self._rest = Rest()
        self._lost: ConnectionLost | None = None
        self._begun = clock.monotonic()
        """When connecting began: at the first attempt, or when the last connection was lost."""
        self._tried = 0
        """Attempts since then."""
        self._reconnects = 0
        """Attempts to reconnect, since a connection was last stable."""
        self.renewed: bool = False
        self._asked: Admission | None = None
        """Who waits to hear what becomes of the attempt that is under way; None: nobody."""

    def wake(self) -> None:
        """Somebody new has come, who need not wait as long as the others."""
        self._rest.wake()

    def take_over(self, other: Outage) -> None:
        """Go on with another channel's outage, of which one attempt was not made for us."""
        self._lost, self._begun, self._tried = other._lost, other._begun, other._tried - 1

    async def begin_attempt(self) -> None:
        """Count an attempt; wait first where there have been too many of late. Safe to cancel."""
        if early := self._backoff.early():
            await self._rest.take(early, early)
        admission = self._channel.connector.admission
        if admission is not None:
            while self._lost is not None and not admission.admits():
                await self._rest.take(REJECTED * (0.5 + random.random()), REJECTED / 2)  # noqa: S311
            admission.sent()
        self._asked = admission
        self._backoff.began()
        self._tried += 1
        for subscriber in self._channel.subscribers.values():
            subscriber.states.become("connecting", attempt=self._tried)
        self._reconnects += self._lost is not None

    def begin(self, loss: ConnectionLost | None, up_since: float) -> None:
        """A connection has ended.

        :param up_since: when it was acknowledged, on the clock in use.
        """
        if clock.monotonic() - up_since >= self._policy.stable_after:
            self._backoff.forget()
            self.renewed = False
            self._channel.connector.proven = True
            self._reconnects = 0
        self._lost, self._begun, self._tried = loss, clock.monotonic(), 0

    def end(self) -> SubscriptionGap:
        """A connection is there again: the gap that it has left.

        Counted and logged, unless it was the first one.
        """
        if self._asked is not None:
            self._asked.succeeded()
            self._asked = None
        gap = self.missed()
        if self._lost is None:
            return gap
        self._channel.manager.reconnects += 1
        logger.info(
            "%s: connected again after %.2f s (attempts: %d, subscriptions: %d)",
            self._channel.host,
            gap.down_for,
            gap.attempts,
            len(self._channel.subscribers),
            extra=logs.facts(host=self._channel.host, down_for=gap.down_for, attempts=gap.attempts),
        )
        return gap

    def missed(self) -> SubscriptionGap:
        """What is missed until now."""
        lost = self._lost
        if lost is None:
            return SubscriptionGap()
        down_for = clock.monotonic() - self._begun
        return SubscriptionGap(lost.close_code, lost.close_reason, down_for, self._tried)

    async def pass_over(self, loss: ConnectionLost) -> None:
        """End whose end this is; for the others, wait until it is time for another connection.

        Safe to cancel.
        """
        if self._asked is not None:
            self._tell_of_health(self._asked, loss)
        renewing = self._decide(loss)
        if not self._channel.subscribers:
            return
        if renewing:
            self._renew(loss)
        wait = 0.0 if renewing or loss.at_once else self._backoff.wait(loss.retry_after, self._newest())
        wait = max(wait, self._backoff.early())
        for subscriber in self._channel.subscribers.values():
            subscriber.states.become(
                "down",
                close_code=loss.close_code,
                reason=loss.close_reason or loss.what,
                attempt=self._tried,
                next_in=wait,
            )
        if loss.at_once:
            logger.info(
                "%s %s (subscriptions: %d)",
                self._channel.host,
                loss.what,
                len(self._channel.subscribers),
                extra=logs.facts(host=self._channel.host, reason=loss.close_reason),
            )
        else:
            self._log(loss, wait)
        await self._rest.take(wait, min(wait, max(loss.retry_after, self._backoff.early())))

    def _log(self, loss: ConnectionLost, wait: float) -> None:
        self._channel.manager.floods.warn(
            ("lost", self._channel.host, loss.logged or loss.close_reason),
            id(self._channel),
            "%s %s (subscriptions: %d), the next attempt follows in %.2f s",
            self._channel.host,
            loss.logged or loss.what,
            len(self._channel.subscribers),
            wait,
            extra=logs.facts(
                host=self._channel.host,
                reason=loss.logged or loss.close_reason,
                close_code=loss.close_code,
                attempt=self._tried,
                wait=wait,
            ),
        )

    def _tell_of_health(self, asked: Admission, loss: ConnectionLost) -> None:
        """What an attempt to connect that has failed says of the upstream."""
        self._asked = None
        if loss.refused or loss.closed or (loss.status is not None and loss.status < 500):
            asked.succeeded()
        elif loss.ours:
            asked.abandoned()
        else:
            asked.failed(first=self._tried == 1)

    def _newest(self) -> int | None:
        """How often the newest subscription has failed to connect; None if all have been connected."""
        return min(
            (each.failures for each in self._channel.subscribers.values() if not each.established),
            default=None,
        )

    def _renew(self, loss: ConnectionLost) -> None:
        self.renewed = True
        self._channel.connector.renew()
        for subscriber in self._channel.subscribers.values():
            subscriber.renewed = True
        self._channel.manager.report_renewal(self._channel, loss.evidence)

    def _decide(self, loss: ConnectionLost) -> bool:
        """Decide on every subscriber; True if new credentials shall be tried."""
        renewable = self._channel.connector.may_renew(loss, renewed=self.renewed)
        renewing = False
        for subscriber in list(self._channel.subscribers.values()):
            established = subscriber.established
            subscriber.failures += not established
            decision = should_reconnect(
                loss, self._policy.fatal_close_codes, established=established, renewable=renewable
            )
            if loss.blamed not in (None, subscriber.key):
                decision = ReconnectDecision.AGAIN
            if decision is ReconnectDecision.AGAIN and not loss.at_once and self._is_spent(subscriber):
                self._end(subscriber, loss, gave_up=established)
            elif decision is ReconnectDecision.FATAL:
                self._end(subscriber, loss, gave_up=False)
            renewing = renewing or decision is ReconnectDecision.RENEW
        return renewing

    def _is_spent(self, subscriber: Subscriber) -> bool:
        if not subscriber.established:
            return subscriber.failures >= self._policy.connect_attempts
        limit = self._policy.max_reconnects
        return limit is not None and self._reconnects >= limit

    def _end(self, subscriber: Subscriber, loss: ConnectionLost, *, gave_up: bool) -> None:
        elapsed = clock.monotonic() - self._begun
        plural = "" if self._tried == 1 else "s"
        spent = f"after {self._tried} attempt{plural} in {elapsed:.2f} s" if self._tried else "in mid-stream"
        if gave_up:
            spent += f"; subscriptions.max_reconnects={self._policy.max_reconnects} is reached"
        error = loss.error(self._channel.host, spent, established=subscriber.established)
        conceal(error, self._channel.connector.secrets())
        with contextlib.suppress(AttributeError):  # a frozen exception of somebody else's
            error.attempts, error.elapsed = self._tried, elapsed  # type: ignore[attr-defined]
        self._channel.unregister(subscriber)
        subscriber.end(error)
