"""The attempts of a call, until one is good or no further one is due."""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from graphql_prod.calls.advice import BUDGET_SPENT, CLOSING, NOT_ADMITTED, explain, no_room, used_up
from graphql_prod.calls.attempt_ends import end_of, exchange_of, is_clean, note_answer, tell_of_health
from graphql_prod.calls.call import Call, current
from graphql_prod.calls.holding import Holding
from graphql_prod.calls.outcomes import is_unauthenticated, nothing_ran, of_answer, of_exception, refusal_of
from graphql_prod.calls.records import facts_of, named
from graphql_prod.calls.response import GraphQLResponse, answered
from graphql_prod.calls.unwritable import unwritable
from graphql_prod.credentials import ProviderError, provider_failed, refuse_twice
from graphql_prod.errors import ClientClosedError, ThrottledError
from graphql_prod.headers import provided
from graphql_prod.renewals import FRESH
from graphql_prod.resilience.retry.decision import AttemptOutcome, SendStatus, should_retry
from graphql_prod.runtime import logs
from graphql_prod.texts.redaction import conceal, safe_cause, secrets_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import tenacity
    from aiographql.client import GraphQLRequest
    from aiographql.client import GraphQLResponse as StockResponse
    from aiographql.client.serializer import GraphQLSerializer

    from graphql_prod.admission.admission import Admission
    from graphql_prod.calls.sender import Sender
    from graphql_prod.calls.settings import CallSettings
    from graphql_prod.credentials import Credentials, Given
    from graphql_prod.registry import Registry
    from graphql_prod.renewals import CredentialsRefusal
    from graphql_prod.resilience.retry.budget import Budget
    from graphql_prod.sessions.sessions import Sessions
    from graphql_prod.telemetry.hooks import Hooks
    from graphql_prod.throttling.throttling import Throttling

logger: logging.Logger = logging.getLogger("graphql_prod")
T = TypeVar("T")


