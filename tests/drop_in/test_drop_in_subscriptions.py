"""Subscriptions and subclasses behave as with the stock client."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import aiohttp
import pytest
from aiographql.client import (
    GRAPHQL_TRANSPORT_WS_PROTOCOL,
    GRAPHQL_WS_PROTOCOL,
    GraphQLClient,
    GraphQLClientValidationException,
    GraphQLCodecException,
    GraphQLRequest,
    GraphQLResponse,
    GraphQLSubscriptionEvent,
    GraphQLSubscriptionEventType,
)
from aiographql.client.transport import AiohttpSubscriptionTransport, WebsocketSubscriptionTransport
from cafeteria.asyncio.callbacks import CallbackRegistry
from dropping_in import ADD, GREET, Variant, Wrong

from graphql_prod import (
    ProductionClient,
)
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.waiting import no_waiting

if TYPE_CHECKING:
    from graphql_prod import GraphQLResponse as ProductionResponse


@dataclass
class Events:
    """Callbacks that remember, and a wait for what they were called with."""

    seen: list[GraphQLSubscriptionEvent]
    more: asyncio.Event

    @classmethod
    def new(cls) -> Events:
        return cls([], asyncio.Event())

    async def take(self, event: GraphQLSubscriptionEvent) -> None:
        self.seen.append(event)
        self.more.set()

    async def arrived(self, count: int) -> list[Any]:
        async with asyncio.timeout(10):
            while len(self.seen) < count:
                self.more.clear()
                await self.more.wait()
        return [cast("GraphQLResponse", event.payload).json for event in self.seen]


COUNTED = [{"data": {"count": number}} for number in range(3)]
PROTOCOLS = [
    ((GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL), "complete"),
    ((GRAPHQL_WS_PROTOCOL,), "stop"),
    (GRAPHQL_WS_PROTOCOL, "stop"),
    (GRAPHQL_TRANSPORT_WS_PROTOCOL, "complete"),
]


class TestSubscriptions:
    @pytest.mark.parametrize(("protocols", "stop"), PROTOCOLS, ids=str)
    async def test_counts(self, server: ScriptedServer, variant: Variant, protocols: Any, stop: str) -> None:
        """Events arrive in order, over either protocol; wait=True waits for the end."""
        events = Events.new()
        async with variant.client(server) as client:
            subscription = await client.subscribe(
                cast("Any", "subscription ($to: Int) { count(to: $to) }"),
                variables={"to": 2},
                on_data=events.take,
                wait=True,
                protocols=protocols,
            )
            assert await events.arrived(3) == COUNTED
            assert not subscription.active()
        for event in events.seen:
            assert event.subscription_id == subscription.id == event.id

    @pytest.mark.parametrize(("protocols", "stop"), PROTOCOLS[:2], ids=str)
    async def test_unsubscribe(
        self, server: ScriptedServer, variant: Variant, protocols: Any, stop: str
    ) -> None:
        """unsubscribe_and_wait() tells the server and closes the socket; the client lives on."""
        events = Events.new()
        async with variant.client(server) as client:
            subscription = await client.subscribe(
                GraphQLRequest("subscription { count }"), on_data=events.take, protocols=protocols
            )
            await events.arrived(3)
            assert subscription.active()
            await subscription.unsubscribe_and_wait()
            assert not subscription.active()
            assert subscription.task is None
            await server.socket_count(0)
            assert (await client.query(GREET)).data == {"hello": "Hello, world!"}
        assert [m.message["type"] for m in server.messages][-1] == stop

    async def test_async_with(self, server: ScriptedServer, variant: Variant) -> None:
        """Leaving a subscription unsubscribes."""
        events = Events.new()
        async with variant.client(server) as client:
            async with await client.subscribe(
                GraphQLRequest("subscription { count }"), on_data=events.take
            ) as subscription:
                await events.arrived(1)
            assert not subscription.active()
            await server.socket_count(0)

    @pytest.mark.parametrize("how", ["registry", "mapping", "list"])
    async def test_callbacks(self, server: ScriptedServer, variant: Variant, how: str) -> None:
        """Callbacks may come in a registry, or in a mapping of event types to one or several."""
        first, second = Events.new(), Events.new()
        data = GraphQLSubscriptionEventType.DATA
        callbacks: Any = {data: first.take}
        if how == "list":
            callbacks = {data: [first.take, second.take]}
        if how == "registry":
            callbacks = CallbackRegistry({data: first.take})
            callbacks.register(data, second.take)
        async with variant.client(server) as client:
            subscription = await client.subscribe(
                GraphQLRequest("subscription { count(to: 2) }"), callbacks=callbacks
            )
            assert await first.arrived(3) == COUNTED
            if how != "mapping":
                assert await second.arrived(3) == COUNTED
            assert isinstance(subscription.callbacks, CallbackRegistry)
            assert subscription.callbacks.exists(data, first.take)
            await subscription.unsubscribe_and_wait()

    async def test_on_error(self, server: ScriptedServer, variant: Variant) -> None:
        """An operation that the server refuses arrives at on_error, as an event with the errors."""
        events = Events.new()
        async with variant.client(server) as client:
            subscription = await client.subscribe(
                GraphQLRequest("subscription { nothing }"), on_error=events.take
            )
            await events.arrived(1)
            await subscription.unsubscribe_and_wait()
        (event,) = events.seen
        assert event.type is GraphQLSubscriptionEventType.ERROR
        payload = cast("GraphQLResponse", event.payload)
        assert "Cannot query field 'nothing'" in str(payload.errors[0].message)

    async def test_headers_and_init(self, server: ScriptedServer, variant: Variant) -> None:
        """Upgrade and connection_init carry the merged headers and the payload given."""
        async with variant.client(server, headers={"X-1": "client", "X-2": "client"}) as client:
            subscription = await client.subscribe(
                GraphQLRequest("subscription { count(to: 0) }", headers={"X-2": "request"}),
                headers={"X-3": "method"},
                connection_init_payload={"token": "t"},
                wait=True,
            )
            assert not subscription.active()
        upgrade, init = server.upgrades[0].headers, server.messages[0].message
        ranks = {"X-1": "client", "X-2": "request", "X-3": "method"}
        assert {name: upgrade[name] for name in ranks} == ranks
        assert init["payload"]["token"] == "t"
        assert ranks.items() <= init["payload"]["headers"].items()

    async def test_validated(self, server: ScriptedServer, variant: Variant) -> None:
        """A subscription's document is validated like any."""
        async with variant.client(server, validate=True) as client:
            with pytest.raises(GraphQLClientValidationException):
                await client.subscribe(GraphQLRequest("subscription { nothing }"))
        assert server.upgrades == []

    @pytest.mark.parametrize("where", ["client", "call"])
    @pytest.mark.parametrize("library", ["aiohttp", "websockets"])
    async def test_transport(
        self, server: ScriptedServer, kind: type[GraphQLClient], where: str, library: str
    ) -> None:
        """A subscription transport of the caller's is used, given to the client or to the call."""
        base: Any = AiohttpSubscriptionTransport if library == "aiohttp" else WebsocketSubscriptionTransport

        class Recording(base):  # type: ignore[misc]
            endpoints: ClassVar[list[str]] = []

            async def subscribe(self, endpoint: str, request: Any, serializer: Any, **kwargs: Any) -> Any:
                self.endpoints.append(endpoint)
                return await super().subscribe(endpoint, request, serializer, **kwargs)

        transport, events = Recording(server.url), Events.new()
        arguments: dict[str, Any] = {"transport": transport} if where == "call" else {}
        general: dict[str, Any] = {"subscription_transport": transport} if where == "client" else {}
        async with kind(server.url, validate=False, **general) as client:
            await client.subscribe(
                GraphQLRequest("subscription { count(to: 2) }"), on_data=events.take, wait=True, **arguments
            )
            assert await events.arrived(3) == COUNTED
        assert Recording.endpoints == [server.url]

    async def test_session(self, server: ScriptedServer, kind: type[GraphQLClient]) -> None:
        """An aiohttp session given to the call carries its subscription, and stays open."""
        async with aiohttp.ClientSession(headers={"Mark": "call"}) as session:
            async with kind(server.url, validate=False) as client:
                await client.subscribe(
                    GraphQLRequest("subscription { count(to: 0) }"), session=session, wait=True
                )
            assert not session.closed
        assert server.upgrades[0].headers["Mark"] == "call"

    async def test_websocket_endpoint(self, server: ScriptedServer, backend: Any) -> None:
        """With a ws:// endpoint queries go over HTTP and subscriptions over the socket."""
        events = Events.new()
        async with ProductionClient(server.ws_url, validate=False, backend=backend) as client:
            assert (await client.query(GREET)).data == {"hello": "Hello, world!"}
            await client.subscribe("subscription { count(to: 2) }", on_data=events.take, wait=True)
            assert await events.arrived(3) == COUNTED


