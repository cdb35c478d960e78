"""``unsubscribe()`` ends the task normally, as stock: whatever it is about at that moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client.subscription import GraphQLSubscriptionEventType as EventType
from aiographql.client.transport.aiohttp import AiohttpSubscriptionTransport
from subscribing import COUNT, EndlessWaits, client_of, until

from graphql_prod import ClientClosedError, clock

if TYPE_CHECKING:
    from aiographql.client import GraphQLSubscription
    from conftest import Backend
    from subscribing import Protocol

    from graphql_prod import ProductionClient
    from graphql_prod.testing import ScriptedServer


async def left(subscription: GraphQLSubscription) -> None:
    """Unsubscribe, and see the task end as one that nobody cancelled."""
    task = subscription.task
    assert task is not None
    subscription.unsubscribe()
    assert not subscription.active()
    assert subscription.task is None
    await asyncio.wait({task}, timeout=10)
    assert task.done(), "it hangs"
    assert not task.cancelled()
    assert task.result() is None


async def nothing_left(client: ProductionClient) -> None:
    await until(lambda: client.stats().sockets + client.stats().subscriptions == 0, client.stats)


async def test_at_each_step_of_a_further_subscribe(
    counting: ScriptedServer, backend: Backend, protocol: Protocol
) -> None:
    """Before its first step, before the socket, before the acknowledgement, and after it."""
    async with client_of(counting.url, backend) as client:
        subscription = await client.subscribe(COUNT, protocols=protocol)
        await left(subscription)
        for rounds in range(40):
            await subscription.subscribe(endpoint=client.endpoint)
            for _ in range(rounds):
                await asyncio.sleep(0)
            await left(subscription)
        await nothing_left(client)


async def test_while_the_acknowledgement_does_not_come(server: ScriptedServer, backend: Backend) -> None:
    """Nobody waits for a server that says nothing."""
    async with client_of(server.url, backend) as client:
        subscription = await client.subscribe(COUNT)
        await left(subscription)
        server.never_ack = True
        connections = len(server.sockets)
        await subscription.subscribe(endpoint=client.endpoint)
        await until(lambda: len(server.sockets) > connections or client.stats().sockets)
        await left(subscription)
        await nothing_left(client)


async def test_while_the_place_of_its_last_socket_is_waited_for(
    counting: ScriptedServer, backend: Backend
) -> None:
    """A further subscribe begins when the socket before it is closed; left meanwhile it never does."""
    async with client_of(counting.url, backend) as client:
        subscription = await client.subscribe(COUNT)
        await subscription.subscribe(endpoint=client.endpoint, force=True)
        await asyncio.sleep(0)
        await left(subscription)
        await nothing_left(client)


@pytest.mark.parametrize("to", [2, None])
async def test_while_a_callback_runs(counting: ScriptedServer, backend: Backend, to: int | None) -> None:
    """Also after the server's ``complete``, when the task waits for callbacks. The one that runs goes on."""
    begun, gate, seen = asyncio.Event(), asyncio.Event(), list[str]()

    async def on_data(_: object) -> None:
        seen.append("begun")
        begun.set()
        await gate.wait()
        seen.append("ended")

    async with client_of(counting.url, backend) as client:
        subscription = await client.subscribe(COUNT, variables={"to": to}, on_data=on_data)
        await begun.wait()
        if to is not None:
            await counting.socket_count(0)
        await left(subscription)
        gate.set()
        await subscription.unsubscribe_and_wait()
        assert seen == ["begun", "ended"]
        await nothing_left(client)


async def test_from_a_callback_after_the_servers_complete(counting: ScriptedServer, backend: Backend) -> None:
    """``unsubscribe_and_wait()`` inside a callback does not wait for it, though the task does."""
    ended = asyncio.Event()
    subscriptions: list[GraphQLSubscription] = []

    async def on_data(_: object) -> None:
        await counting.socket_count(0)
        task = subscriptions[0].task
        await subscriptions[0].unsubscribe_and_wait()
        assert task is not None
        assert not task.cancelled()
        ended.set()

    async with client_of(counting.url, backend) as client:
        subscriptions.append(await client.subscribe(COUNT, variables={"to": 0}, on_data=on_data))
        await asyncio.wait_for(ended.wait(), 10)
        await nothing_left(client)


async def test_in_the_wait_before_a_reconnect(counting: ScriptedServer, backend: Backend) -> None:
    """The wait ends with it."""
    async with client_of(counting.url, backend) as client:
        subscription = await client.subscribe(COUNT)
        waits = EndlessWaits()
        with clock.using(waits):
            counting.reset_sockets()
            await until(lambda: waits.waits)
            await left(subscription)
        await nothing_left(client)


@pytest.mark.parametrize("deadline", [0, 10])
async def test_while_the_client_shuts_down(
    counting: ScriptedServer, backend: Backend, deadline: float
) -> None:
    """Both ends at once: the task ends normally, or with the client's own error."""
    for rounds in range(12):
        async with client_of(counting.url, backend) as client:
            subscription = await client.subscribe(COUNT, on_data=lambda _: None)
            task = subscription.task
            assert task is not None
            ending = asyncio.create_task(client.shutdown(deadline))
            for _ in range(rounds):
                await asyncio.sleep(0)
            subscription.unsubscribe()
            await asyncio.wait({task}, timeout=10)
            assert not task.cancelled()
            assert task.exception() is None or isinstance(task.exception(), ClientClosedError)
            await ending


async def test_over_another_transport(counting: ScriptedServer) -> None:
    """A further subscribe over a transport of the caller's own is the stock object's affair, and ends too."""
    async with client_of(counting.url) as client:
        subscription = await client.subscribe(COUNT)
        await left(subscription)
        transport: Any = AiohttpSubscriptionTransport(counting.url)
        await subscription.subscribe(endpoint=client.endpoint, transport=transport)
        task = subscription.task
        assert task is not None
        await counting.subscribed(2)
        subscription.unsubscribe()
        await asyncio.wait({task}, timeout=10)
        assert task.done()


async def test_a_cancel_of_somebody_elses_still_comes_out(counting: ScriptedServer, backend: Backend) -> None:
    """Only ``unsubscribe()`` ends it normally."""
    async with client_of(counting.url, backend) as client:
        subscription = await client.subscribe(COUNT)
        task = subscription.task
        assert task is not None
        task.cancel()
        await asyncio.wait({task}, timeout=10)
        assert task.cancelled()


async def test_no_other_callback_of_the_same_event_runs(counting: ScriptedServer, backend: Backend) -> None:
    """The first of two callbacks ends the subscription: the second, which waits for it, is dropped."""
    seen: list[str] = []
    subscriptions: list[GraphQLSubscription] = []

    async def first(_: object) -> None:
        await subscriptions[0].unsubscribe_and_wait()
        seen.append("first")

    def second(_: object) -> None:
        seen.append("second")

    async with client_of(counting.url, backend) as client:
        callbacks: Any = {EventType.DATA: [first, second]}
        subscriptions.append(await client.subscribe(COUNT, callbacks=callbacks))
        await until(lambda: seen)
        await nothing_left(client)
    assert seen == ["first"]
