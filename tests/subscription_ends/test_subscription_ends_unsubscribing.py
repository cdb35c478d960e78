"""Unsubscribing and cancelling end a subscription politely."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest
from aiographql.client import GraphQLSubscription
from ending import idle, idles, stopped_politely
from subscribing import (
    COUNT,
    STARTS,
    STOPS,
    Backend,
    EndlessWaits,
    Follower,
    Mode,
    Protocol,
    client_of,
    sent,
    until,
    value_of,
)

from graphql_prod import (
    SubscriptionClosedError,
    clock,
)
from graphql_prod.testing import FaultyProxy, ScriptedServer


class TestUnsubscribing:
    async def test_the_server_is_told_once(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """``complete``, or ``stop`` in the older protocol, with the id; then a clean close."""
        async with client_of(counting.url, backend) as client:
            async with Follower(client, mode, protocol) as follower:
                await follower.came(2)
                assert client.stats().subscriptions == client.stats().sockets == 1
            await idles(client)
            await stopped_politely(counting)

    async def test_unsubscribe_ends_the_task_normally(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """As stock: whoever awaits the task gets None."""
        values: list[int] = []
        async with client_of(counting.url, backend) as client:
            subscription = await client.subscribe(
                COUNT, on_data=lambda event: values.append(value_of(event)), protocols=protocol
            )
            assert isinstance(subscription, GraphQLSubscription)
            task = subscription.task
            assert task is not None
            await until(lambda: len(values) >= 2)
            subscription.unsubscribe()
            assert not subscription.active()
            assert await asyncio.wait_for(task, 10) is None
            subscription.unsubscribe()
            await subscription.unsubscribe_and_wait()
            await stopped_politely(counting)
            idle(client)

    async def test_no_callback_runs_after_unsubscribe_and_wait(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """The one that runs is finished, what is queued is dropped."""
        gate, values, finished = asyncio.Event(), list[int](), list[int]()

        async def on_data(event: Any) -> None:
            values.append(value_of(event))
            await gate.wait()
            finished.append(value_of(event))

        async with client_of(server.url, backend) as client:
            subscription = await client.subscribe(COUNT, on_data=on_data, protocols=protocol)
            await server.until(lambda: len(server.events_sent) > 20)
            leaving = asyncio.create_task(subscription.unsubscribe_and_wait())
            await server.until(lambda: bool(sent(server, STOPS)))
            assert not leaving.done()
            gate.set()
            await asyncio.wait_for(leaving, 10)
            assert values == finished == [0]
            await server.socket_count(0)
            assert values == [0]

    async def test_the_block_ends_it(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """``async with await client.subscribe(...)``, by an exception too."""
        values: list[int] = []
        async with client_of(counting.url, backend) as client:
            with pytest.raises(LookupError, match="body"):  # noqa: PT012
                async with await client.subscribe(
                    COUNT, on_data=lambda event: values.append(value_of(event)), protocols=protocol
                ) as subscription:
                    await until(lambda: values)
                    raise LookupError("body")
            assert not subscription.active()
            idle(client)
            await stopped_politely(counting)

    @pytest.mark.parametrize("how", ["plain", "await", "wait_for", "gather", "task"])
    async def test_from_inside_a_callback(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, how: str
    ) -> None:
        """unsubscribe_and_wait() does not wait for the callback that called it, however it was called."""
        values, left = list[int](), asyncio.Event()
        subscription: GraphQLSubscription | None = None

        async def on_data(event: Any) -> None:
            values.append(value_of(event))
            await begun.wait()
            assert subscription is not None
            if how == "plain":
                subscription.unsubscribe()
            elif how == "await":
                await subscription.unsubscribe_and_wait()
            elif how == "wait_for":
                await asyncio.wait_for(subscription.unsubscribe_and_wait(), 10)
            elif how == "gather":
                await asyncio.gather(subscription.unsubscribe_and_wait(), asyncio.sleep(0))
            else:
                await asyncio.create_task(subscription.unsubscribe_and_wait())
            left.set()

        async with client_of(counting.url, backend) as client:
            begun = asyncio.Event()
            subscription = await client.subscribe(COUNT, on_data=on_data, protocols=protocol)
            task = subscription.task
            begun.set()
            await asyncio.wait_for(left.wait(), 10)
            assert task is not None
            await asyncio.wait_for(task, 10)
            assert values == [0]
            await idles(client)
            await stopped_politely(counting)

    async def test_from_inside_a_gaps_callback(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """A loss may be the reason to leave."""
        left = asyncio.Event()
        subscription: GraphQLSubscription | None = None

        async def on_gap(_: object) -> None:
            assert subscription is not None
            await subscription.unsubscribe_and_wait()
            left.set()

        async with client_of(counting.url, backend) as client:
            subscription = await client.subscribe(COUNT, on_gap=on_gap, protocols=protocol)
            await counting.subscribed(1)
            counting.reset_sockets()
            await asyncio.wait_for(left.wait(), 10)
            await counting.socket_count(0)
            await idles(client)

    async def test_during_an_outage_it_is_over_at_once(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """The wait between two attempts is not waited for; there is nobody to tell."""
        async with FaultyProxy(counting.port) as proxy, client_of(proxy.url_for(), backend) as client:
            with clock.using(EndlessWaits()) as recorded:
                assert isinstance(recorded, EndlessWaits)
                async with Follower(client, mode, protocol) as follower:
                    await follower.came()
                    waits = len(recorded.waits)
                    await proxy.down()
                    await follower.until(lambda: len(recorded.waits) > waits)
                    await follower.stop()
            await idles(client)
            assert sent(counting, STOPS) == []

    @pytest.mark.parametrize("stuck", ["upgrade", "acknowledgement"])
    async def test_while_it_reconnects(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, stuck: str
    ) -> None:
        """In mid-connect there is nothing subscribed, so nothing is completed."""
        async with FaultyProxy(counting.port) as proxy, client_of(proxy.url_for(), backend) as client:
            async with Follower(client, mode, protocol) as follower:
                await follower.came()
                counting.never_ack = stuck == "acknowledgement"
                proxy.blackhole = stuck == "upgrade"
                proxy.reset_connections()
                if stuck == "upgrade":
                    await proxy.connections(2)
                else:
                    await counting.until(
                        lambda: [m.message["type"] for m in counting.messages].count("connection_init") == 2
                    )
            proxy.blackhole = False
            await idles(client)
            assert sent(counting, STOPS) == []
            await counting.socket_count(0)

    async def test_a_connection_that_swallows_everything_does_not_hold_up_the_end(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """The server's half of the close never comes: waited for, but not for long."""
        async with FaultyProxy(counting.port) as proxy, client_of(proxy.url_for(), backend) as client:
            async with Follower(client, mode, protocol) as follower:
                await follower.came()
                proxy.blackhole = True
                await asyncio.wait_for(follower.stop(), 10)
            proxy.blackhole = False
            await idles(client)
            await proxy.until(lambda: proxy.open == 0)

    async def test_breaking_out_of_a_stream_unsubscribes(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """An iterator that nobody holds any more is closed by the loop."""
        async with client_of(counting.url, backend) as client:
            async for event in client.stream(COUNT, protocols=protocol):
                assert value_of(event) == 0
                break
            gc.collect()
            await counting.socket_count(0)
            await until(lambda: client.stats().sockets == 0)
            await stopped_politely(counting)

    async def test_aclose_waits_for_the_sockets_end(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """After it, nothing is left."""
        async with client_of(counting.url, backend) as client:
            events = client.stream(COUNT, protocols=protocol)
            assert value_of(await anext(events)) == 0
            await events.aclose()
            idle(client)
            await stopped_politely(counting)
            with pytest.raises(StopAsyncIteration):
                await anext(events)
            await events.aclose()

    async def test_a_stream_never_begun_connects_to_nobody(
        self, counting: ScriptedServer, backend: Backend
    ) -> None:
        """stream() connects at the first step."""
        async with client_of(counting.url, backend) as client:
            events = client.stream(COUNT)
            await events.aclose()
            del events
            client.stream(COUNT)
            gc.collect()
            idle(client)
        assert counting.connections == 0

    async def test_a_stream_whose_body_fails_is_ended(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """The body's exception comes out as it was."""
        async with client_of(counting.url, backend) as client:
            with pytest.raises(LookupError, match="body"):  # noqa: PT012
                async with contextlib.aclosing(client.stream(COUNT, protocols=protocol)) as events:
                    async for _ in events:
                        raise LookupError("body")
            await idles(client)
            await stopped_politely(counting)


class TestCancelling:
    @pytest.mark.parametrize("stride", [3])
    async def test_at_every_step_of_connecting(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, stride: int
    ) -> None:
        """CancelledError comes out, no slot or socket stays, and only what was subscribed is completed."""
        server.tick = 600
        async with client_of(server.url, backend) as client:
            steps = reached = 0
            while reached < 3:  # a few steps beyond the first event
                follower = Follower(client, mode, protocol)
                for _ in range(steps):
                    await asyncio.sleep(0)
                reached += bool(follower.values)
                connecting = follower.subscription is None
                follower.task.cancel()
                await asyncio.wait({follower.task}, timeout=10)
                if connecting:
                    assert follower.task.cancelled(), steps
                if follower.subscription is not None:
                    await follower.stop()
                await idles(client)
                steps += stride
                assert steps < 3000
            await server.socket_count(0)
            assert set(sent(server, STOPS)) <= set(sent(server, STARTS))
            assert len(sent(server, STOPS)) == len(set(sent(server, STOPS)))
            assert not [code for code in server.close_codes.values() if code and code >= 4000]

    @pytest.mark.parametrize("stuck", ["accepted", "upgrade", "acknowledgement", "slow"])
    async def test_while_the_server_takes_its_time(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, stuck: str
    ) -> None:
        """At facts, in the upgrade or after it: nothing was subscribed, nothing is completed."""
        async with FaultyProxy(server.port) as proxy, client_of(proxy.url_for(), backend) as client:
            proxy.blackhole = stuck == "upgrade"
            proxy.latency = 0.02 if stuck == "slow" else 0
            server.never_ack = True
            follower = Follower(client, mode, protocol)
            if stuck in ("accepted", "upgrade"):
                await proxy.connections(1)
            elif stuck == "slow":
                await server.until(lambda: bool(server.upgrades))
            else:
                await server.until(lambda: bool(server.messages))
            follower.task.cancel()
            await asyncio.wait({follower.task}, timeout=10)
            assert follower.task.cancelled()
            await idles(client)
            proxy.blackhole = False
            await proxy.until(lambda: proxy.open == 0)
            await server.socket_count(0)
            assert sent(server, STARTS + STOPS) == []

    async def test_a_deadline_around_it_stays_a_deadline(
        self, server: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """``asyncio.timeout`` ends in its own TimeoutError."""
        server.never_ack = True
        async with client_of(server.url, backend) as client:
            with pytest.raises(TimeoutError) as caught:  # noqa: PT012
                async with asyncio.timeout(0.05):
                    if mode == "subscribe":
                        await client.subscribe(COUNT)
                    else:
                        await anext(client.stream(COUNT))
            assert type(caught.value) is TimeoutError
            gc.collect()
            await until(lambda: client.stats().sockets == 0)
            await server.socket_count(0)

    async def test_a_cancel_of_whoever_waits_unsubscribes(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """``subscribe(wait=True)``: the cancel goes on, and takes the subscription along."""
        values: list[int] = []
        async with client_of(counting.url, backend) as client:
            waiting = asyncio.create_task(
                client.subscribe(
                    COUNT, on_data=lambda e: values.append(value_of(e)), wait=True, protocols=protocol
                )
            )
            await until(lambda: values)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(waiting, 10)
            idle(client)
            await stopped_politely(counting)

    async def test_waiting_lasts_until_every_callback_has_run(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """``subscribe(wait=True)`` returns the subscription, over, after the server's complete."""
        values: list[int] = []

        async def on_data(event: Any) -> None:
            await asyncio.sleep(0.001)
            values.append(value_of(event))

        async with client_of(server.url, backend) as client:
            subscription = await asyncio.wait_for(
                client.subscribe(COUNT, variables={"to": 9}, on_data=on_data, wait=True, protocols=protocol),
                10,
            )
            assert values == list(range(10))
            assert not subscription.active()
            idle(client)

    async def test_waiting_raises_what_the_task_raises(
        self, counting: ScriptedServer, backend: Backend
    ) -> None:
        """A fatal end is no quiet return."""
        async with client_of(counting.url, backend) as client:
            waiting = asyncio.create_task(client.subscribe(COUNT, wait=True))
            await counting.subscribed(1)
            await counting.close_sockets(4500)
            with pytest.raises(SubscriptionClosedError):
                await asyncio.wait_for(waiting, 10)

    async def test_a_cancel_of_the_consumer_of_a_stream(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Propagates, and unsubscribes."""
        async with client_of(counting.url, backend) as client:
            follower = Follower(client, "stream", protocol)
            await follower.came()
            follower.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(follower.task, 10)
            await idles(client)
            await stopped_politely(counting)

    async def test_a_cancel_of_the_task_ends_the_subscription(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Whoever cancels subscription.task wants it to end: it does, and the server is told."""
        async with client_of(counting.url, backend) as client:
            subscription = await client.subscribe(COUNT, protocols=protocol)
            await counting.subscribed(1)
            assert subscription.task is not None
            subscription.task.cancel()
            await asyncio.wait({subscription.task}, timeout=10)
            assert not subscription.active()
            await counting.socket_count(0)
            await idles(client)

    async def test_whoever_awaits_the_task_gets_a_cancel_back(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """A deadline around ``await subscription.task`` is one; what unsubscribe() ends, ends normally."""
        async with client_of(counting.url, backend) as client:
            subscription = await client.subscribe(COUNT, protocols=protocol)
            assert subscription.task is not None
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await subscription.task
            assert subscription.task.cancelled()
            await idles(client)
            await stopped_politely(counting)
            subscription = await client.subscribe(COUNT, protocols=protocol)
            task = subscription.task
            assert task is not None
            subscription.unsubscribe()
            assert await task is None
