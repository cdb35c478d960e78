"""What throttling does to the attempts of a call: waits before them, and repetitions of refused ones."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from graphql_prod import clock
from graphql_prod.calls.advice import CLOSING, corrected, explain, no_room, too_long
from graphql_prod.calls.call import MAY_HAVE_RUN
from graphql_prod.calls.outcomes import LESS_OFTEN, body_of, nothing_ran
from graphql_prod.calls.records import facts_of, named
from graphql_prod.documents import Operation
from graphql_prod.errors import ClientClosedError, HTTPStatusError, InvalidResponseError, ThrottledError
from graphql_prod.resilience.retry.decision import AttemptOutcome, SendStatus
from graphql_prod.throttling.throttling import Held

if TYPE_CHECKING:
    from collections.abc import Mapping

    import tenacity
    from aiographql.client import GraphQLRequest
    from aiographql.client import GraphQLResponse as StockResponse

    from graphql_prod.calls.call import Call
    from graphql_prod.credentials import Credentials
    from graphql_prod.registry import Registry
    from graphql_prod.runtime.logs import FloodGate
    from graphql_prod.sessions.exchange import Exchange
    from graphql_prod.telemetry.hooks import Hooks
    from graphql_prod.throttling.recognition import Throttle
    from graphql_prod.throttling.throttling import Throttling

logger: logging.Logger = logging.getLogger("graphql_prod")


_new = object.__new__


class Holding:
    """Holds calls back for a client whose throttling is on.

    :ivar paces: whether calls are held back before they are sent.
    """

    def __init__(
        self,
        throttling: Throttling,
        registry: Registry,
        static_headers: Mapping[str, str],
        hooks: Hooks | None,
        floods: FloodGate,
    ) -> None:
        self.throttling = throttling
        self.paces: bool = throttling.paces
        self._rates = throttling.policy.rate is not None
        self._registry = registry
        self._static_headers = static_headers
        self._hooks = hooks
        self._floods = floods
        self._host = registry.host

    def at_once(self, call: Call, request: GraphQLRequest, credentials: Credentials | None) -> bool:
        """Whether the call may be sent now; it counts against its quota then."""
        if call.settings.probe:
            return True
        provider = None if credentials is None else credentials.provider
        identity = self.throttling.identity(provider, request.headers, self._static_headers)
        now = clock.monotonic() if call.attempts else call.started
        operation = request.operationName or request.query
        if self._rates:
            call.held = self.throttling.at_once(identity, operation, now)
            return call.held is not None
        # The same without its frames: every call that is not held back comes here.
        ticket = None if identity.line.waiting else identity.bucket.try_to_go(now, operation)
        if ticket is None:
            return False
        held = call.held = _new(Held)
        held.throttling, held.identity, held.ticket = self.throttling, identity, ticket
        return True

    async def turn(
        self, call: Call, request: GraphQLRequest, credentials: Credentials | None, *, refused: bool
    ) -> None:
        """Wait until the call may be sent.

        Safe to cancel.

        :param refused: whether it was let go before, and refused.
        :raises ThrottledError: it cannot be sent in time.
        :raises ClientClosedError: the client is closing.
        """
        throttling = self.throttling
        provider = None if credentials is None else credentials.provider
        identity = throttling.identity(provider, request.headers, self._static_headers)
        operation = request.operationName or request.query
        delay = throttling.delay(identity, operation)
        if delay <= 0:
            call.held = await throttling.turn(identity, operation, first=refused)
            if call.held is None:
                raise self._closing(call)
            return
        room = self._room(call)
        if delay >= room:
            self._tell(call, None, "paced", None)
            raise ThrottledError(
                f"Not sent to {self._host}: its turn would come in {delay:.1f} s, and {self._limit(call)}. "
                f"{call.consequence} Call less often, or allow more time.",
                retry_after=delay,
            )
        self._tell(call, None, "paced", delay)
        call.activity = ", while throttling held it back"
        held = await throttling.turn(identity, operation, first=refused)
        if held is None:
            raise self._closing(call)
        call.held = held
        call.activity = ""

    def _closing(self, call: Call) -> ClientClosedError:
        return ClientClosedError(
            f"The client for {self._host} is closing, and throttling held this call back. {call.consequence}"
        )

    def read(
        self,
        call: Call,
        attempt: AttemptOutcome | None,
        response: StockResponse | None,
        exchange: Exchange,
        refusals: int,
    ) -> Throttle | None:
        """What an attempt that is no clean success was told of quotas, and whether it was refused.

        :param refusals: how often the call was refused before.
        """
        told: Throttle | None = None
        if attempt is None or attempt.send_status not in (SendStatus.UNSENT, SendStatus.AMBIGUOUS):
            ran_nothing = call.operation is not Operation.MUTATION or nothing_ran(attempt, response)
            json = body_of(attempt, response)
            told = self.throttling.of_failure(
                exchange.status, exchange.headers, json, nothing_ran=ran_nothing
            )
        if told is not None and told.refused:
            told = replace(told, wait=self.throttling.wait_after(told, refusals))
        if call.held is not None:
            call.held.told(told)
            call.held = None
        return told

    def as_refusal(
        self,
        call: Call,
        told: Throttle,
        attempt: AttemptOutcome | None,
        response: StockResponse | None,
        exchange: Exchange,
    ) -> AttemptOutcome:
        """The record of an attempt that was refused, also where its answer is as good as any to others."""
        if attempt is None:
            return AttemptOutcome(
                SendStatus.ANSWERED, told.reason, exchange.status, response=response, refused_for=told.wait
            )
        error: Any = attempt.error
        if isinstance(error, HTTPStatusError | InvalidResponseError):
            error.retry_after = told.wait
        if call.operation is Operation.MUTATION and not call.may_have_executed:
            corrected(error, MAY_HAVE_RUN, "The server refused it: the mutation was not executed.")
        corrected(error, LESS_OFTEN, "Call less often.")
        return replace(attempt, refused_for=told.wait)

    async def repeats(
        self,
        call: Call,
        told: Throttle,
        attempt: AttemptOutcome,
        state: tenacity.RetryCallState,
    ) -> bool:
        """Wait until a refused call may be sent again; False where it is not.

        Where the bucket makes calls wait for their turn, that is not done here.
        """
        throttling = self.throttling
        throttling.refused += 1
        wait = told.wait or 0.0
        throttling.hold_back(wait)
        why, note = None, None
        most = throttling.policy.max_wait
        if most is not None and wait > most:
            why = too_long(most)
            note = f"No retry: the server asks to wait {wait:.1f} s."
        elif wait >= call.remaining:
            why = no_room(call.settings.timeout.total)
            note = f"No retry: the server asks to wait {wait:.1f} s, which does not fit into the total."
        elif call.settings.probe:
            why = "A probe is not repeated."
        elif not await call.settings.backoff.allows(state, attempt):
            why = "The given tenacity object allows no further attempt."
        if why is not None:
            explain(attempt, why, note)
            self._tell(call, attempt, told.reason, None)
            return False
        wait = throttling.jittered(wait, self._room(call))
        self._tell(call, attempt, told.reason, wait)
        call.failed(attempt.error, wait)
        self._floods.warn(
            ("throttled", told.reason, named(call)),
            id(call),
            "%s: attempt %d%s was refused (%s): too many calls; the next one follows in %.2f s",
            self._host,
            call.attempts,
            named(call),
            told.reason,
            wait,
            extra=facts_of(self._host, call, attempt, wait=wait),
        )
        if throttling.by_quotas or await self._registry.pause(wait):
            return True
        explain(attempt, CLOSING, "No retry: the client is closing.")
        return False

    def _room(self, call: Call) -> float:
        most = self.throttling.policy.max_wait
        return call.remaining if most is None else min(call.remaining, most)

    def _limit(self, call: Call) -> str:
        most = self.throttling.policy.max_wait
        if most is not None and most <= call.remaining:
            return f"throttling.max_wait is {most:g} s"
        return f"timeout.total leaves {max(0.0, call.remaining):.1f} s"

    def _tell(self, call: Call, attempt: AttemptOutcome | None, reason: str, wait: float | None) -> None:
        if call.span is not None:
            call.span.throttled(reason, wait)
        hooks = self._hooks
        if hooks is not None:
            status = None if attempt is None else attempt.status
            hooks.tell(hooks.on_throttled, call.request, call.attempts, status, reason, call.elapsed, wait)
