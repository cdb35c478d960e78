"""Registries of callbacks: which callbacks get which event. And what a subscription never prints."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import (
    GraphQLClient,
    GraphQLRequest,
    GraphQLSubscription,
    GraphQLSubscriptionEvent,
)
from aiographql.client.subscription import GraphQLSubscriptionEventType as EventType
from cafeteria.asyncio.callbacks import CallbackRegistry
from subscribing import COUNT, EVENTS, Backend, Protocol, client_of, of_ours, through, until, value_of

from graphql_prod import (
    SubscriptionClosedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphql_prod.testing import ScriptedServer


class TestRegistry:
    async def test_it_reads_through_to_the_callers(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """What the caller registers and takes back counts, before and after, on either of the two."""
        server.tick = 0.005
        logs: dict[str, list[int]] = {name: [] for name in ("first", "on_data", "later", "own")}
        calls: dict[str, Callable[[Any], None]] = {
            name: lambda event, log=log: log.append(value_of(event))  # type: ignore[misc]
            for name, log in logs.items()
        }
        registry = CallbackRegistry({EventType.DATA: calls["first"]})
        async with client_of(server.url, backend) as client:
            subscription = await client.subscribe(
                COUNT, callbacks=registry, on_data=calls["on_data"], protocols=protocol
            )
            ours: Any = subscription.callbacks
            assert isinstance(ours, CallbackRegistry)
            assert ours.exists(EventType.DATA, calls["first"])
            assert ours.exists(EventType.DATA, calls["on_data"])
            assert not ours.exists(EventType.DATA, calls["later"])
            registry.register(EventType.DATA, calls["later"])
            assert ours.exists(EventType.DATA, calls["later"])
            ours.register(EventType.NEXT, calls["own"])
            assert ours.exists(EventType.NEXT, calls["own"])
            await until(lambda: all(logs.values()))
            for kind, name in (("DATA", "first"), ("DATA", "on_data"), ("NEXT", "own")):
                ours.deregister(EventType[kind], calls[name])
                assert not ours.exists(EventType[kind], calls[name])
            registry.deregister(EventType.DATA, calls["later"])
            before = len(server.events_sent)
            await server.until(lambda: len(server.events_sent) > before + 5)
            told = {name: list(log) for name, log in logs.items()}
            await server.until(lambda: len(server.events_sent) > before + 10)
            assert logs == told
        for log in logs.values():
            assert log == list(range(log[0], log[0] + len(log)))

    async def test_two_subscriptions_share_a_registry(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Each subscribes once, on its own socket; each event comes once, with its subscription's id."""
        server.tick = 0.005
        log: list[tuple[str | None, int]] = []
        registry = CallbackRegistry(
            {EventType.DATA: lambda event: log.append((event.subscription_id, value_of(event)))}
        )
        async with client_of(server.url, backend) as client:
            both = [
                await client.subscribe(COUNT, variables={"to": 9}, callbacks=registry, protocols=protocol)
                for _ in range(2)
            ]
            await asyncio.gather(*(through(subscription) for subscription in both))
        for subscription in both:
            assert [n for key, n in log if key == subscription.id] == list(range(10))
        assert len(log) == 20
        assert sorted(m.connection for m in await server.subscribed(2)) == [1, 2]
        assert registry.callbacks(EventType.CONNECTION_ACK) == []

    @pytest.mark.parametrize("end", ["complete", "error"])
    @pytest.mark.parametrize(
        "kinds",
        [
            [None],
            [None, EventType.NEXT],
            [None, EventType.DATA],
            [None, EventType.CONNECTION_ACK, EventType.KEEP_ALIVE],
            [EventType.PING, EventType.ERROR, EventType.COMPLETE, EventType.NEXT, EventType.DATA],
            [None, EventType.PING, EventType.PONG, EventType.CONNECTION_ACK],
        ],
        ids=str,
    )
    async def test_the_same_callbacks_run_as_with_stock(
        self, server: ScriptedServer, protocol: Protocol, kinds: list[EventType | None], end: str
    ) -> None:
        """Which callback gets which event, defaults included; and both send the same messages."""
        server.tick = 3600

        async def run(client: GraphQLClient, **options: Any) -> tuple[list[Any], list[Any]]:
            log: list[Any] = []
            connection = len(server.upgrades) + 1

            def keeper(kind: EventType | None) -> Callable[[Any], Any]:
                async def keep(event: Any) -> None:
                    assert isinstance(event, GraphQLSubscriptionEvent)
                    assert event.subscription_id == subscription.id
                    facts = {key: value for key, value in event.json.items() if key != "id"}
                    log.append((kind and kind.name, event.type and event.type.name, facts))

                return keep

            registry = CallbackRegistry({kind: keeper(kind) for kind in kinds})
            subscription: GraphQLSubscription = await client.subscribe(
                GraphQLRequest(COUNT), callbacks=registry, protocols=protocol, **options
            )
            task = subscription.task
            assert task is not None
            await server.until(lambda: any(e.connection == connection for e in server.events_sent))
            await _scene(server, subscription.id, protocol, end)
            await asyncio.wait_for(asyncio.shield(task), 10)
            for _ in range(20):  # the stock's callbacks are tasks that nobody awaits
                await asyncio.sleep(0)
            await server.socket_count(0)
            sent = [
                (message.message["type"], message.message.get("payload"))
                for message in server.messages
                if message.connection == connection and message.message["type"] != "connection_init"
            ]
            return log, sent

        stock_client = GraphQLClient(server.url, validate=False)
        stock = await run(stock_client)
        await stock_client.close()
        async with client_of(server.url, "aiohttp") as client:
            ours = await run(client)
        assert sorted(map(str, ours[0])) == sorted(map(str, stock[0]))
        assert [_of(ours[0], kind) for kind in kinds] == [_of(stock[0], kind) for kind in kinds]
        assert ours[1] == stock[1]
        assert stock[0]


