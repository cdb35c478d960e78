"""The transport of a client: every call goes through it, counted and within its deadline."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

from aiographql.client import GraphQLClientException, GraphQLTransport
from aiographql.client.transport import AiohttpTransport, HttpxTransport

from graphql_prod.calls.attempts import AttemptLoop
from graphql_prod.calls.call import Call, current
from graphql_prod.calls.get_requests import as_get, params_of
from graphql_prod.calls.sender import Sender
from graphql_prod.calls.unwritable import refuse_unbounded, require_writable
from graphql_prod.documents import Operation, runs_nothing
from graphql_prod.headers import checked
from graphql_prod.registry import ASKING
from graphql_prod.runtime import forks
from graphql_prod.urls import has_credentials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from aiographql.client import GraphQLRequest
    from aiographql.client.serializer import GraphQLSerializer

    from graphql_prod.admission.admission import Admission
    from graphql_prod.calls.call import Subject
    from graphql_prod.calls.response import GraphQLResponse
    from graphql_prod.calls.settings import CallSettings
    from graphql_prod.registry import Registry
    from graphql_prod.resilience.retry.budget import Budget
    from graphql_prod.sessions.sessions import Sessions
    from graphql_prod.telemetry.hooks import Hooks
    from graphql_prod.telemetry.telemetry import Telemetry
    from graphql_prod.throttling.throttling import Throttling

logger: logging.Logger = logging.getLogger("graphql_prod")
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
        hooks: Hooks | None = None,
        throttling: Throttling | None = None,
        admission: Admission,
    ) -> None:
        self.host = host
        self._url_credentials = has_credentials(endpoint)
        self._settings = settings
        self._sessions = sessions
        self._sender = Sender(sessions, custom)
        self.budget = budget
        self._telemetry = telemetry
        self._registry = registry
        self._close = close
        self._loop = AttemptLoop(
            host=host,
            endpoint=endpoint,
            settings=settings,
            sessions=sessions,
            sender=self._sender,
            budget=budget,
            registry=registry,
            static_headers=static_headers or {},
            url_credentials=self._url_credentials,
            hooks=hooks,
            throttling=throttling,
            admission=admission,
        )
        self._silent_probes = not telemetry.policy.probes
        self._custom_is_the_parents = False
        forks.follow(self)

    def conceal(self, error: Exception, request: GraphQLRequest | None) -> Exception:
        """The error, without the secrets that the server of this request may repeat in it."""
        return self._loop.conceal(error, request)

    @property
    def retries(self) -> int:
        """How many attempts were repetitions, of all calls."""
        return self._loop.retries

    def begin_anew(self) -> object:
        """In a child that was forked: what its parent used is not the child's to close."""
        self._custom_is_the_parents = self._sender.custom_used
        return self._sender.custom

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
        return await self.sending(call, method, request, serializer, kwargs)

    def sending(
        self,
        call: Call,
        method: str,
        request: GraphQLRequest,
        serializer: GraphQLSerializer,
        kwargs: dict[str, Any],
    ) -> Awaitable[GraphQLResponse]:
        """The attempts of a call, not yet begun: what has to be awaited, with no frame that it does not need.

        :raises GraphQLClientException: it cannot be sent as it is.
        """
        call.request = request
        if request.variables:
            refuse_unbounded(request.variables, self.host)
        if method.lower() == "get":
            self._refuse_changes(call, request)
            if self._sender.custom is None or isinstance(
                self._sender.custom, AiohttpTransport | HttpxTransport
            ):
                named = request if call.subject is None else call.subject[0]
                request = as_get(request, named.headers)
                if not request.query:
                    require_writable(request, serializer, self.host)
                    kwargs.setdefault("params", params_of(request, serializer))
        if call.settings.backoff.policy.idempotency_header is not None:
            request = _with_key(call, request)
        return self._loop.run(call, method, request, serializer, kwargs)

    async def close(self) -> None:
        """Close the client that this transport belongs to."""
        await self._close()

    async def release(self) -> None:
        """Close what calls went over: a custom transport, which knows what it owns, and our sessions."""
        try:
            if self._sender.custom is not None and not self._custom_is_the_parents:
                await self._sender.custom.close()
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
        # Asked here, so that a call pays nothing while nobody listens.
        if (
            subject is not None
            and call.started >= self._telemetry.silent_until
            and not (settings.probe and self._silent_probes)
        ):
            call.span = self._telemetry.call(call, *subject)
        failure: BaseException | None = None
        answer: T | None = None
        try:
            self._registry.register(call)
            token = ASKING.set(call)
            async with call.limit:
                answer = await operation(*args, **kwargs)
                if self.budget is not None and subject is not None and (call.status or 0) < 500:
                    self.budget.deposit(call.started)
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
                try:  # noqa: SIM105 -- suppress() would be three frames more
                    ASKING.reset(token)
                except ValueError:  # what was left of a loop is collected, in a context of somebody else's
                    pass
            if call.parent is not None:
                call.parent.adopt_facts(call)
            if call.held is not None:
                call.held.release()
            if call.admission is not None:
                if call.outcome == "own":
                    call.admission.failed(first=call.attempts == 1)  # the total ran out in mid-attempt
                else:
                    call.admission.abandoned()
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


def _with_key(call: Call, request: GraphQLRequest) -> GraphQLRequest:
    header = call.settings.backoff.policy.idempotency_header or ""
    if call.operation is not Operation.REPEATABLE or any(
        k.lower() == header.lower() for k in request.headers
    ):
        return request
    return request.copy(headers={header: str(uuid.uuid4())})