class Tenant(ProductionClient):
    """A user's subclass: one more constructor parameter, and a query() of its own."""

    def __init__(self, tenant: str, endpoint: str, **arguments: Any) -> None:
        super().__init__(endpoint, **arguments)
        self.tenant = tenant
        self.queries = 0

    async def query(self, request: GraphQLRequest | str, *args: Any, **kwargs: Any) -> ProductionResponse:
        self.queries += 1
        kwargs["headers"] = {**(kwargs.get("headers") or {}), "X-Tenant": self.tenant}
        return await super().query(request, *args, **kwargs)


class Preparing(ProductionClient):
    """A user's subclass that asks something before each query."""

    async def query(self, request: GraphQLRequest | str, *args: Any, **kwargs: Any) -> ProductionResponse:
        await super().query("{ hello }")
        return await super().query(request, *args, **kwargs)


class TestSubclasses:
    @pytest.mark.parametrize("method", ["query", "post", "get", "query_data_as", "introspect", "get_schema"])
    async def test_all_through_query(self, server: ScriptedServer, backend: Any, method: str) -> None:
        """An overridden query() is what every other method calls, as in the stock client."""
        async with Tenant("t1", server.url, validate=False, backend=backend) as client:
            arguments = {"query_data_as": (GREET, dict), "introspect": (), "get_schema": ()}
            await getattr(client, method)(*arguments.get(method, (GREET,)))
            assert client.queries == 1
        assert server.requests[0].headers["X-Tenant"] == "t1"

    async def test_view(self, server: ScriptedServer, backend: Any) -> None:
        """A view of a subclass is one of it: its attributes are there, its constructor is not run again."""
        async with Tenant("t1", server.url, backend=backend) as client:
            view = client.with_options(headers={"X-V": "1"})
            assert type(view) is Tenant
            assert view.tenant == "t1"
            await view.query_data_as(GREET, dict)
        assert all(seen.headers["X-Tenant"] == "t1" for seen in server.requests)
        assert server.requests[-1].headers["X-V"] == "1"

    async def test_retried_within(self, server: ScriptedServer, backend: Any) -> None:
        """An overridden query() is called once a call; attempts are made inside of it."""
        server.script(Answer.page(503), Answer.page(503))
        with no_waiting():
            async with Tenant("t1", server.url, validate=False, backend=backend) as client:
                await client.query_data_as(GREET, dict)
                assert client.queries == 1
        assert len(server.requests) == 3

    async def test_several_queries_in_one(self, server: ScriptedServer, backend: Any) -> None:
        """A decoding error tells of the query that was decoded, not of one made before it."""
        async with Preparing(server.url, validate=False, backend=backend) as client:
            with pytest.raises(GraphQLCodecException) as caught:
                await client.query_data_as(ADD, Wrong)
        error: Any = caught.value
        assert server.executions["increment"] == 1
        assert error.may_have_executed is True
