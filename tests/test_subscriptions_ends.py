"""The ends of a subscription: by its owner, by a cancel, by its client's close, by bad input."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from typing import TYPE_CHECKING, Any

import graphql
import pytest
from aiographql.client import GraphQLClientException, GraphQLRequest, GraphQLSubscription
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
    onward,
    sent,
    until,
    value_of,
)

from graphql_prod import (
    ClientClosedError,
    ConfigurationError,
    PoolPolicy,
    ProductionClient,
    SubscriptionClosedError,
    SubscriptionLimitError,
    SubscriptionPolicy,
    TransportError,
    clock,
)
from graphql_prod.subscriptions.policy import REFUSED_WORDS
from graphql_prod.testing import FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator


@pytest.fixture(autouse=True)
def nothing_goes_unseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception of a task of ours is left for asyncio to complain about."""
    yield
    gc.collect()
    assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []


def idle(client: ProductionClient) -> None:
    """Nothing is held any more."""
    stats = client.stats()
    assert (stats.subscriptions, stats.sockets) == (0, 0)


async def idles(client: ProductionClient) -> None:
    """Soon nothing is held any more: a cancel is not held up by the close of its socket."""
    await until(lambda: client.stats().sockets == 0, lambda: client.stats())
    idle(client)


async def stopped_politely(server: ScriptedServer, subscriptions: int = 1) -> None:
    """Every subscription was ended by its owner: one message each, and a clean close."""
    await server.socket_count(0)
    assert sorted(sent(server, STOPS)) == sorted(sent(server, STARTS))
    assert len(sent(server, STOPS)) == subscriptions
    assert set(server.close_codes.values()) == {1000}


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


