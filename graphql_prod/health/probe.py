"""Whether a client can do its work: one small query, shared by everybody who asks."""

from __future__ import annotations

import asyncio
import contextvars
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from aiographql.client import GraphQLRequestException

from graphql_prod import clock
from graphql_prod.calls.reasons import what_failed
from graphql_prod.errors import ConfigurationError, HTTPStatusError, TransportError
from graphql_prod.loops import call_on
from graphql_prod.registry import leave_calls
from graphql_prod.resilience.timeouts import PROBE, TimeoutPolicy, override
from graphql_prod.runtime import forks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiographql.client import GraphQLResponse

    from graphql_prod.health.policy import HealthPolicy
    from graphql_prod.registry import Registry

    Ask = Callable[[TimeoutPolicy], Awaitable[GraphQLResponse]]

QUERY = "{ __typename }"

Kind = Literal["draining", "timeout", "unreachable", "status", "errors", "cancelled", "failed", "isolated"]
"""``status``: an answer that is no success; ``errors``: a success with GraphQL errors, or without GraphQL."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the server answers this client. Falsy when it does not.

    :ivar ok: True after a GraphQL answer without errors.
    :ivar reason: why not; None when it is ok, but for ``"throttled"``: the server has asked to be left alone
        for a while, and so nothing was sent. Never holds anything secret, nor the server's own words.
    :ivar latency: seconds that the query took; None when none was sent.
    """

    ok: bool
    reason: str | None = None
    latency: float | None = None
    kind: Kind | None = field(default=None, compare=False, repr=False)
    """Why not, in a word of a fixed list, for whoever may not hear of hosts; None when it is ok."""

    def __bool__(self) -> bool:
        return self.ok


THROTTLED = Readiness(True, "throttled")


class Probe:
    """Looks into readiness: one query at a time, and no more of them than the policy allows.

    A query that was begun goes on without whoever asked for it, within its own limit: probes that come and
    go faster than the server answers shall not send one each.
    """

    def __init__(
        self,
        policy: HealthPolicy,
        registry: Registry,
        ask: Ask,
        held: Callable[[], bool] | None = None,
        isolated: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._policy = policy
        self._registry = registry
        self._ask = ask
        self._isolated = isolated
        """Why the upstream was isolated by hand; None where it was not."""
        self._held = held
        """Whether throttling holds calls back; None where it is off."""
        self._flights: dict[asyncio.AbstractEventLoop, asyncio.Task[Readiness]] = {}
        self._asked = -math.inf
        self._last: Readiness | None = None
        forks.follow(self)

    def begin_anew(self) -> object:
        """As new, in a child that was forked."""
        flights, self._flights = self._flights, {}
        self._asked, self._last = -math.inf, None
        return flights

    async def ready(self, timeout: float | None) -> Readiness:
        """The result of a query that runs, of a recent one, or of a new one. Safe to cancel.

        :raises ConfigurationError: the time-out is no number of seconds over 0.
        """
        limits = PROBE if timeout is None else _limits(_checked(timeout))
        if not self._is_open():
            return self._draining()
        isolated = self._isolated()
        if isolated is not None:
            return Readiness(False, f"{self._registry.host} is isolated: {isolated}", kind="isolated")
        if self._held is not None and self._held():
            return THROTTLED  # the server is there, and has asked for silence
        flight = self._flights.get(asyncio.get_running_loop())
        if flight is None:
            recent = clock.monotonic() - self._asked < self._policy.min_interval
            if recent and self._last is not None:
                return self._last
            flight = self._start(limits)
        await asyncio.wait({flight}, timeout=limits.total)
        if not self._is_open():
            return self._draining()
        if flight.cancelled():
            return Readiness(False, f"the query to {self._registry.host} was cancelled", kind="cancelled")
        if not flight.done():
            reason = f"{self._registry.host} gave no answer within {limits.total:g} s"
            return Readiness(False, reason, limits.total, "timeout")
        return flight.result()

    def drain(self) -> None:
        """Send nothing more; whoever waits hears that the client is draining."""
        for loop, flight in list(self._flights.items()):
            call_on(loop, flight.cancel)

    def _is_open(self) -> bool:
        return self._registry.state == "open" and not self._registry.leaving

    def _draining(self) -> Readiness:
        state = "about to drain" if self._registry.state == "open" else self._registry.state
        return Readiness(False, f"the client for {self._registry.host} is {state}", kind="draining")

    def _start(self, limits: TimeoutPolicy) -> asyncio.Task[Readiness]:
        if limits.total is None or limits.total < (PROBE.total or 0.0):
            limits = PROBE  # whoever joins may have more time than the one who began it
        context = contextvars.copy_context()
        leave_calls(context)
        self._asked, self._last = clock.monotonic(), None
        loop = asyncio.get_running_loop()
        flight = self._flights[loop] = asyncio.create_task(self._fly(limits), context=context)
        flight.add_done_callback(lambda _: self._flights.pop(loop, None))
        return flight

    async def _fly(self, limits: TimeoutPolicy) -> Readiness:
        self._last = await self._asked_once(limits)
        return self._last

    async def _asked_once(self, limits: TimeoutPolicy) -> Readiness:
        started = clock.monotonic()
        kind: Kind | None = None
        try:
            response = await self._ask(limits)
        except Exception as error:  # noqa: BLE001 -- a probe reports what it finds, and raises nothing
            if self._held is not None and self._held():
                return THROTTLED
            reason: str | None = what_failed(error, self._registry.host)
            kind = _kind_of(error)
        else:
            reason = (
                f"{self._registry.host} answered with GraphQL errors" if response.json.get("errors") else None
            )
            if reason is not None and self._held is not None and self._held():
                return THROTTLED
            kind = None if reason is None else "errors"
        return Readiness(reason is None, reason, clock.monotonic() - started, kind)


def _kind_of(error: Exception) -> Kind:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, HTTPStatusError):
        return "status"
    if isinstance(error, GraphQLRequestException):
        return "errors"
    return "unreachable" if isinstance(error, TransportError) else "failed"


def _limits(total: float) -> TimeoutPolicy:
    """Those of ``PROBE`` within less time; with more time all of it for whatever takes long."""
    if total <= (PROBE.total or 0.0):
        return override(PROBE, total)
    return TimeoutPolicy(total=total, connect=total, read=total, pool=total)


def _checked(timeout: object) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise ConfigurationError(f"timeout must be a number of seconds over 0, not {timeout!r}")
    return float(timeout)