def _of(log: list[Any], kind: EventType | None) -> list[Any]:
    """What one callback got, in its order."""
    return [entry for entry in log if entry[0] == (kind and kind.name)]


async def _scene(server: ScriptedServer, key: str, protocol: Protocol, end: str) -> None:
    """What a server may say in the middle of a subscription, and its end."""
    payload = {"data": {"count": 5}, "errors": [{"message": "partly"}]}
    error: Any = {"message": "over"} if protocol == "graphql-ws" else [{"message": "over"}]
    alive = {"type": "ka"} if protocol == "graphql-ws" else {"type": "ping", "payload": {"n": 1}}
    messages: list[dict[str, Any]] = [
        alive,
        {"type": EVENTS[protocol], "id": key, "payload": payload},
        {"type": EVENTS[protocol], "id": "another's", "payload": payload},
        {"type": "gizmo", "payload": 1},
        {"type": end, "id": key, **({"payload": error} if end == "error" else {})},
    ]
    for message in messages:
        await server.send_to_sockets(message)


class TestSecrets:
    async def test_nothing_secret_is_printed(
        self,
        server: ScriptedServer,
        backend: Backend,
        protocol: Protocol,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """No header, variable or payload in a repr, a log record or an error, whatever goes wrong."""
        caplog.set_level(logging.DEBUG)
        server.tick = 0.005
        document = "subscription ($to: Int) { count(to: $to) }"
        printed: list[str] = []

        def on_data(event: Any) -> None:
            if value_of(event) % 7 == 0:
                raise LookupError("of the callback")

        def on_error(event: Any) -> None:
            printed.append(repr(event.exception))

        async with client_of(
            server.url,
            backend,
            settings={"headers": {"X-Client": "hush-client"}},
            objects={"headers_provider": lambda: {"X-Provider": "hush-provider"}},
        ) as client:
            subscription = await client.subscribe(
                GraphQLRequest(document, variables={"to": 1987654321}),
                headers={"Authorization": "hush-header"},
                on_data=on_data,
                on_error=on_error,
                protocols=protocol,
                connection_init_payload={"token": "hush-payload"},
                resume=lambda _, variables: {**variables, "to": 1987654322},
            )
            printed += [repr(subscription), str(subscription), repr(subscription.task)]
            await server.until(lambda: len(server.events_sent) > 3)
            server.on_connect = lambda _: 503 if len(server.upgrades) == 2 else None
            server.reset_sockets()
            await server.subscribed(2)
            await server.until(lambda: len(server.events_sent) > 10)
            await server.send_to_sockets({"type": "gizmo"})
            await server.close_sockets(4400, "over")
            with pytest.raises(SubscriptionClosedError) as caught:
                await through(subscription)
            printed += [repr(caught.value), str(caught.value), repr(subscription), repr(client.stats())]
            with contextlib.suppress(SubscriptionClosedError):
                server.on_init = lambda _: 4403
                async for _ in client.stream(document, variables={"to": 1987654321}, protocols=protocol):
                    pass
        heard = str([request.headers for request in server.upgrades]) + str(server.messages)
        for secret in ("hush-client", "hush-provider", "hush-header", "hush-payload", "1987654322"):
            assert secret in heard
        # The WebSocket library's own records at DEBUG are the frames and headers themselves.
        records = [r for r in caplog.records if not r.name.startswith("websockets")]
        assert of_ours(caplog, logging.ERROR)
        told = [*printed, *(f"{r.getMessage()} {vars(r)}" for r in records)]
        assert [line for line in told if "hush" in line or "19876543" in line] == []