class TestLimit:
    async def test_one_socket_too_many_is_refused_at_once(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Nothing is sent for it, nobody waits, and the error names the setting."""
        pool = PoolPolicy(subscriptions=2)
        async with client_of(counting.url, backend, settings={"pool": pool}) as client:
            async with Follower(client, "subscribe", protocol) as one, Follower(client, "stream") as two:
                await one.came()
                await two.came()
                error = await Follower(client, mode, protocol).end()
                assert isinstance(error, SubscriptionLimitError)
                assert isinstance(error, GraphQLClientException)
                assert "pool.subscriptions" in str(error)
                assert "2" in str(error)
                assert counting.connections == 2
                await one.came(2)
                await two.came(2)
                assert client.stats().sockets == 2
            async with Follower(client, mode, protocol) as three:
                await three.came()

    async def test_a_limit_of_none(self, counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
        """0 refuses every subscription, and no query."""
        async with client_of(counting.url, backend, settings={"pool": PoolPolicy(subscriptions=0)}) as client:
            assert isinstance(await Follower(client, mode).end(), SubscriptionLimitError)
            await client.query("{ hello }")
        assert counting.upgrades == []

    async def test_connecting_counts(self, server: ScriptedServer, backend: Backend, mode: Mode) -> None:
        """A socket on its way holds its place already: no race gets one in too many."""
        server.tick = 600
        pool = PoolPolicy(subscriptions=3)
        async with client_of(server.url, backend, settings={"pool": pool}) as client:
            followers = [Follower(client, mode) for _ in range(10)]
            await until(lambda: sum(bool(each.values) or each.task.done() for each in followers) == 10)
            ended = [each.task.exception() for each in followers if each.task.done()]
            assert [type(each) for each in ended] == [SubscriptionLimitError] * 7
            assert len(server.upgrades) == 3
            for each in followers:
                await each.stop()

    @pytest.mark.parametrize(
        "ending",
        [
            "unsubscribe",
            "complete",
            "error",
            "fatal",
            "refused",
            "cancelled",
            "cancelled while waiting",
            "spent",
            "overflow",
            "syntax",
        ],
    )
    async def test_the_place_is_given_back(
        self, counting: ScriptedServer, backend: Backend, mode: Mode, ending: str
    ) -> None:
        """On every way of ending: the next one gets in."""
        pool = PoolPolicy(subscriptions=1)
        policy: dict[str, Any] = {"max_reconnects": 0} if ending == "spent" else {}
        if ending == "overflow":
            policy = {"overflow": "error", "max_queue": 2}
            counting.tick = 0
        async with client_of(counting.url, backend, settings={"pool": pool}, **policy) as client:
            for _ in range(3):
                await self._end_one(counting, client, mode, ending)
                await idles(client)
            counting.on_init, counting.on_connect, counting.never_ack = None, None, False
            async with Follower(client, mode, variables={"to": 1}) as follower:
                assert await follower.end() is None
                assert follower.values == [0, 1]

    async def _end_one(
        self, server: ScriptedServer, client: ProductionClient, mode: Mode, ending: str
    ) -> None:
        if ending == "complete":
            assert await Follower(client, mode, variables={"to": 1}).end() is None
        elif ending == "error":
            await Follower(client, mode, request="subscription { nothing }").end()
        elif ending == "syntax":
            assert isinstance(await Follower(client, mode, request="{").end(), graphql.GraphQLError)
        elif ending == "refused":
            server.on_connect = lambda _: 404
            assert await Follower(client, mode).end() is not None
        elif ending.startswith("cancelled"):
            server.never_ack = ending == "cancelled"
            server.on_connect = None if ending == "cancelled" else lambda _: 503
            messages, upgrades = len(server.messages), len(server.upgrades)
            follower = Follower(client, mode)
            await server.until(
                lambda: (
                    len(server.messages) > messages
                    if ending == "cancelled"
                    else len(server.upgrades) > upgrades
                )
            )
            follower.task.cancel()
            await asyncio.wait({follower.task}, timeout=10)
        else:
            async with Follower(client, mode) as follower:
                await follower.came()
                if ending == "overflow":
                    follower.gate.clear()
                    await server.until(lambda: not server.sockets)
                    follower.gate.set()
                    assert isinstance(await follower.end(), SubscriptionClosedError)
                elif ending != "unsubscribe":
                    await server.close_sockets(4500 if ending == "fatal" else 1012)
                    assert isinstance(await follower.end(), SubscriptionClosedError)

    async def test_a_subscription_in_an_outage_comes_back(
        self, counting: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """The limit never keeps a subscription that was let in from reconnecting."""
        pool = PoolPolicy(subscriptions=1)
        async with (
            client_of(counting.url, backend, settings={"pool": pool}) as client,
            Follower(client, mode, resume=onward) as follower,
        ):
            for number in range(1, 4):
                await follower.came()
                counting.reset_sockets()
                await follower.went_on(number)

    async def test_queries_are_not_starved(self, server: ScriptedServer, backend: Backend) -> None:
        """Sockets and calls have places of their own."""
        server.tick = 600
        pool = PoolPolicy(requests=1, retry_headroom=0, subscriptions=5)
        async with client_of(server.url, backend, settings={"pool": pool}) as client:
            followers = [Follower(client, "stream") for _ in range(5)]
            for each in followers:
                await each.began()
            await asyncio.wait_for(client.query("{ hello }"), 10)
            for each in followers:
                await each.stop()


async def began(server: ScriptedServer, n: int) -> None:
    """Wait until ``n`` connections have been initialised in all."""
    await server.until(
        lambda: [each.message.get("type") for each in server.messages].count("connection_init") == n
    )


class TestBadInput:
    @pytest.mark.parametrize(
        ("request_", "match"),
        [
            ("query Q { hello }", r"query\(\)"),
            ("{ hello }", r"query\(\)"),
            ("mutation M { increment }", r"query\(\)"),
            ("fragment F on Query { hello }", "operation"),
            ("subscription A { count } subscription B { count }", "operation"),
        ],
    )
    async def test_what_is_no_subscription_is_refused_before_anything_is_sent(
        self, server: ScriptedServer, backend: Backend, mode: Mode, request_: str, match: str
    ) -> None:
        """With an error that says what to call instead."""
        async with client_of(server.url, backend) as client:
            error = await Follower(client, mode, request=request_).end()
            assert isinstance(error, GraphQLClientException)
            assert not isinstance(error, TransportError)
            with pytest.raises(type(error), match=match):
                raise error
            idle(client)
        assert server.connections == 0

    async def test_the_named_one_of_several_is_judged(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """A document may hold a query beside it."""
        document = "query Q { hello } subscription S { count(to: 1) }"
        async with client_of(server.url, backend) as client:
            follower = Follower(client, mode, protocol, request=document, operation="S")
            assert await follower.end() is None
            assert follower.values == [0, 1]
            error = await Follower(client, mode, protocol, request=document, operation="Q").end()
            assert isinstance(error, GraphQLClientException)
            unknown = await Follower(client, mode, protocol, request=document, operation="X").end()
            assert isinstance(unknown, GraphQLClientException)
        assert len(server.upgrades) == 1

    async def test_a_syntax_error_stays_one(
        self, server: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """graphql-core's own, as in every other call."""
        async with client_of(server.url, backend) as client:
            error = await Follower(client, mode, request="subscription {").end()
            assert isinstance(error, graphql.GraphQLSyntaxError)
        assert server.connections == 0

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_what_is_no_message_ends_it(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, when: str
    ) -> None:
        """The server does not speak the protocol: closed with 4400, and told so."""
        counting.never_ack = when == "before"
        bad = ("{not json", '"text"', "[]", "17", "null", "{}", '{"type": 7}', '{"type": null}')
        async with client_of(counting.url, backend) as client:
            for number, message in enumerate(bad, 1):
                async with Follower(client, "stream", protocol) as follower:
                    if when == "after":
                        await follower.came()
                    else:
                        await began(counting, number)
                    await counting.send_to_sockets(message)
                    error = await follower.end()
                    assert isinstance(error, SubscriptionClosedError)
                    assert error.close_code == 4400
                await counting.socket_count(0)
                await idles(client)
                assert len(counting.upgrades) == number
            assert set(counting.close_codes.values()) == {4400}

    async def test_an_unknown_message_is_ignored_with_one_warning(
        self,
        counting: ScriptedServer,
        backend: Backend,
        protocol: Protocol,
        mode: Mode,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """An extension of the server's is no reason to leave; one line a connection."""
        with caplog.at_level(logging.WARNING, "graphql_prod"):
            async with (
                client_of(counting.url, backend) as client,
                Follower(client, mode, protocol) as follower,
            ):
                await follower.came()
                for _ in range(3):
                    await counting.send_to_sockets({"type": "gossip", "payload": {"a": 1}})
                await follower.came(3)
                assert follower.gaps == []
                warned = [each for each in caplog.records if each.name.startswith("graphql_prod")]
                assert [each.levelname for each in warned] == ["WARNING"]
                assert "unknown type" in warned[0].getMessage()
                counting.reset_sockets()
                await follower.went_on()
                await counting.send_to_sockets({"type": "gossip"})
                await follower.came(3)
                warned = [each for each in caplog.records if "unknown type" in each.getMessage()]
                assert len(warned) == 2

    @pytest.mark.parametrize("kind", ["event", "error", "complete"])
    async def test_a_message_for_an_unknown_id_is_ignored(
        self,
        counting: ScriptedServer,
        backend: Backend,
        protocol: Protocol,
        mode: Mode,
        kind: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A late one of a subscription that is over; nothing to warn of."""
        name = kind if kind != "event" else "next" if protocol == "graphql-transport-ws" else "data"
        payload: Any = {"data": {"count": -1}} if kind == "event" else [{"message": "no"}]
        with caplog.at_level(logging.WARNING, "graphql_prod"):
            async with (
                client_of(counting.url, backend) as client,
                Follower(client, mode, protocol) as follower,
            ):
                await follower.came()
                await counting.send_to_sockets({"type": name, "id": "nobody", "payload": payload})
                await follower.came(5)
                assert follower.seen == list(range(len(follower.seen)))
                assert follower.errors == []
        assert [each for each in caplog.records if each.name.startswith("graphql_prod")] == []

    @pytest.mark.parametrize("id_", [[1], {"a": 1}, 7, None, ""], ids=str)
    async def test_an_id_that_is_none_of_ours_does_no_harm(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, id_: Any
    ) -> None:
        """Ignored, or the end with 4400; no endless reconnecting, and no crash.

        But for an error without one: that is the only subscription's.
        """
        async with (
            client_of(counting.url, backend) as client,
            Follower(client, "stream", protocol) as follower,
        ):
            await follower.came()
            names = ("next", "data", "complete", "error")
            for name in names if id_ is not None else names[:-1]:
                await counting.send_to_sockets({"type": name, "id": id_, "payload": {"data": {"count": -1}}})
            seen = len(follower.values)
            await until(lambda: follower.task.done() or follower.gaps or len(follower.values) > seen + 20)
            assert follower.gaps == []
            if follower.task.done():
                error = follower.task.exception()
                assert isinstance(error, SubscriptionClosedError)
                assert error.close_code == 4400

    async def test_an_oversized_message_ends_it(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """max_response_bytes holds for messages too: no memory for whatever is sent."""
        async with client_of(counting.url, backend, settings={"max_response_bytes": 2000}) as client:
            async with Follower(client, mode, protocol) as follower:
                await follower.came()
                with contextlib.suppress(ConnectionError):
                    await counting.send_to_sockets({"type": "ka", "payload": "x" * 3000})
                error = await follower.end()
                assert isinstance(error, SubscriptionClosedError)
                assert error.close_code == 1009
                assert "max_response_bytes" in str(error)
            await counting.socket_count(0)
            assert len(counting.upgrades) == 1
            await idles(client)

    async def test_a_message_that_just_fits_is_taken(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """The limit is the limit."""
        async with (
            client_of(counting.url, backend, settings={"max_response_bytes": 2000}) as client,
            Follower(client, "stream", protocol) as follower,
        ):
            await follower.came()
            message = '{"type": "ka", "payload": "%s"}'
            await counting.send_to_sockets(message % ("x" * (2000 - len(message) + 2)))
            await follower.came(3)
            assert follower.gaps == []

    async def test_a_protocol_that_the_server_does_not_have(
        self, server: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """The server says 4406: fatal at once."""
        async with client_of(server.url, backend) as client:
            server.on_connect = lambda _: 4406
            error = await Follower(client, mode).end()
            assert isinstance(error, SubscriptionClosedError)
            assert error.close_code == 4406
            assert len(server.upgrades) == 1

    @pytest.mark.parametrize(
        "settings",
        [
            {"connect_attempts": 0},
            {"ack_timeout": -1},
            {"ping_interval": -1},
            {"pong_timeout": -1},
            {"wait_initial": -0.1},
            {"wait_initial": 5, "wait_max": 1},
            {"max_reconnects": -1},
            {"stable_after": -1},
            {"fatal_close_codes": ["abc"]},
            {"fatal_close_codes": 4400},
            {"max_queue": 0},
            {"max_queue": True},
            {"overflow": "explode"},
            {"linger": -1},
            {"nonsense": 1},
        ],
        ids=str,
    )
    def test_settings_that_cannot_work(self, settings: dict[str, Any]) -> None:
        """Refused when the policy is made, naming the setting."""
        with pytest.raises(ConfigurationError, match=next(iter(settings))):
            SubscriptionPolicy(**settings)

    def test_the_defaults_are_the_promised_ones(self) -> None:
        """As the contract lists them."""
        assert SubscriptionPolicy().model_dump() == {
            "connect_attempts": 4,
            "ack_timeout": 10.0,
            "ping_interval": 20.0,
            "pong_timeout": 10.0,
            "wait_initial": 0.5,
            "wait_max": 30.0,
            "max_reconnects": None,
            "stable_after": 10.0,
            "fatal_close_codes": frozenset(
                {4400, 4401, 4403, 4406, 4409, 4429, 4500, 1002, 1003, 1007, 1009, 1010, 1015}
            ),
            "refused_close_codes": {4401, 4403},
            "refused_words": REFUSED_WORDS,
            "max_queue": 1000,
            "max_queue_bytes": 16 * 1024 * 1024,
            "overflow": "block",
            "callback_executor": False,
            "share_connection": False,
            "linger": 1.0,
        }

    @pytest.mark.parametrize("what", ["raises", "answers nonsense"])
    async def test_a_resume_that_fails_does_not_hang(
        self, counting: ScriptedServer, backend: Backend, mode: Mode, what: str
    ) -> None:
        """Either it goes on or it ends with an error; never silence."""

        def resume(*_: object) -> Any:
            if what == "raises":
                raise LookupError("no cursor")
            return 17

        async with (
            client_of(counting.url, backend) as client,
            Follower(client, mode, resume=resume) as follower,
        ):
            await follower.came()
            counting.reset_sockets()
            await until(lambda: follower.resumed or follower.task.done())


class TestClosingTheClient:
    async def test_leaving_the_block_ends_them(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Both kinds end normally, and the server is told of each."""
        async with client_of(counting.url, backend) as client:
            followers = [Follower(client, mode, protocol) for mode in ("subscribe", "stream")]
            for each in followers:
                await each.came()
        for each in followers:
            assert each.task.done() or await each.end() is None
            assert each.task.exception() is None
            assert each.values == list(range(len(each.values)))
        assert client.state == "closed"
        await idles(client)
        await stopped_politely(counting, 2)
        assert await Follower(client, "stream").end() is not None

    async def test_what_is_queued_is_finished(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """``complete`` goes out first; then the consumer gets what had come, and a normal end."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        follower = Follower(client, mode, protocol)
        await follower.came(3)
        follower.gate.clear()
        await server.until(lambda: len(server.events_sent) > 50)
        held = len(follower.values)
        closing = asyncio.create_task(client.close())
        await server.until(lambda: bool(sent(server, STOPS)))
        assert not closing.done()
        assert not follower.task.done()
        follower.gate.set()
        await asyncio.wait_for(closing, 10)
        assert await follower.end() is None
        assert len(follower.values) > held + 1
        assert follower.values == list(range(len(follower.values)))
        await stopped_politely(server)

    @pytest.mark.parametrize("how", ["exception", "cancel"])
    async def test_leaving_by_an_exception_cuts_at_once(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, how: str
    ) -> None:
        """A callback that hangs, a body that hangs: not waited for."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        follower = Follower(client, mode, protocol)
        follower.gate.clear()
        await follower.until(lambda: follower.values)

        async def program() -> None:
            async with client:
                if how == "cancel":
                    await asyncio.Event().wait()
                raise LookupError("body")

        task = asyncio.create_task(program())
        if how == "cancel":
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait({task}, timeout=10)
        assert task.done()
        assert task.cancelled() if how == "cancel" else isinstance(task.exception(), LookupError)
        assert client.state == "closed"
        await server.socket_count(0)
        follower.gate.set()
        await asyncio.wait({follower.task}, timeout=10)
        assert follower.task.done()
        error = None if follower.task.cancelled() else follower.task.exception()
        assert error is None or isinstance(error, ClientClosedError)
        await idles(client)

    @pytest.mark.parametrize("stuck", ["acknowledgement", "outage", "waiting"])
    async def test_while_it_connects(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, stuck: str
    ) -> None:
        """No attempt of a closing client goes on; who waits for the first one hears of it."""
        async with FaultyProxy(counting.port) as proxy, client_of(proxy.url_for(), backend) as client:
            with clock.using(EndlessWaits()) as recorded:
                assert isinstance(recorded, EndlessWaits)
                follower = Follower(client, mode, protocol)
                if stuck == "acknowledgement":
                    counting.never_ack = True
                    await counting.until(lambda: bool(counting.messages))
                elif stuck == "outage":
                    await follower.came()
                    waits = len(recorded.waits)
                    await proxy.down()
                    await follower.until(lambda: len(recorded.waits) > waits)
                else:
                    proxy.refuse = True
                    await follower.until(lambda: recorded.waits)
                await asyncio.wait_for(client.close(), 10)
                error = await follower.end()
                if stuck == "outage":
                    assert error is None
                else:
                    assert isinstance(error, ClientClosedError | TransportError)
                await idles(client)
                assert sent(counting, STOPS) == []

    @pytest.mark.parametrize("share", [False, True])
    async def test_at_every_step_of_connecting(
        self, server: ScriptedServer, backend: Backend, mode: Mode, share: bool
    ) -> None:
        """Whatever has just begun ends too: no caller, no slot and no socket is forgotten."""
        server.tick = 600
        subscribed = False
        for steps in range(3000):
            async with client_of(server.url, backend, share_connection=share) as client:
                follower = Follower(client, mode)
                for _ in range(steps):
                    await asyncio.sleep(0)
                subscribed = bool(follower.values)
                await asyncio.wait_for(client.close(), 10)
                error = await follower.end()
                assert error is None or isinstance(error, ClientClosedError), steps
                await idles(client)
            if subscribed:
                break
        assert subscribed
        await server.socket_count(0)

    @pytest.mark.parametrize("how", ["await", "wait_for", "gather", "aexit"])
    async def test_from_inside_a_callback(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, how: str
    ) -> None:
        """An event may be the reason to stop: no waiting for oneself."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        closed = asyncio.Event()

        async def on_data(_: object) -> None:
            await server.until(lambda: len(server.events_sent) > 5)
            await _close(client, how)
            closed.set()

        subscription = await client.subscribe(COUNT, on_data=on_data, protocols=protocol)
        await asyncio.wait_for(closed.wait(), 10)
        assert client.state == "closed"
        assert not subscription.active()
        await server.socket_count(0)

    @pytest.mark.parametrize("how", ["await", "wait_for", "gather", "aexit"])
    async def test_from_inside_the_body_of_a_stream(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, how: str
    ) -> None:
        """The consumer that closes is not waited for; then it may still take what had come."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        values: list[int] = []

        async def consume() -> None:
            async for event in client.stream(COUNT, protocols=protocol):
                values.append(value_of(event))
                if len(values) == 1:
                    await server.until(lambda: len(server.events_sent) > 5)
                    await _close(client, how)

        await asyncio.wait_for(consume(), 10)
        assert client.state == "closed"
        assert values == list(range(len(values)))
        await server.socket_count(0)
        gc.collect()

    async def test_from_inside_several_bodies(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Whoever is in the middle of closing is not waited for by the others either."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        both = asyncio.Barrier(2)

        async def consume() -> None:
            first = True
            async for _ in client.stream(COUNT, protocols=protocol):
                if first:
                    first = False
                    await both.wait()
                    await client.close()

        await asyncio.wait_for(asyncio.gather(consume(), consume()), 10)
        assert client.state == "closed"

    async def test_a_stream_begun_and_left_alone_does_not_hold_up_the_close(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Nobody takes its events; the client's block is left in the same task."""
        events: AsyncGenerator[Any, None]
        async with client_of(counting.url, backend) as client:
            events = client.stream(COUNT, protocols=protocol)
            await anext(events)
            leaving: Awaitable[None] = client.close()
            await asyncio.wait_for(leaving, 10)
        await events.aclose()
        await counting.socket_count(0)
        await idles(client)

    async def test_after_the_close_nothing_begins(
        self, counting: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """ClientClosedError, at once."""
        client = ProductionClient(counting.url, validate=False, backend=backend)
        await client.close()
        assert isinstance(await Follower(client, mode).end(), ClientClosedError)
        assert counting.connections == 0


async def _close(client: ProductionClient, how: str) -> None:
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "await": client.close,
        "wait_for": lambda: asyncio.wait_for(client.close(), 20),
        "gather": lambda: asyncio.gather(client.close(), asyncio.sleep(0)),
        "aexit": lambda: client.__aexit__(None, None, None),
    }
    await ways[how]()


async def test_a_request_object_may_be_used_again(
    server: ScriptedServer, backend: Backend, mode: Mode
) -> None:
    """Subscribing does not change what the caller gave."""
    request = GraphQLRequest(query=COUNT, variables={"to": 1}, headers={"x-mine": "1"})
    async with client_of(server.url, backend) as client:
        for _ in range(2):
            follower = Follower(client, mode, request=request)
            assert await follower.end() is None
            assert follower.values == [0, 1]
    assert request.variables == {"to": 1}
    assert request.headers == {"x-mine": "1"}
