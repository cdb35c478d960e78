"""ProductionClient: joins the parts, decides nothing."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Never, Self, TypeVar, overload

from aiographql.client import GraphQLClient
from aiographql.client.subscription import (
    GRAPHQL_TRANSPORT_WS_PROTOCOL,
    GRAPHQL_WS_PROTOCOL,
)

from graphql_prod._build import Given, Methods, build
from graphql_prod.calls.call import Call, Group
from graphql_prod.calls.checks import (
    refuse_subscription,
    require_callable,
    require_protocols,
    require_subscription,
)
from graphql_prod.calls.request import encoded, prepared
from graphql_prod.calls.settings import CallSettings, twin_of, viewed
from graphql_prod.calls.unwritable import require_writable
from graphql_prod.config import ProductionConfig, plain
from graphql_prod.credentials import Credentials
from graphql_prod.documents import operation_name
from graphql_prod.errors import ClientClosedError
from graphql_prod.headers import aligned, layered, merge, spellings
from graphql_prod.headers import checked as checked_headers
from graphql_prod.health.probe import QUERY
from graphql_prod.registry import ASKING
from graphql_prod.resilience.retry.backoff import Backoff
from graphql_prod.resilience.retry.policy import Retry, RetryPolicy
from graphql_prod.resilience.timeouts import TimeoutPolicy, TimeoutPreset, override
from graphql_prod.schema.store import INTROSPECTION, introspection
from graphql_prod.settings.arguments import effective
from graphql_prod.settings.variables import PREFIX
from graphql_prod.shutdown.signals import SIGNALS
from graphql_prod.sources import load
from graphql_prod.subscriptions.context import SubscribeRequest
from graphql_prod.subscriptions.payload import checked
from graphql_prod.subscriptions.stream import EventStream
from graphql_prod.subscriptions.subscription import ended, subscribed
from graphql_prod.urls import host_of, redacted

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping

    import graphql
    from aiographql.client import (
        GraphQLCodec,
        GraphQLRequest,
        GraphQLSubscriptionEvent,
        GraphQLTransport,
    )
    from aiographql.client.serializer import GraphQLSerializer
    from aiographql.client.transport import GraphQLSession, GraphQLSubscriptionTransport
    from cafeteria.asyncio.callbacks import CallbackType

    from graphql_prod.calls.response import GraphQLResponse
    from graphql_prod.calls.transport import ProductionTransport
    from graphql_prod.credentials import HeadersProvider
    from graphql_prod.health.probe import Readiness
    from graphql_prod.registry import State
    from graphql_prod.sessions.policy import Backend
    from graphql_prod.shutdown.hooks import Hook, HookPhase
    from graphql_prod.shutdown.report import ShutdownReport
    from graphql_prod.subscriptions.context import Restart, Resume
    from graphql_prod.subscriptions.events import SubscriptionGap
    from graphql_prod.subscriptions.payload import PayloadProvider
    from graphql_prod.subscriptions.states import OnState
    from graphql_prod.subscriptions.subscription import ProductionSubscription
    from graphql_prod.telemetry.hooks import Watcher
    from graphql_prod.telemetry.stats import ClientStats
    from graphql_prod.throttling.recognition import Reader

T = TypeVar("T")


class ProductionClient(GraphQLClient):
    """A drop-in ``aiographql.client.GraphQLClient`` for production.

    Takes the stock constructor's arguments in the same order. Constructing needs no running event loop and
    does no I/O; the session is opened at first use. One client serves any number of tasks.

    :param endpoint: ``http(s)://`` or ``ws(s)://`` URL.
    :param headers: sent with every request, below those of a provider, a view and a call.
    :param method: ``"post"`` or ``"get"``, for queries; None is POST.
    :param schema: validates documents against this one, without asking the server.
    :param session: an ``aiohttp.ClientSession`` or ``httpx.AsyncClient`` of the caller, who closes it. None:
        the client opens one, and closes it.
    :param validate: False sends documents without validating them.
    :param serializer: the JSON library of the stock client's kind. None: orjson.
    :param codec: the stock client's codec of requests and answers. None: the stock's own.
    :param transport: a transport of the caller's, in place of ours. None: ours.
    :param subscription_transport: the same for subscriptions.
    :param schema_ttl: seconds for which an introspected schema is good; None: for ever.
    :param config: settings; arguments given beside it win over what it says.
    :param backend: ``"aiohttp"`` or ``"httpx"``; None leaves it to the config, the session, else aiohttp.
    :param timeout: a policy, a preset's name, or a number: the total in seconds; in place of the config's
        group. An operation's own group comes before it. None leaves it to the config.
    :param retry: a policy or a tenacity object, likewise; the latter keeps what the config's policy says of
        mutations, statuses, codes and the budget.
    :param headers_provider: a sync or async callable that returns headers; asked for every attempt, one
        flight at a time, and once more, with ``refresh=True`` if it takes that, when the server refuses them.
    :param hooks: one or several objects with any of the methods of :class:`ClientHooks`, which are told of
        attempts, retries and what holds calls back. None: nobody is told, at no cost.
    :param throttle_reader: ``(status, headers, json) -> Throttle | None``, asked before our own rules what an
        answer says of quotas; a plain function. One that fails is logged once, and ignored for that answer.
    :raises ConfigurationError: something cannot work: a wrong endpoint, an unknown backend, a transport and
        a session that contradict each other.
    """

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
        schema: graphql.GraphQLSchema | None = None,
        session: GraphQLSession | None = None,
        validate: bool = True,
        serializer: GraphQLSerializer | None = None,
        codec: GraphQLCodec | None = None,
        transport: GraphQLTransport | None = None,
        subscription_transport: GraphQLSubscriptionTransport | None = None,
        schema_ttl: float | None = None,
        *,
        config: ProductionConfig | None = None,
        backend: Backend | None = None,
        timeout: TimeoutPolicy | float | TimeoutPreset | None = None,
        retry: Retry | None = None,
        headers_provider: HeadersProvider | None = None,
        hooks: Watcher | Iterable[Watcher] | None = None,
        throttle_reader: Reader | None = None,
    ) -> None:
        beneath = getattr(config, "retry", None)
        config = effective(config, endpoint, headers, method, backend, validate, schema_ttl, timeout, retry)
        self._prod = build(
            endpoint,
            config,
            beneath,
            Given(
                session,
                transport,
                subscription_transport,
                serializer,
                codec,
                schema,
                headers_provider,
                hooks,
                throttle_reader,
            ),
            Methods(
                introspect=lambda headers, credentials: self._with(credentials).introspect(headers=headers),
                ask=self._probed,
                close=lambda: self.close(),
                end=self._prod_end,
            ),
        )
        self._prod_settings = self._prod.settings
        self._prod_named: frozenset[str] = frozenset()
        super().__init__(
            endpoint,
            headers=plain(config.headers),
            method=config.method,
            schema=schema,
            validate=validate,
            serializer=self._prod.serializer,
            codec=codec,
            transport=self._prod.transport,
            subscription_transport=subscription_transport,
            schema_ttl=schema_ttl,
        )

    @classmethod
    def from_config(
        cls,
        source: str | os.PathLike[str] | Mapping[str, Any] | ProductionConfig | None = None,
        *,
        env_prefix: str | None = PREFIX,
        secrets_dir: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
        schema: graphql.GraphQLSchema | None = None,
        session: GraphQLSession | None = None,
        validate: bool = True,
        serializer: GraphQLSerializer | None = None,
        codec: GraphQLCodec | None = None,
        transport: GraphQLTransport | None = None,
        subscription_transport: GraphQLSubscriptionTransport | None = None,
        schema_ttl: float | None = None,
        backend: Backend | None = None,
        timeout: TimeoutPolicy | float | TimeoutPreset | None = None,
        retry: Retry | None = None,
        headers_provider: HeadersProvider | None = None,
        hooks: Watcher | Iterable[Watcher] | None = None,
        throttle_reader: Reader | None = None,
        **own: Never,
    ) -> Self:
        """A client made of settings, from the environment and from what is given.

        :param source: None for the environment only; a ``.toml``, ``.json`` or ``.yaml`` file, over which the
            environment wins; a mapping or a :class:`ProductionConfig`, which win over the environment.
        :param env_prefix: what the names of the environment's variables begin with: with ``"B_"`` it is
            ``B_ENDPOINT``. For several upstreams in one process. None reads no environment.
        :param secrets_dir: a directory with one setting a file, named as its variable is
            (``graphql_prod_headers__authorization``); below the environment, above a file. None: the one that
            ``<PREFIX>SECRETS_DIR`` names, if it does.
        :param own: arguments that the constructor of a subclass takes besides. The others are the
            constructor's: objects beside settings, and arguments that win over settings.

        Reads ``schema.file`` at once: a missing one stops the roll-out, and not the first call.

        :raises ConfigurationError: listing every problem, with its source. Also where code names one endpoint
            and the environment another, whose headers, tls or proxy would be used here too.
        """
        config = load(source, required="endpoint", env_prefix=env_prefix, secrets_dir=secrets_dir).config
        given: dict[str, Any] = {
            "headers": headers,
            "method": method,
            "schema": schema,
            "session": session,
            "serializer": serializer,
            "codec": codec,
            "transport": transport,
            "subscription_transport": subscription_transport,
            "schema_ttl": schema_ttl,
            "backend": backend,
            "timeout": timeout,
            "retry": retry,
            "headers_provider": headers_provider,
            "hooks": hooks,
            "throttle_reader": throttle_reader,
        }
        # What is not given is left out: a subclass need not take all of it.
        given = {name: value for name, value in given.items() if value is not None}
        if not validate:
            given["validate"] = validate
        client = cls(str(config.endpoint), config=config, **given, **own)
        client._prod.schemas.read_file()
        return client

    @property
    def transport(self) -> ProductionTransport:
        """Our transport, over which every query and mutation goes."""
        return self._prod.transport

    @property
    def config(self) -> ProductionConfig:
        """The effective settings; of a view with its own timeout, retries and headers."""
        return viewed(self._prod.config, self._prod_settings, self._prod_named)

    @property
    def state(self) -> State:
        """``"open"``, ``"draining"``, ``"closing"`` or ``"closed"``."""
        return self._prod.registry.state

    def stats(self) -> ClientStats:
        """Counts of this client and its views, now. Costs a few microseconds; no I/O."""
        return self._prod.stats()

    def with_options(
        self,
        *,
        timeout: TimeoutPolicy | float | TimeoutPreset | None = None,
        retry: Retry | None = None,
        idempotent: bool | None = None,
        headers: Mapping[str, str] | None = None,
        headers_provider: HeadersProvider | None = None,
        validate: bool | None = None,
    ) -> Self:
        """A client of the same class that shares everything with this one, but for the options named.

        Session, pool, budget, schema and shutdown are shared; closing one closes both. Cheap enough for
        one call. None leaves an option as it is.

        :param timeout: a policy, a preset's name, or a number: the total in seconds.
        :param retry: a policy or a tenacity object; the budget stays the client's. Under a tenacity object
            what the client's policy says of mutations, statuses and codes stays too.
        :param idempotent: True lets mutations be repeated like queries. False does not, whatever the policy
            says, and sends no idempotency key.
        :param headers: rank between the client's headers and the request's.
        :param headers_provider: in place of the client's, for queries, subscriptions and introspection of
            this view and of its views. Its headers, its renewals and the sockets that its subscriptions share
            are this view's own: so each user can have their own credentials. They rank below the headers that
            are named here or later, and above those of the client or view that this one is made of.
        :param validate: whether to validate documents against the schema.
        :raises ConfigurationError: an unknown preset, numbers that contradict one another, or a
            ``headers_provider`` that cannot be called.
        """
        now = self._prod_settings
        headers = checked_headers(headers, "headers of with_options()", taken=self._prod.url_credentials)
        view = twin_of(self)
        view._prod_settings = CallSettings(
            timeout=override(now.timeout, timeout),
            backoff=now.backoff if retry is None else Backoff.of(retry, now.backoff.policy),
            idempotent=now.idempotent if idempotent is None else idempotent,
            headers=now.headers if headers is None else merge(now.headers or {}, headers),
            validate=now.validate if validate is None else validate,
            auth_error_codes=now.auth_error_codes,
            credentials=now.credentials
            if headers_provider is None
            else Credentials(
                headers_provider,
                merge(plain(self._prod.config.headers), now.headers) if now.headers else None,
            ),
        )
        view._prod_named = self._prod_named | {
            key for key, value in (("timeout", timeout), ("backoff", retry)) if value is not None
        }
        return view

    async def query(
        self,
        request: GraphQLRequest | str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        operation: str | None = None,
        variables: dict[str, Any] | None = None,
        extensions: dict[str, Any] | None = None,
        session: GraphQLSession | None = None,
    ) -> GraphQLResponse:
        """Execute a query or mutation; arguments and result are the stock client's.

        Retried where that is safe, within the total timeout. Safe to cancel: a cancel is neither retried
        nor swallowed, and leaves the connection pool whole.

        :raises RequestTimeoutError: a limit was reached.
        :raises HTTPStatusError: an answer without success and without GraphQL.
        :raises InvalidResponseError: a success without GraphQL.
        :raises TransportError: no answer came.
        :raises ClientClosedError: the client is closed or closing.
        :raises ThrottledError: nothing was sent: throttling holds calls back for longer than this one has.
        :raises AdmissionRejectedError: nothing was sent: the upstream is ill, or was isolated.
        :raises GraphQLClientException: the stock client's other errors, among them a refused document; a
            subscription, which is for :meth:`subscribe` and :meth:`stream`.
        """
        # A GET leaves out headers that nobody named; every other request is made once, with all of them.
        posts = str(method or self._prod.method).lower() != "get"
        request = self._prepared(request, headers, self._prod.default_headers if posts else None)
        if "subscription" in request.query:
            refuse_subscription(request, operation)
        settings = self._prod_settings
        if self._prod.operations:
            settings = self._settings_of(request, operation)
        return await self._prod.transport.guard(
            settings,
            (request, operation, session),
            self._prod_asked,
            request,
            None if posts else self._prod.default_headers,
            method,
            operation,
            variables,
            extensions,
            session,
        )

    def _prod_asked(
        self,
        request: GraphQLRequest,
        beneath: dict[str, str] | None,
        method: str | None,
        operation: str | None,
        variables: dict[str, Any] | None,
        extensions: dict[str, Any] | None,
        session: GraphQLSession | None,
    ) -> Awaitable[GraphQLResponse]:
        """What the stock's ``query()`` does with a request, not yet begun."""
        prod = self._prod
        request = request.copy(None, beneath, operation, variables, extensions, prod.codec or request.codec)
        if request.codec is not None:
            request = encoded(request)
        wanted = self._prod_settings.validate
        call = ASKING.get()
        assert isinstance(call, Call)  # noqa: S101 -- the guard has just begun it
        own = "validate" in self.__dict__ or type(self).validate is not _VALIDATE
        if own or (request.validate and (prod.schemas.validates if wanted is None else wanted)):
            return self._prod_validated(request, method, session)
        return prod.transport.sending(
            call,
            method or prod.method,
            request,
            prod.serializer,
            {} if session is None else {"session": session},
        )

    async def _prod_validated(
        self, request: GraphQLRequest, method: str | None, session: GraphQLSession | None
    ) -> GraphQLResponse:
        await self.validate(request=request)
        return await self._prod.transport.request(
            method or self._prod.method, request, self._prod.serializer, session=session
        )

    if TYPE_CHECKING:
        # The stock's methods go through query(), and so return what it returns.

        async def post(
            self,
            request: GraphQLRequest,
            headers: dict[str, str] | None = None,
            operation: str | None = None,
            variables: dict[str, Any] | None = None,
            extensions: dict[str, Any] | None = None,
            session: GraphQLSession | None = None,
        ) -> GraphQLResponse: ...

        async def get(
            self,
            request: GraphQLRequest,
            headers: dict[str, str] | None = None,
            operation: str | None = None,
            variables: dict[str, Any] | None = None,
            extensions: dict[str, Any] | None = None,
            session: GraphQLSession | None = None,
        ) -> GraphQLResponse: ...

    async def query_data_as(
        self,
        request: GraphQLRequest | str,
        result_type: type[T],
        path: str | None = None,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        operation: str | None = None,
        variables: dict[str, Any] | None = None,
        extensions: dict[str, Any] | None = None,
        session: GraphQLSession | None = None,
    ) -> T:
        """:meth:`query`, with the data decoded; a decoding error carries the facts of the call too."""
        settings = self._prod_settings
        if self._prod.operations:
            settings = self._settings_of(request, operation)
        with Group(settings, self._prod.registry):
            return await super().query_data_as(
                request,
                result_type,
                path,
                method,
                headers,
                operation,
                variables,
                extensions,
                session,
            )

    async def introspect(self, headers: dict[str, str] | None = None) -> graphql.GraphQLSchema:
        """Ask the server for its schema: an ordinary query.

        Asks each time, and changes nothing of what the client knows; :meth:`get_schema` does. Safe to cancel.

        :raises GraphQLIntrospectionException: the server refuses, or says nothing that makes a schema.
        :raises GraphQLClientException: what :meth:`query` raises.
        """
        checked = checked_headers(headers, "headers of the introspection", taken=self._prod.url_credentials)
        failure = None
        try:
            answer = await self.query(introspection(checked))
            return await self._prod.schemas.built(answer)
        except BaseException as error:
            failure = error
            raise
        finally:
            self._prod.telemetry.introspected(failure)

    async def get_schema(
        self, refresh: bool = False, headers: dict[str, str] | None = None
    ) -> graphql.GraphQLSchema:
        """The schema that documents are validated against, shared with all views; asked for if not known.

        One introspection serves all who wait, each until its own deadline. After ``schema.ttl`` the known
        schema is returned, and a refresh begins in the background. Safe to cancel.

        :param refresh: True waits for a new one.
        :param headers: of the introspection, if this begins it.
        :raises ConfigurationError: ``schema.file`` cannot be used.
        :raises GraphQLClientException: what :meth:`introspect` raises.
        """
        settings = self._settings_of("", INTROSPECTION)
        return await self._prod.schemas.get(refresh, self._over_the_views(headers), settings)

    async def validate(
        self,
        request: GraphQLRequest,
        schema: graphql.GraphQLSchema | None = None,
        headers: dict[str, str] | None = None,
        force: bool = False,
    ) -> None:
        """Validate a document, as stock, once for a schema; a view's ``validate`` replaces the client's.

        Nothing where validation is off, where the request says ``validate=False``, and with mode ``"auto"``
        where the server refuses to be introspected. Safe to cancel.

        :param schema: None means the server's, or that of ``schema.file``.
        :param headers: of an introspection, in place of the request's.
        :param force: True validates whatever the settings and the request say.
        :raises GraphQLClientValidationException: the document does not fit the schema.
        :raises graphql.GraphQLSyntaxError: it is no document.
        :raises GraphQLClientException: there is no schema: what :meth:`get_schema` raises.
        """
        schemas, wanted = self._prod.schemas, self._prod_settings.validate
        if not force and not (request.validate and (schemas.validates if wanted is None else wanted)):
            return
        if schema is None:
            own = "get_schema" not in self.__dict__ and type(self).get_schema is _GET_SCHEMA
            if own and schemas.fits(request.query):
                return
            headers = headers or request.headers
            if not own:
                schema = await schemas.theirs(partial(self.get_schema, headers=headers), strict=force)
                if schema is None:
                    return
        given = headers if schema is not None else self._over_the_views(headers)
        await schemas.check(request.query, schema, given, self._settings_of(request, None), strict=force)

    async def subscribe(
        self,
        request: GraphQLRequest | str,
        headers: dict[str, str] | None = None,
        operation: str | None = None,
        variables: dict[str, Any] | None = None,
        extensions: dict[str, Any] | None = None,
        callbacks: Any = None,
        on_data: CallbackType | None = None,
        on_error: CallbackType | None = None,
        session: GraphQLSession | None = None,
        wait: bool = False,
        protocols: str | Iterable[str] = (GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL),
        connection_init_payload: dict[str, Any] | PayloadProvider | None = None,
        transport: GraphQLSubscriptionTransport | None = None,
        *,
        on_gap: Callable[[SubscriptionGap], Any] | None = None,
        resume: Resume | None = None,
        on_state: OnState | None = None,
        restart: Restart | None = None,
    ) -> ProductionSubscription:
        """Subscribe, and go on being subscribed whatever becomes of the connection.

        Arguments and result are the stock client's. Returns once the server has acknowledged the
        connection. Cancelling the caller, also one that waits, ends the subscription.

        :param connection_init_payload: fields beside the HTTP headers; or a sync or async callable that
            returns them, asked at each connect, with ``refresh=True`` after a refusal if it takes that.
        :param wait: True returns only when the subscription has ended.
        :param protocols: one or both of ``"graphql-transport-ws"`` and ``"graphql-ws"``, the preferred first.
        :param on_gap: a sync or async callable, told of every :class:`SubscriptionGap` in its place among
            the events. None: gaps are only logged.
        :param resume: a sync or async callable ``(last_event, variables) -> variables``, asked before each
            resubscription; ``last_event`` is the last one that came, or None. None: the same variables.
        :param on_state: a sync or async callable, told of every :class:`SubscriptionState` as it happens.
        :param restart: asked when the server ends the subscription: with the event of its ``error``, or None
            for its ``complete``. True subscribes anew as after a lost connection, told as a gap, within
            ``subscriptions.max_reconnects``. For gateways that end subscriptions when a subgraph restarts.
            None: the server's end is the end.
        :raises SubscriptionClosedError: the server refused with a fatal close code, or the credentials.
        :raises SubscriptionLimitError: it would need one socket more than ``pool.subscriptions``.
        :raises RequestTimeoutError: no acknowledgement came within ``subscriptions.ack_timeout``.
        :raises HTTPStatusError: the upgrade was refused with a status.
        :raises TransportError: no connection came about.
        :raises ClientClosedError: the client is closed or closing.
        :raises ConfigurationError: ``protocols`` is empty, or names one that we do not speak.
        :raises GraphQLClientException: the document is no subscription, or does not fit the schema.
        """
        require_callable(on_gap=on_gap, on_state=on_state, restart=restart)
        subscribe_request = await self._subscribe_request(
            request,
            headers,
            operation,
            variables,
            extensions,
            session,
            protocols,
            connection_init_payload,
            transport,
            resume,
            on_state,
            restart,
        )
        subscription = await subscribed(
            self._prod.connections,
            subscribe_request,
            callbacks,
            on_data,
            on_error,
            on_gap,
            self._prod.registry.admit,
        )
        if wait:
            await ended(subscription)
        return subscription

    @overload
    def stream(
        self,
        request: GraphQLRequest | str,
        headers: dict[str, str] | None = ...,
        operation: str | None = ...,
        variables: dict[str, Any] | None = ...,
        extensions: dict[str, Any] | None = ...,
        session: GraphQLSession | None = ...,
        protocols: str | Iterable[str] = ...,
        connection_init_payload: dict[str, Any] | PayloadProvider | None = ...,
        transport: GraphQLSubscriptionTransport | None = ...,
        *,
        gaps: Literal[False] = ...,
        resume: Resume | None = ...,
        on_state: OnState | None = ...,
        restart: Restart | None = ...,
    ) -> AsyncGenerator[GraphQLSubscriptionEvent, None]: ...

    @overload
    def stream(
        self,
        request: GraphQLRequest | str,
        headers: dict[str, str] | None = ...,
        operation: str | None = ...,
        variables: dict[str, Any] | None = ...,
        extensions: dict[str, Any] | None = ...,
        session: GraphQLSession | None = ...,
        protocols: str | Iterable[str] = ...,
        connection_init_payload: dict[str, Any] | PayloadProvider | None = ...,
        transport: GraphQLSubscriptionTransport | None = ...,
        *,
        gaps: bool,
        resume: Resume | None = ...,
        on_state: OnState | None = ...,
        restart: Restart | None = ...,
    ) -> AsyncGenerator[GraphQLSubscriptionEvent | SubscriptionGap, None]: ...

    def stream(
        self,
        request: GraphQLRequest | str,
        headers: dict[str, str] | None = None,
        operation: str | None = None,
        variables: dict[str, Any] | None = None,
        extensions: dict[str, Any] | None = None,
        session: GraphQLSession | None = None,
        protocols: str | Iterable[str] = (GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL),
        connection_init_payload: dict[str, Any] | PayloadProvider | None = None,
        transport: GraphQLSubscriptionTransport | None = None,
        *,
        gaps: bool = False,
        resume: Resume | None = None,
        on_state: OnState | None = None,
        restart: Restart | None = None,
    ) -> AsyncGenerator[Any, None]:
        """The events of a subscription, in order, as an asynchronous iterator.

        Connects when the first event is asked for. Takes :meth:`subscribe`'s arguments, and raises what it
        raises. Ends normally after the server's ``complete`` and after a shutdown of the client. Dropping
        the iterator and ``aclose()`` unsubscribe; only ``aclose()`` waits for the socket's end.

        Safe to cancel: ``asyncio.timeout()`` or ``asyncio.wait_for()`` around ``anext()`` loses no event, and
        the next ``anext()`` goes on where it was. A task that ends by a cancel drops the iterator with it.

        :param gaps: True yields a :class:`SubscriptionGap` wherever events may be missing.
        :param resume: as in :meth:`subscribe`; so are ``on_state`` and ``restart``.
        :raises GraphQLRequestException: the server ended the subscription with an error.
        :raises SubscriptionClosedError: it ended for good, and not because anybody asked for it.
        """
        return EventStream(
            self._prod.connections,
            lambda: self._subscribe_request(
                request,
                headers,
                operation,
                variables,
                extensions,
                session,
                protocols,
                connection_init_payload,
                transport,
                resume,
                on_state,
                restart,
            ),
            gaps=gaps,
        )

    async def _subscribe_request(
        self,
        request: GraphQLRequest | str,
        headers: dict[str, str] | None,
        operation: str | None,
        variables: dict[str, Any] | None,
        extensions: dict[str, Any] | None,
        session: GraphQLSession | None,
        protocols: str | Iterable[str],
        payload: dict[str, Any] | PayloadProvider | None,
        transport: GraphQLSubscriptionTransport | None,
        resume: Resume | None,
        on_state: OnState | None,
        restart: Restart | None,
    ) -> SubscribeRequest:
        """What is asked for, checked: a subscription that fits the schema."""
        prod = self._prod
        prod.registry.admit()
        if prod.connections.draining:
            raise ClientClosedError(
                f"The client for {prod.registry.host} is about to close, and takes no new subscriptions. "
                "Make a new client, or close this one later."
            )
        require_callable(resume=resume, on_state=on_state, restart=restart)
        if prod.admission.on and not prod.admission.admits():
            raise prod.admission.error("It was not subscribed.")
        offered = require_protocols(protocols)
        request = self._prepared(request, headers)
        request = request.copy(
            None, prod.default_headers, operation, variables, extensions, prod.codec or request.codec
        )
        request = encoded(request)
        require_subscription(request)
        require_writable(request, prod.serializer, prod.transport.host)
        with Group(self._settings_of(request, None), self._prod.registry):
            await self.validate(request)
        prod.registry.admit()  # it may have begun to close meanwhile
        policy = prod.config.subscriptions
        where = policy.endpoint if callable(policy.endpoint) else None
        endpoint = policy.endpoint if isinstance(policy.endpoint, str) else self.endpoint
        return SubscribeRequest(
            endpoint=endpoint,
            request=request,
            protocols=offered,
            payload=checked(payload),
            session=session,
            transport=transport or prod.connections.transport,
            resume=resume,
            restart=restart,
            where=where,
            compression=policy.compression,
            states=prod.connections.states_of(on_state, request, host_of(endpoint)),
            credentials=self._prod_settings.credentials,
        )

    async def reconnect_subscriptions(self) -> None:
        """Connect all subscriptions anew now, with fresh credentials, payload and endpoint; told as gaps.

        For a token that was rotated, or an upstream that has moved. Returns when all have been acknowledged,
        or have ended. Safe to cancel: the reconnects go on.
        """
        await self._prod.connections.reconnect()

    def isolate(self, reason: str) -> None:
        """Send nothing to this upstream from here on: calls raise :class:`AdmissionRejectedError` at once.

        For operators: an upstream that does harm, or shall be left alone. ``ready()`` is false meanwhile;
        subscriptions that have lost their connection wait. Nothing that is under way is ended. Also where
        ``admission.mode`` is off. Shared with all views.

        :param reason: a text for errors, the log and ``stats()``.
        :raises ConfigurationError: there is no reason.
        """
        self._prod.admission.isolate(reason)

    def restore(self) -> None:
        """Take :meth:`isolate` back, and forget what admission has counted: all calls pass again."""
        self._prod.admission.restore()

    async def ready(self, timeout: float | None = None) -> Readiness:
        """Whether the server answers: ``{ __typename }``, sent once, unvalidated, under the ``PROBE`` limits.

        Probes that come together share one query, and ``health.min_interval`` keeps a storm of them from
        sending more than one a second. False without a query while the client is draining or closed. Never
        raises for what is wrong with the server. Safe to cancel.

        :param timeout: seconds to wait for the answer; None means the 2 s of ``PROBE``.
        :raises ConfigurationError: ``timeout`` is no number over 0.
        """
        return await self._prod.probe.ready(timeout)

    def alive(self) -> bool:
        """Liveness: True until the client is closed. Never touches the network.

        A program whose upstream is down is not helped by being restarted: that is :meth:`ready`'s affair.
        """
        return self.state != "closed"

    async def shutdown(self, deadline: float | None = None) -> ShutdownReport:
        """End this client and its views in order, and report how it went.

        ``before`` hooks; no new work from here on. Subscriptions end after the events that wait; calls
        under way finish, those that wait for another attempt raise their last failure. What is left at the
        deadline is cut: its callers get :class:`ClientClosedError`. A session of ours is closed; ``after``
        hooks.

        Idempotent. Called again while it runs it joins: a shorter deadline shortens it, a longer one never
        lengthens it. Cancelling the caller does not stop it, and leaves no session open.

        :param deadline: seconds; 0 cuts at once. None means ``shutdown.deadline`` (25 s by default).
        :raises ConfigurationError: ``deadline`` is no number.
        """
        return await self._prod.conductor.shutdown(deadline)

    async def close(self) -> None:
        """:meth:`shutdown` without the report; what closing a transport of yours raises comes out.

        Leaving ``async with`` and ``transport.close()`` call it, a subclass's own too. Signals and a
        :class:`ShutdownCoordinator` call a subclass's own, else :meth:`shutdown`.
        """
        await self._prod.conductor.close(self.shutdown)

    @overload
    def on_shutdown(self, hook: Hook, *, phase: HookPhase = "before") -> Hook: ...

    @overload
    def on_shutdown(self, *, phase: HookPhase = "before") -> Callable[[Hook], Hook]: ...

    def on_shutdown(self, hook: Any = None, *, phase: HookPhase = "before") -> Any:
        """Register a function to be called when the client ends; usable as a decorator.

        Sync or async, without arguments, inside the deadline, in the order of registration. One that fails,
        or outlives the deadline, is logged, named in the report, and stops nothing.

        :param phase: ``"before"``: first of all, and the only one that may still send calls;
            ``"after"``: when the session is closed.
        :raises ConfigurationError: it is not callable, or there is no such phase.
        :raises ClientClosedError: that phase is past.
        """
        return self._prod.conductor.hooks.registered(hook, phase)

    def install_signal_handlers(self, signals: Iterable[int] = SIGNALS) -> None:
        """Have SIGTERM and SIGINT begin the shutdown, and the second of them cut it short.

        For programs without a server that handles signals itself, as uvicorn and aiohttp.web do. The
        previous handlers are restored after the shutdown and then called, but for Python's and asyncio's
        defaults: the program goes on and ends by itself. Outside the main thread nothing is taken, and a
        warning is logged. A handler set by ``loop.add_signal_handler`` is called at once, beside ours.

        :raises ConfigurationError: one of them cannot be handled.
        :raises RuntimeError: no event loop is running.
        :raises ClientClosedError: the client is closed; a signal would do nothing.
        """
        self._prod.conductor.install(signals)

    async def __aenter__(self) -> Self:
        self._prod.registry.admit()
        return self

    async def __aexit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        if exc_type is not None:
            self._prod.conductor.limit(0.0)
        await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {redacted(self.endpoint)} {self.state}>"

    async def _probed(self, limits: TimeoutPolicy) -> GraphQLResponse:
        view = self.with_options(timeout=limits, retry=RetryPolicy(attempts=1), validate=False)
        view._prod_settings = dataclasses.replace(view._prod_settings, probe=True)
        with self._prod.telemetry.of_probes():
            return await view.query(QUERY)

    def _prod_leave(self) -> None:
        """A server has been told to end: not ready from here on, and subscriptions end; calls go on."""
        self._prod.conductor.leave()

    async def _prod_end(self, deadline: float | None) -> None:
        """The way to the end that a program has made its own."""
        if "close" in self.__dict__ or type(self).close is not _CLOSE:
            await self.close()
        else:
            with self._prod.conductor.inside("shutdown"):
                await self.shutdown(deadline)

    def _with(self, credentials: Credentials | None) -> Self:
        """This client, or a view of it that has other credentials."""
        if credentials is None or credentials is self._prod_settings.credentials:
            return self
        view = twin_of(self)
        view._prod_settings = dataclasses.replace(self._prod_settings, credentials=credentials)
        return view

    def _settings_of(self, request: GraphQLRequest | str, operation: str | None) -> CallSettings:
        """The settings of an operation that has its own; what a view names comes before them."""
        if not self._prod.operations:
            return self._prod_settings
        if isinstance(request, str):
            name = operation or operation_name(request)
        else:
            name = operation or request.operationName or operation_name(request.query)
        own = self._prod.operations.get(name or "", {})
        return dataclasses.replace(
            self._prod_settings, **{key: own[key] for key in own.keys() - self._prod_named}
        )

    def _over_the_views(self, headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
        view = self._prod_settings.headers
        given = checked_headers(headers, "headers of the introspection", taken=self._prod.url_credentials)
        return layered(view, given or {}, self._prod.header_names) if view else given

    def _prepared(
        self,
        request: GraphQLRequest | str,
        headers: Mapping[str, str] | None,
        beneath: dict[str, str] | None = None,
    ) -> GraphQLRequest:
        """The request with what the call itself names: the view's headers under the request's under these.

        Every name is spelt as the client spells it.

        :param beneath: what the client sends unless one of these says otherwise.
        """
        prod = self._prod
        names = prod.header_names
        view = self._prod_settings.headers
        own = aligned(view, names) if view else {}
        if not isinstance(request, str) and request.headers:
            given = checked_headers(request.headers, "headers of the request", taken=prod.url_credentials)
            own = layered(own, given, names)
        if headers:
            headers = checked_headers(headers, "headers of the call", taken=prod.url_credentials)
            own |= aligned(headers, {**spellings(own), **names})
        return prepared(request, own if beneath is None else {**beneath, **own})


_CLOSE = ProductionClient.close
_GET_SCHEMA = ProductionClient.get_schema
_VALIDATE = ProductionClient.validate