class AttemptLoop:
    """Repeats what is worth repeating.

    :ivar retries: how many attempts were repetitions, of all calls.
    :ivar budget: how many there may be; None means any number.
    """

    def __init__(
        self,
        *,
        host: str,
        endpoint: str,
        settings: CallSettings,
        sessions: Sessions,
        sender: Sender,
        budget: Budget | None,
        registry: Registry,
        static_headers: Mapping[str, str],
        url_credentials: bool,
        hooks: Hooks | None,
        throttling: Throttling | None,
        admission: Admission,
    ) -> None:
        self.host = host
        self.retries: int = 0
        self.budget = budget
        self._endpoint = endpoint
        self._url_credentials = url_credentials
        self._settings = settings
        self._sessions = sessions
        self._sender = sender
        self._registry = registry
        self._static_headers = static_headers
        self._hooks = hooks
        self._admission = admission
        self._floods = logs.FloodGate()
        self._holding = (
            None if throttling is None else Holding(throttling, registry, static_headers, hooks, self._floods)
        )

    async def run(
        self,
        call: Call,
        method: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        kwargs: dict[str, Any],
    ) -> GraphQLResponse:
        """What the last attempt came to.

        :raises Exception: why there is no answer, with the facts of the call.
        """
        state: tenacity.RetryCallState | None = None
        credentials, bare, refused = call.settings.credentials, request, None
        holding, refusals = self._holding, 0
        admission, ill = self._admission, False
        attempt: AttemptOutcome | None = None
        response: StockResponse | None = None
        while True:
            if admission.on and not call.settings.probe and not admission.admits():
                self._note_rejection(call)
                if attempt is None:
                    raise admission.error(call.consequence)
                explain(attempt, NOT_ADMITTED, "No retry: admission holds calls back.")
                break
            if holding is not None and holding.paces and not holding.at_once(call, bare, credentials):
                try:
                    await holding.turn(call, bare, credentials, refused=refusals > 0)
                except (ThrottledError, ClientClosedError):
                    if attempt is None:
                        raise
                    break  # the attempt before says more
            if credentials is not None:
                request, lent = await self._authorized(call, credentials, bare, refused)
            call.attempts += 1
            sent_before, response = call.sent, None
            if admission.on:
                call.admission = admission
                admission.sent()
            try:
                sending = self._sender.send(call, method, request, serializer, **kwargs)
                limit = call.settings.timeout.attempt
                response = await (sending if limit is None else self._sender.limited(limit, sending))
            except Exception as error:  # noqa: BLE001 -- sorted by the retry table, and raised again if final
                secrets = self._secrets(request)
                unsent = unwritable(error, request, serializer, self.host)
                if unsent is not None:
                    exchange_of(call).sent = False
                given = self._sender.custom is not None or self._sessions.given is not None
                attempt = of_exception(
                    unsent or error,
                    exchange_of(call),
                    call,
                    self.host,
                    endpoint=self._endpoint,
                    given=given or kwargs.get("session") is not None,
                    secrets=secrets,
                )
                conceal(attempt.error, secrets)
                unsent = None
            else:
                if is_clean(response, call):
                    call.status = None
                    if credentials is not None and credentials.renewals.watching:
                        note_answer(call, credentials, lent)
                    exchange = call.exchange or exchange_of(call)
                    if call.held is not None:
                        call.held.answered(exchange.status, exchange.headers, response.json)
                        call.held = None
                    if call.admission is not None:
                        call.admission.succeeded()
                        call.admission = None
                    if self._hooks is not None:
                        self._hooks.tell(
                            self._hooks.on_attempt,
                            request,
                            call.attempts,
                            exchange.status,
                            None,
                            call.elapsed,
                        )
                    return answered(response, exchange.status, exchange.headers, call.attempts, call.started)
                attempt = of_answer(response, exchange_of(call), call, self.host)
                if attempt is not None and attempt.error is not None:
                    conceal(attempt.error, self._secrets(request))
            exchange, call.exchange = exchange_of(call), None
            call.status = exchange.status
            if self._hooks is not None:
                self._hooks.tell(
                    self._hooks.on_attempt,
                    request,
                    call.attempts,
                    exchange.status,
                    None if attempt is None else attempt.reason,
                    call.elapsed,
                )
            if holding is not None:
                told = holding.read(call, attempt, response, exchange, refusals)
                if told is not None and told.refused:
                    if call.admission is not None:
                        call.admission.succeeded()  # it is there, and has enough
                        call.admission = None
                    call.sent = sent_before
                    attempt = holding.as_refusal(call, told, attempt, response, exchange)
                    state = state or call.settings.backoff.state(call.started)
                    if not await holding.repeats(call, told, attempt, state):
                        break
                    refusals += 1
                    continue
            if call.admission is not None:
                ill = tell_of_health(call.admission, attempt, ill)
                call.admission = None
            if (
                credentials is not None
                and is_unauthenticated(attempt, response, call)
                and self._may_renewal_help(credentials, refusal_of(attempt, response, call), lent, refused)
            ):
                refused = lent
                if nothing_ran(attempt, response):
                    call.sent = sent_before
                self._log_refusal(call, attempt)
                continue
            if attempt is None:
                assert response is not None  # noqa: S101 -- no record means a good answer
                return answered(response, exchange.status, exchange.headers, call.attempts, call.started)
            state = state or call.settings.backoff.state(call.started)
            wait = await self._wait(call, state, attempt)
            if wait is None or not await self._paused(call, attempt, wait):
                break
            self.retries += 1
            if call.span is not None:
                call.span.retry(attempt, wait)
        wait = attempt.refused_for
        try:
            response = end_of(attempt)
        finally:
            attempt = state = None  # the traceback of the error holds this frame
        return answered(response, exchange.status, exchange.headers, call.attempts, call.started, wait)

    def _note_rejection(self, call: Call) -> None:
        if call.span is not None:
            call.span.not_admitted()
        hooks = self._hooks
        if hooks is not None:
            reason = "isolated" if self._admission.state == "isolated" else "admission"
            hooks.tell(hooks.on_rejected, call.request, call.attempts, None, reason, call.elapsed)

    def _may_renewal_help(
        self, credentials: Credentials, refusal: CredentialsRefusal, given: Given, before: Given | None
    ) -> bool:
        """Whether to renew what was refused.

        :param before: what was refused before, and then renewed; None if nothing was.
        """
        renewals, scope = credentials.renewals, credentials.scope(given)
        if before is None:
            return renewals.may_help(refusal, scope)
        renewals.did_not_help(refusal, given.generation, scope)
        logger.info(
            "%s refuses renewed credentials too; for %g s no others are asked for on account of this",
            self.host,
            FRESH,
            extra=logs.facts(host=self.host, kind=refusal.kind),
        )
        return False

    def _log_refusal(self, call: Call, attempt: AttemptOutcome | None) -> None:
        refusal = attempt or AttemptOutcome(SendStatus.ANSWERED, "error code")
        logger.info(
            "%s refused the credentials of attempt %d%s, new ones are requested",
            self.host,
            call.attempts,
            named(call),
            extra=facts_of(self.host, call, refusal, wait=0.0),
        )

    async def _authorized(
        self, call: Call, credentials: Credentials, request: GraphQLRequest, refused: Given | None
    ) -> tuple[GraphQLRequest, Given]:
        """The request with the provider's headers over the client's own, under the view's and the call's."""
        limit = call.remaining
        try:
            given = await credentials.headers(refused, None if limit == inf else limit)
        except ProviderError as error:
            failure = error
        else:
            if self._url_credentials:
                refuse_twice(self.host, given.headers)
            beneath = credentials.beneath or self._static_headers
            return request.copy(headers=provided(given.headers, request.headers, beneath)), given
        try:
            cause = safe_cause(failure.__cause__ or failure, self._secrets(None))
            if not call.attempts:
                raise provider_failed(self.host, failure) from cause
            before = f"No further attempt was sent to {self.host}, {call.spent}"
            raise provider_failed(self.host, failure, before, f" {call.consequence}") from cause
        finally:
            del failure

    def conceal(self, error: Exception, request: GraphQLRequest | None) -> Exception:
        """The error, without the secrets that a server may repeat in it."""
        conceal(error, self._secrets(request))
        return error

    def _secrets(self, request: GraphQLRequest | None) -> frozenset[str]:
        """What must not be seen in a cause; asked for when something has failed."""
        call = current()
        asked = None if call is None else call.request or (call.subject and call.subject[0])
        headers = [each.headers for each in (request, asked) if each is not None]
        if call is not None:
            headers.append(dict(call.settings.headers or {}))
        credentials = (self._settings if call is None else call.settings).credentials
        provided = {} if credentials is None else credentials.latest
        urls = (self._endpoint, self._sessions.transport_options.proxy)
        return secrets_of(urls=urls, headers=[*headers, self._static_headers, provided])

    async def _wait(
        self, call: Call, state: tenacity.RetryCallState, attempt: AttemptOutcome
    ) -> float | None:
        """Seconds before another attempt, or None if this was the last one."""
        backoff = call.settings.backoff
        if not should_retry(attempt, call.operation, backoff.policy):
            return None
        wait = await backoff.next_wait(state, attempt)
        if wait is None:
            explain(attempt, used_up(backoff))
            return None
        if wait >= call.remaining:
            note = f"No retry: a wait of {wait:.2f} s does not fit into the total."
            explain(attempt, no_room(call.settings.timeout.total), note)
            return None
        if self.budget is not None and not self.budget.withdraw():
            explain(attempt, BUDGET_SPENT, "No retry: the retry budget of this client is spent.")
            if call.span is not None:
                call.span.refused_by_budget()
            self._floods.warn(
                ("budget", attempt.reason, named(call)),
                id(call),
                "retry budget of %s is spent: %s%s is not retried",
                self.host,
                attempt.reason,
                named(call),
                extra=facts_of(self.host, call, attempt),
            )
            hooks = self._hooks
            if hooks is not None:
                hooks.tell(
                    hooks.on_rejected,
                    call.request,
                    call.attempts,
                    attempt.status,
                    "retry budget",
                    call.elapsed,
                )
            return None
        return wait

    async def _paused(self, call: Call, attempt: AttemptOutcome, wait: float) -> bool:
        call.failed(attempt.error, wait)
        self._floods.warn(
            ("retry", attempt.reason, named(call)),
            id(call),
            "%s: attempt %d%s ended with %s, the next one follows in %.2f s",
            self.host,
            call.attempts,
            named(call),
            attempt.reason,
            wait,
            extra=facts_of(self.host, call, attempt, wait=wait),
        )
        hooks = self._hooks
        if hooks is not None:
            hooks.tell(
                hooks.on_retry,
                call.request,
                call.attempts,
                attempt.status,
                attempt.reason,
                call.elapsed,
                wait,
            )
        if await self._registry.pause(wait):
            return True
        explain(attempt, CLOSING, "No retry: the client is closing.")
        return False
