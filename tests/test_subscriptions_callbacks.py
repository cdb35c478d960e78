"""Callbacks of subscriptions: in which order they run, and where; what their failures do; their end."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import (
    GraphQLRequestException,
    GraphQLResponse,
    GraphQLSubscription,
    GraphQLSubscriptionEvent,
)
from aiographql.client.subscription import GraphQLSubscriptionEventType as EventType
from cafeteria.asyncio.callbacks import Callback, CallbackRegistry, SimpleTriggerCallback
from subscribing import COUNT, EVENTS, Backend, Protocol, client_of, of_ours, through, until, value_of

from graphql_prod import (
    SubscriptionClosedError,
    SubscriptionGap,
)

if TYPE_CHECKING:
    from graphql_prod.testing import ScriptedServer


class TestOrder:
    async def test_events_reach_every_callback_one_after_another(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """The next event begins when each callback, plain or coroutine, is through with this one."""
        log: list[tuple[str, int]] = []

        async def slow(event: Any) -> None:
            log.append(("begun", value_of(event)))
            for _ in range(value_of(event) % 5):
                await asyncio.sleep(0)
            log.append(("slow", value_of(event)))

        registry = CallbackRegistry(
            {EventType.DATA: [slow, lambda event: log.append(("plain", value_of(event)))]}
        )
        async with client_of(server.url, backend) as client:
            subscription = await client.subscribe(
                COUNT,
                variables={"to": 50},
                callbacks=registry,
                on_data=lambda event: log.append(("on_data", value_of(event))),
                protocols=protocol,
            )
            await through(subscription)
        assert log == [(name, n) for n in range(51) for name in ("begun", "slow", "plain", "on_data")]

    @pytest.mark.parametrize("max_queue", [1, 5])
    async def test_events_that_no_callback_wants_hold_nothing_up(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, max_queue: int
    ) -> None:
        """Although more of them come at once than the queue takes; what follows them is heard."""
        server.tick = 3600
        ended: list[Any] = []
        registry = CallbackRegistry({EventType.COMPLETE: ended.append})
        async with client_of(server.url, backend, max_queue=max_queue) as client:
            subscription = await client.subscribe(COUNT, callbacks=registry, protocols=protocol)
            await server.until(lambda: len(server.events_sent) == 1)
            event = {"type": EVENTS[protocol], "id": subscription.id, "payload": {"data": {"count": 1}}}
            for message in [event] * 50:
                await server.send_to_sockets(message)
            await server.send_to_sockets({"type": "complete", "id": subscription.id})
            await through(subscription)
        assert len(ended) == 1

    async def test_a_plain_function_that_returns_an_awaitable_is_awaited(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A lambda, a partial, a bound method, an object, callback objects in one another."""
        log: list[tuple[str, Any]] = []

        async def keep(name: str, event: Any) -> None:
            await asyncio.sleep(0)
            log.append((name, value_of(event)))

        class Keeper:
            async def method(self, event: Any) -> None:
                await keep("method", event)

            async def __call__(self, event: Any) -> None:
                await keep("object", event)

        async def with_arguments(event: Any, *args: Any, **kwargs: Any) -> None:
            log.append(("callback", (value_of(event), args, kwargs)))

        registry = CallbackRegistry()
        registry.register(EventType.DATA, lambda event: keep("lambda", event))
        registry.register(EventType.DATA, functools.partial(keep, "partial"))
        registry.register(EventType.DATA, Keeper().method)
        registry.register(EventType.DATA, Keeper())
        registry.register(EventType.DATA, Callback(with_arguments, 1, key=2))
        registry.register(EventType.DATA, SimpleTriggerCallback(log.append, ("simple", None)))
        registry.register(EventType.DATA, Callback(Callback(with_arguments, "inner"), "outer"))
        async with client_of(server.url, backend) as client:
            await through(await client.subscribe(COUNT, variables={"to": 1}, callbacks=registry))
        assert log == [
            line
            for n in range(2)
            for line in (
                *((name, n) for name in ("lambda", "partial", "method", "object")),
                ("callback", (n, (1,), {"key": 2})),
                ("simple", None),
                ("callback", (n, ("outer", "inner"), {})),
            )
        ]

    @pytest.mark.parametrize("threads", [False, True])
    async def test_callback_executor_puts_plain_functions_in_a_thread(
        self, server: ScriptedServer, backend: Backend, threads: bool
    ) -> None:
        """Only plain ones, and only when it is asked for; the order stays."""
        places: list[tuple[str, bool, int]] = []

        def note(name: str, event: Any) -> None:
            places.append((name, threading.get_ident() == here, value_of(event)))

        async def coroutine(event: Any) -> None:
            note("coroutine", event)

        here = threading.get_ident()
        registry = CallbackRegistry({EventType.DATA: [functools.partial(note, "plain"), coroutine]})
        async with client_of(server.url, backend, callback_executor=threads) as client:
            await through(await client.subscribe(COUNT, variables={"to": 20}, callbacks=registry))
        assert places == [
            place for n in range(21) for place in (("plain", not threads, n), ("coroutine", True, n))
        ]

    @pytest.mark.parametrize("threads", [False, True])
    async def test_a_callback_object_of_the_callers_own_is_triggered(
        self, server: ScriptedServer, backend: Backend, threads: bool
    ) -> None:
        """Its ``trigger`` decides what runs, as stock; what it returns is awaited."""
        log: list[tuple[str, int]] = []

        class Named(Callback):  # type: ignore[misc]
            def trigger(self, *args: Any, **kwargs: Any) -> Any:
                return super().trigger(*args, name="named", **kwargs)

        async def keep(event: Any, name: str) -> None:
            log.append((name, value_of(event)))

        registry = CallbackRegistry({EventType.DATA: Named(keep)})
        async with client_of(server.url, backend, callback_executor=threads) as client:
            await through(await client.subscribe(COUNT, variables={"to": 3}, callbacks=registry))
        assert log == [("named", n) for n in range(4)]

    async def test_a_plain_function_that_holds_the_loop_is_named(
        self, server: ScriptedServer, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Over 50 ms: one warning with the subscription's id; quick and waiting ones are not named."""

        def dawdle(_: Any) -> None:
            time.sleep(0.06)

        async def wait(_: Any) -> None:
            await asyncio.sleep(0.06)

        registry = CallbackRegistry({EventType.DATA: [dawdle, wait]})
        async with client_of(server.url, backend) as client:
            subscription = await client.subscribe(COUNT, variables={"to": 0}, callbacks=registry)
            await through(subscription)
        [record] = of_ours(caplog, logging.WARNING)
        assert "dawdle" in record.getMessage()
        assert subscription.id in record.getMessage()


class TestTrouble:
    async def test_a_failing_callback_is_logged_counted_and_survived(
        self, server: ScriptedServer, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Each failure with the subscription's id; the callbacks beside it and the next events go on."""
        got: list[int] = []

        def plain(_: Any) -> None:
            raise LookupError("plain")

        async def coroutine(_: Any) -> None:
            raise LookupError("coroutine")

        async def cancelled(_: Any) -> None:
            raise asyncio.CancelledError

        async def gone(_: Any) -> None:
            task = asyncio.create_task(asyncio.sleep(60))
            task.cancel()
            await task

        registry = CallbackRegistry({EventType.DATA: [plain, coroutine, cancelled, gone]})
        async with client_of(server.url, backend) as client:
            subscription = await client.subscribe(
                COUNT,
                variables={"to": 4},
                callbacks=registry,
                on_data=lambda event: got.append(value_of(event)),
            )
            await through(subscription)
            assert client.stats().callback_failures == 20
        assert got == [0, 1, 2, 3, 4]
        records = of_ours(caplog, logging.ERROR)
        assert len(records) == 20
        for record in records:
            assert subscription.id in record.getMessage()
            assert vars(record)["graphql_prod"]["subscription_id"] == subscription.id
        assert {"plain", "coroutine", "cancelled", "gone"} == {
            name for name in ("plain", "coroutine", "cancelled", "gone") if f"{name} failed" in caplog.text
        }

    @pytest.mark.parametrize("kind", ["plain", "coroutine"])
    async def test_an_on_gap_that_fails_is_survived_too(
        self, server: ScriptedServer, backend: Backend, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It runs in order with the callbacks, is logged and counted like them."""
        server.tick = 0.005
        log: list[Any] = []

        def on_gap(gap: SubscriptionGap) -> None:
            log.append(gap)
            raise LookupError("gap")

        async def on_gap_later(gap: SubscriptionGap) -> None:
            on_gap(gap)

        async with client_of(server.url, backend) as client:
            subscription = await client.subscribe(
                COUNT,
                variables={"to": 9},
                on_data=lambda event: log.append(value_of(event)),
                on_gap=on_gap if kind == "plain" else on_gap_later,
            )
            await until(lambda: len(log) > 2)
            server.reset_sockets()
            await through(subscription)
            assert client.stats().callback_failures == 1
        [gap] = [item for item in log if isinstance(item, SubscriptionGap)]
        assert log[log.index(gap) + 1 :] == list(range(10))
        [record] = of_ours(caplog, logging.ERROR)
        assert subscription.id in record.getMessage()

    async def test_callbacks_may_use_the_client(self, server: ScriptedServer, backend: Backend) -> None:
        """A query from inside a callback is a query."""
        got: list[Any] = []
        async with client_of(server.url, backend) as client:

            async def on_data(event: Any) -> None:
                answer = await client.query("query ($v: String) { echo(value: $v) }", variables={"v": "e"})
                got.append((value_of(event), answer.data["echo"]))

            await through(await client.subscribe(COUNT, variables={"to": 5}, on_data=on_data))
        assert got == [(n, "e") for n in range(6)]

    async def test_the_servers_error_reaches_on_error_as_stock(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """A stock event; the task ends without a failure; nothing reconnects."""
        errors: list[Any] = []
        async with client_of(server.url, backend) as client:
            subscription = await client.subscribe(
                "subscription { nothing }", on_error=errors.append, protocols=protocol
            )
            await through(subscription)
            await server.socket_count(0)
        [event] = errors
        assert isinstance(event.exception, GraphQLRequestException)
        assert isinstance(event, GraphQLSubscriptionEvent)
        assert (event.type, event.id) == (EventType.ERROR, subscription.id)
        assert isinstance(event.payload, GraphQLResponse)
        assert "nothing" in str(event.json["payload"])
        assert len(server.upgrades) == 1

    async def test_a_fatal_end_reaches_on_error_with_its_exception(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """After the events before it; the task raises the same; a retrieval is not needed."""
        server.tick = 0.005
        log: list[Any] = []
        async with client_of(server.url, backend) as client:
            subscription = await client.subscribe(
                COUNT,
                on_data=lambda event: log.append(value_of(event)),
                on_error=log.append,
                protocols=protocol,
            )
            await until(lambda: len(log) > 2)
            await server.close_sockets(4403, "no more")
            with pytest.raises(SubscriptionClosedError, match="4403") as caught:
                await through(subscription)
            assert not subscription.active()
        assert (caught.value.close_code, caught.value.close_reason) == (4403, "no more")
        event = log.pop()
        assert isinstance(event, GraphQLSubscriptionEvent)
        assert event.exception is caught.value  # type: ignore[attr-defined]
        assert (event.subscription_id, event.type) == (subscription.id, EventType.ERROR)
        assert log == list(range(len(log)))
        assert len(server.upgrades) == 1


class TestUnsubscribe:
    @pytest.mark.parametrize("how", ["unsubscribe", "unsubscribe_and_wait"])
    async def test_from_inside_a_callback(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, how: str
    ) -> None:
        """No deadlock; the running callback finishes, and it was the last."""
        log: list[Any] = []
        async with client_of(server.url, backend) as client:
            box: asyncio.Future[GraphQLSubscription] = asyncio.get_running_loop().create_future()

            async def on_data(event: Any) -> None:
                log.append(value_of(event))
                if value_of(event) == 3:
                    if how == "unsubscribe":
                        (await box).unsubscribe()
                    else:
                        await (await box).unsubscribe_and_wait()
                    await asyncio.sleep(0.01)
                    log.append("finished")

            subscription = await client.subscribe(COUNT, on_data=on_data, protocols=protocol)
            task = subscription.task
            assert task is not None
            box.set_result(subscription)
            await asyncio.wait_for(task, 10)
            await server.socket_count(0)
            await until(lambda: log[-1] == "finished")
            assert not subscription.active()
        assert log == [0, 1, 2, 3, "finished"]
        assert len(server.upgrades) == 1

    async def test_from_inside_a_plain_function(self, server: ScriptedServer, backend: Backend) -> None:
        """What is queued is dropped at once: it was the last, although more events wait."""
        log: list[int] = []
        async with client_of(server.url, backend) as client:
            box: asyncio.Future[GraphQLSubscription] = asyncio.get_running_loop().create_future()

            async def hold(_: Any) -> None:
                await box

            def on_data(event: Any) -> None:
                log.append(value_of(event))
                if value_of(event) == 3:
                    box.result().unsubscribe()

            registry = CallbackRegistry({EventType.DATA: [hold, on_data]})
            subscription = await client.subscribe(COUNT, callbacks=registry)
            task = subscription.task
            assert task is not None
            await server.until(lambda: len(server.events_sent) > 30)
            box.set_result(subscription)
            assert await asyncio.wait_for(task, 10) is None
            await server.socket_count(0)
        assert log == [0, 1, 2, 3]

    async def test_none_runs_after_the_wait(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """``unsubscribe_and_wait()`` elsewhere waits for the one that runs; what is queued is dropped."""
        gate, log = asyncio.Event(), list[Any]()

        async def on_data(event: Any) -> None:
            log.append(value_of(event))
            await gate.wait()
            log.append("finished")

        async with client_of(server.url, backend) as client:
            subscription = await client.subscribe(COUNT, on_data=on_data, protocols=protocol)
            await server.until(lambda: len(server.events_sent) > 30)
            leaving = asyncio.create_task(subscription.unsubscribe_and_wait())
            await server.socket_count(0)
            assert not leaving.done()
            gate.set()
            await asyncio.wait_for(leaving, 10)
            assert log == [0, "finished"]
            assert not subscription.active()
            assert (await client.query("{ hello }")).data
        assert log == [0, "finished"]

    async def test_leaving_its_block_unsubscribes(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """``async with``, as stock; the task ends without a failure."""
        log: list[int] = []
        async with client_of(server.url, backend) as client:
            async with await client.subscribe(
                COUNT, on_data=lambda event: log.append(value_of(event)), protocols=protocol
            ) as subscription:
                task = subscription.task
                assert task is not None
                await until(lambda: len(log) > 2)
            count = len(log)
            await server.socket_count(0)
            assert (task.done(), await task) == (True, None)
            assert len(log) == count

    async def test_the_same_object_can_be_subscribed_again(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """By force, after ``unsubscribe()``, after its end: one subscribe message on each new connection."""
        server.tick = 0.005
        got: list[int] = []
        async with client_of(server.url, backend) as client:
            subscription = await client.subscribe(
                COUNT, on_data=lambda event: got.append(value_of(event)), protocols=protocol
            )
            await until(lambda: got.count(2) == 1)
            await subscription.subscribe(client.endpoint, force=True)
            await until(lambda: got.count(2) == 2)
            await subscription.subscribe(client.endpoint)  # it is active: nothing happens
            subscription.unsubscribe()
            await server.socket_count(0)
            assert not subscription.active()
            await subscription.subscribe(client.endpoint)
            await until(lambda: got.count(2) == 3)
            assert subscription.active()
            [key] = server.sockets[0].subscriptions
            await server.send_to_sockets({"type": "complete", "id": key})
            assert subscription.task is not None
            await asyncio.wait_for(subscription.task, 10)
            await subscription.subscribe(client.endpoint)
            await until(lambda: got.count(2) == 4)
            server.reset_sockets()
            await until(lambda: got.count(2) == 5)
            await subscription.unsubscribe_and_wait()
            await server.socket_count(0)
        assert [message.connection for message in await server.subscribed(5)] == [1, 2, 3, 4, 5]
