"""One call over HTTP: attempts over the stock transport, until one is good or no further one is due."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import uuid
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from aiographql.client import GraphQLClientException, GraphQLTransport
from aiographql.client.transport import AiohttpTransport, HttpxTransport

from graphql_prod.calls.advice import BUDGET_SPENT, CLOSING, explain, no_room, used_up
from graphql_prod.calls.call import Call, current
from graphql_prod.calls.get_requests import as_get, params_of, query_of
from graphql_prod.calls.outcomes import is_unauthenticated, nothing_ran, of_answer, of_exception, refusal_of
from graphql_prod.calls.response import GraphQLResponse, answered
from graphql_prod.calls.stock_transports import StockExchange, is_stock
from graphql_prod.calls.unwritable import refuse_unbounded, require_writable, unwritable
from graphql_prod.credentials import ProviderError, provider_failed, refuse_twice
from graphql_prod.documents import Operation, operation_name, runs_nothing
from graphql_prod.headers import checked, provided
from graphql_prod.registry import ASKING
from graphql_prod.renewals import FRESH
from graphql_prod.resilience.retry.decision import AttemptOutcome, SendStatus, should_retry
from graphql_prod.runtime import forks
from graphql_prod.sessions.connector import settled
from graphql_prod.sessions.exchange import Exchange
from graphql_prod.sessions.httpx_exchange import shielded
from graphql_prod.sessions.limiter import ConcurrencyLimiter
from graphql_prod.texts.redaction import conceal, safe_cause, secrets_of
from graphql_prod.urls import has_credentials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextvars import Token

    import tenacity
    from aiographql.client import GraphQLRequest
    from aiographql.client import GraphQLResponse as StockResponse
    from aiographql.client.serializer import GraphQLSerializer

    from graphql_prod.calls.call import Subject
    from graphql_prod.calls.settings import CallSettings
    from graphql_prod.credentials import Credentials, Given
    from graphql_prod.registry import Asker, Registry
    from graphql_prod.renewals import CredentialsRefusal
    from graphql_prod.resilience.retry.budget import Budget
    from graphql_prod.sessions.session import Session
    from graphql_prod.sessions.sessions import Sessions
    from graphql_prod.telemetry.telemetry import Telemetry

logger = logging.getLogger("graphql_prod")
T = TypeVar("T")


class ProductionTransport(GraphQLTransport):
    """The transport of a :class:`ProductionClient`, shared with its views.

    Used on its own (``client.transport.request(…)``) it retries and holds the deadline just the same.
    """

    def __init__(
        self,
        *,
        host: str,
        endpoint: str = "",
        settings: CallSettings,
        sessions: Sessions,
        budget: Budget | None,
        registry: Registry,
        close: Callable[[], Awaitable[None]],
        telemetry: Telemetry,
        custom: GraphQLTransport | None = None,
        static_headers: Mapping[str, str] | None = None,
    ) -> None:
        self.host = host
        self._endpoint = endpoint
        self._url_credentials = has_credentials(endpoint)
        self.retries = 0
        self._settings = settings
        self._sessions = sessions
        self.budget = budget
        self._telemetry = telemetry
        self._registry = registry
        self._close = close
        self._custom = custom
        self._static_headers = static_headers or {}
        self._custom_used = False
        self._custom_is_the_parents = False
        forks.follow(self)

    def begin_anew(self) -> object:
        """In a child that was forked: what its parent used is not the child's to close."""
        self._custom_is_the_parents = self._custom_used
        return self._custom

    async def request(
        self,
        method: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        **kwargs: Any,
    ) -> GraphQLResponse:
        """Execute a request, as the stock transports do, hardened like :meth:`ProductionClient.query`."""
        asker = ASKING.get()
        call = asker if isinstance(asker, Call) else current()
        if call is None or call.done or call.request is not None:
            given = checked(request.headers, "headers of the request", taken=self._url_credentials)
            if given is not request.headers:
                request = dataclasses.replace(request, operation=request.operationName, headers=dict(given))
            return await self.guard(
                self._settings,
                (request, None, kwargs.get("session")),
                self.request,
                method,
                request,
                serializer,
                **kwargs,
            )
        call.request = request
        if request.variables:
            refuse_unbounded(request.variables, self.host)
        if method.lower() == "get":
            self._refuse_changes(call, request)
            if self._custom is None or isinstance(self._custom, AiohttpTransport | HttpxTransport):
                named = request if call.subject is None else call.subject[0]
                request = as_get(request, named.headers)
                if not request.query:
                    require_writable(request, serializer, self.host)
                    kwargs.setdefault("params", params_of(request, serializer))
        if call.settings.schedule.policy.idempotency_header is not None:
            request = _with_key(call, request)
        return await self._attempts(call, method, request, serializer, kwargs)

    async def close(self) -> None:
        """Close the client that this transport belongs to."""
        await self._close()

    async def release(self) -> None:
        """Close what calls went over: a custom transport, which knows what it owns, and our sessions."""
        try:
            if self._custom is not None and not self._custom_is_the_parents:
                await self._custom.close()
        finally:
            await self._sessions.close()

    async def guard(
        self,
        settings: CallSettings,
        subject: Subject | None,
        operation: Callable[..., Awaitable[T]],
        /,
        *args: Any,
        **kwargs: Any,
    ) -> T:
        """Run an operation as one call: counted, within its deadline, with the facts on whatever ends it.

        :param subject: for whoever watches: what will be sent, the operation's name and the session, if
            they are given beside it.
        """
        call = Call(settings, ASKING.get(), self._registry)
        call.subject = subject
        token = None
        if subject is not None:
            call.span = self._telemetry.call(call, *subject)
        failure: BaseException | None = None
        answer: T | None = None
        try:
            self._registry.register(call)
            token = ASKING.set(call)
            if self.budget is not None and subject is not None:
                self.budget.deposit(call.started)
            async with call.limit:
                answer = await operation(*args, **kwargs)
                return answer
        except asyncio.CancelledError as error:
            call.outcome, failure = "cancelled", error
            raise
        except Exception as error:
            # The limit's own exception is a bare TimeoutError; all others have been translated by now.
            expired = type(error) is TimeoutError and call.limit.expired()
            failure = call.overdue(self.host) if expired else error
            call.annotate(failure)
            if failure is error:
                raise
            raise failure from call.last_error or error
        finally:
            call.done = True
            self._registry.unregister(call)
            if token is not None:
                _reset(token)
            if call.parent is not None:
                call.parent.adopt_facts(call)
            call.release_references()
            if call.span is not None:
                call.span.end(failure, answer)
            # The traceback of the error holds this frame: without this they would be a circle.
            failure = call.last_error = call.reported_error = None

    def _refuse_changes(self, call: Call, request: GraphQLRequest) -> None:
        # An empty document is a persisted operation's: only the server knows what it is.
        if request.query.strip() and call.operation is not Operation.QUERY:
            why = runs_nothing(request.query, request.operationName) or (
                "this document is a mutation or cannot be judged. Send it with POST."
            )
            raise GraphQLClientException(f"Not sent to {self.host}: only queries may go over GET, and {why}")

    async def _attempts(
        self,
        call: Call,
        method: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        kwargs: dict[str, Any],
    ) -> GraphQLResponse:
        state: tenacity.RetryCallState | None = None
        credentials, bare, refused = call.settings.credentials, request, None
        while True:
            if credentials is not None:
                request, lent = await self._authorized(call, credentials, bare, refused)
            call.attempts += 1
            sent_before = call.sent
            attempt: AttemptOutcome | None
            response: StockResponse | None = None
            try:
                sending = self._send(call, method, request, serializer, **kwargs)
                limit = call.settings.timeout.attempt
                response = await (sending if limit is None else self._limited(limit, sending))
            except Exception as error:  # noqa: BLE001 -- sorted by the retry table, and raised again if final
                secrets = self._secrets(request)
                unsent = unwritable(error, request, serializer, self.host)
                if unsent is not None:
                    _exchange(call).sent = False
                given = self._custom is not None or self._sessions.given is not None
                attempt = of_exception(
                    unsent or error,
                    _exchange(call),
                    call,
                    self.host,
                    endpoint=self._endpoint,
                    given=given or kwargs.get("session") is not None,
                    secrets=secrets,
                )
                conceal(attempt.error, secrets)
                unsent = None
            else:
                if _is_clean(response, call):
                    call.status = None
                    if credentials is not None and credentials.renewals.watching:
                        _tell_answered(call, credentials, lent)
                    exchange = call.exchange or _exchange(call)
                    return answered(response, exchange.status, exchange.headers, call.attempts, call.started)
                attempt = of_answer(response, _exchange(call), call, self.host)
            exchange, call.exchange = _exchange(call), None
            call.status = exchange.status
            if (
                credentials is not None
                and is_unauthenticated(attempt, response, call)
                and self._may_renewal_help(credentials, refusal_of(attempt, response, call), lent, refused)
            ):
                refused = lent
                if nothing_ran(attempt, response):
                    call.sent = sent_before
                self._tell_refusal(call, attempt)
                continue
            if attempt is None:
                assert response is not None  # noqa: S101 -- no record means a good answer
                return answered(response, exchange.status, exchange.headers, call.attempts, call.started)
            state = state or call.settings.schedule.state(call.started)
            wait = await self._wait(call, state, attempt)
            if wait is None or not await self._paused(call, attempt, wait):
                try:
                    response = _end(attempt)
                finally:
                    attempt = state = None  # the traceback of the error holds this frame
                return answered(response, exchange.status, exchange.headers, call.attempts, call.started)
            self.retries += 1
            if call.span is not None:
                call.span.retry(attempt, wait)

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
            extra={"host": self.host, "kind": refusal.kind},
        )
        return False

    def _tell_refusal(self, call: Call, attempt: AttemptOutcome | None) -> None:
        refusal = attempt or AttemptOutcome(SendStatus.ANSWERED, "error code")
        logger.info(
            "%s refused the credentials of attempt %d, new ones are asked for",
            self.host,
            call.attempts,
            extra=_facts(self.host, call, refusal) | {"wait": 0.0},
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

    def _secrets(self, request: GraphQLRequest | None) -> frozenset[str]:
        """What must not be seen in a cause; asked for when something has failed."""
        call = current()
        asked = None if call is None else call.request or (call.subject and call.subject[0])
        headers = [each.headers for each in (request, asked) if each is not None]
        if call is not None:
            headers.append(dict(call.settings.headers or {}))
        credentials = (self._settings if call is None else call.settings).credentials
        provided = {} if credentials is None else credentials.latest
        urls = (self._endpoint, self._sessions.wire.proxy)
        return secrets_of(urls=urls, headers=[*headers, self._static_headers, provided])

    async def _limited(self, limit: float, sending: Awaitable[StockResponse]) -> StockResponse:
        async with asyncio.timeout(limit):
            return await sending

    def _send(
        self,
        call: Call,
        method: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        *,
        session: Any = None,
        **kwargs: Any,
    ) -> Awaitable[StockResponse]:
        """One attempt, not yet begun: what has to be awaited, with no frame of ours that it does not need."""
        if self._custom is not None:
            return self._send_custom(call, self._custom, method, request, serializer, session, kwargs)
        used = self._sessions.current() if session is None else self._sessions.wrap(session)
        return self._send_over(call, used, used.stock, method, request, serializer, kwargs)

    async def _send_over(
        self,
        call: Call,
        session: Session,
        stock: GraphQLTransport,
        method: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        kwargs: dict[str, Any],
    ) -> StockResponse:
        timeout = call.settings.timeout
        span = call.span
        exchange = session.traced_exchange() if span is not None and span.wants_http_spans else None
        if exchange is not None or span is None:
            through: Any = exchange or session.exchange()
            call.exchange = through
        else:
            call.exchange = session.exchange()
            through = span.carrying(call.exchange)
        options = session.options(timeout)
        if kwargs:
            options = {**options, **kwargs}
        gate = session.gate
        if gate is None:
            return await stock.request(method, request, serializer, session=through, **options)
        if not gate.acquire():
            if (
                call.settings.probe and type(gate) is ConcurrencyLimiter
            ):  # the connector has a connection for it
                return await stock.request(method, request, serializer, session=through, **options)
            await gate.wait(timeout.pool)
        try:
            return await stock.request(method, request, serializer, session=through, **options)
        finally:
            gate.release()

    async def _send_custom(
        self,
        call: Call,
        custom: GraphQLTransport,
        method: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        session: Any,
        kwargs: dict[str, Any],
    ) -> StockResponse:
        if session is not None and isinstance(custom, AiohttpTransport | HttpxTransport):
            used = self._sessions.wrap(session)
            return await self._send_over(call, used, custom, method, request, serializer, kwargs)
        self._custom_used = True
        exchange = call.exchange = StockExchange(custom)
        if call.span is not None:
            request = request.copy(headers={**request.headers, **call.span.carrier()})
        if is_stock(custom):
            timeout = call.settings.timeout
            if isinstance(custom, AiohttpTransport):
                await settled()
                seen = exchange.aiohttp_options(method, request, serializer, timeout)
            else:
                seen = exchange.httpx_options(timeout)
            kwargs = {**seen, **kwargs}
        if isinstance(custom, HttpxTransport) and method.lower() == "get":
            kwargs = {**kwargs, "params": query_of(custom.endpoint, request, serializer)}
        sending = custom.request(method, request, serializer, session=session, **kwargs)
        if isinstance(custom, HttpxTransport):
            return await shielded(sending, self._sessions.abandoned.tasks)
        return await sending

    async def _wait(
        self, call: Call, state: tenacity.RetryCallState, attempt: AttemptOutcome
    ) -> float | None:
        """Seconds before another attempt, or None if this was the last one."""
        schedule = call.settings.schedule
        if not should_retry(attempt, call.operation, schedule.policy):
            return None
        wait = await schedule.next_wait(state, attempt)
        if wait is None:
            explain(attempt, used_up(schedule))
            return None
        if wait >= call.remaining:
            note = f"Not tried again: a wait of {wait:.2f} s does not fit into the total."
            explain(attempt, no_room(call.settings.timeout.total), note)
            return None
        if self.budget is not None and not self.budget.withdraw():
            explain(attempt, BUDGET_SPENT, "Not tried again: the retry budget of this client is spent.")
            if call.span is not None:
                call.span.refused_by_budget()
            logger.warning(
                "retry budget of %s is spent: %s is not tried again",
                self.host,
                attempt.reason,
                extra=_facts(self.host, call, attempt),
            )
            return None
        return wait

    async def _paused(self, call: Call, attempt: AttemptOutcome, wait: float) -> bool:
        call.failed(attempt.error, wait)
        logger.warning(
            "%s: attempt %d ended with %s, the next one follows in %.2f s",
            self.host,
            call.attempts,
            attempt.reason,
            wait,
            extra=_facts(self.host, call, attempt) | {"wait": wait},
        )
        if await self._registry.pause(wait):
            return True
        explain(attempt, CLOSING, "Not tried again: the client is closing.")
        return False


def _tell_answered(call: Call, credentials: Credentials, given: Given) -> None:
    request = call.request
    if request is not None:
        scope = credentials.scope(given)
        credentials.renewals.answered(request.query, request.operationName, given.generation, scope)


def _reset(token: Token[Asker | None]) -> None:
    try:
        ASKING.reset(token)
    except ValueError:  # what was left of a loop is collected, in a context of somebody else's
        return


def _is_clean(response: StockResponse, call: Call) -> bool:
    """The short way out, for data without errors under a success status."""
    json, exchange = response.json, call.exchange
    return (
        type(json) is dict  # a transport of the caller's may give anything
        and type(json.get("data")) is dict
        and "errors" not in json
        and (exchange is None or exchange.status is None or exchange.status < 300)
    )


def _exchange(call: Call) -> Exchange:
    return call.exchange or Exchange()


def _end(attempt: AttemptOutcome) -> StockResponse:
    """What the stock client would give: the answer if there is one, else the error."""
    error = attempt.error
    if error is not None:
        try:
            raise error
        finally:
            del error, attempt  # the traceback of the error holds this frame
    assert attempt.response is not None  # noqa: S101 -- a record without an error has an answer
    return attempt.response


def _with_key(call: Call, request: GraphQLRequest) -> GraphQLRequest:
    header = call.settings.schedule.policy.idempotency_header or ""
    if call.operation is not Operation.REPEATABLE or any(
        k.lower() == header.lower() for k in request.headers
    ):
        return request
    return request.copy(headers={header: str(uuid.uuid4())})


def _facts(host: str, call: Call, attempt: AttemptOutcome) -> dict[str, Any]:
    request = call.request
    return {
        "host": host,
        "operation_name": request and (request.operationName or operation_name(request.query)),
        "attempt": call.attempts,
        "reason": attempt.reason,
        "status": attempt.status,
        "reach": attempt.reach.value,
    }
