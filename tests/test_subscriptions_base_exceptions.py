"""What is no Exception, raised in a callback: it ends the program where Python says so, and else nothing."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client.subscription import GraphQLSubscriptionEventType
from subscribing import COUNT, Follower, client_of, onward, until, value_of

from graphql_prod.testing import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiographql.client import GraphQLSubscriptionEvent
    from conftest import Backend
    from subscribing import Mode, Protocol

    from graphql_prod import SubscriptionGap


class Outcome(BaseException):
    """As pytest's and trio's own."""


OTHERS: list[Callable[[], BaseException]] = [
    Outcome,
    GeneratorExit,
    StopIteration,
    StopAsyncIteration,
    asyncio.CancelledError,
    lambda: BaseExceptionGroup("several", [Outcome()]),
]


@pytest.mark.parametrize("make", OTHERS, ids=lambda make: getattr(make, "__name__", "group"))
@pytest.mark.parametrize("how", ["function", "coroutine", "thread"])
@pytest.mark.parametrize("share", [False, True])
async def test_others_are_logged_and_counted(
    counting: ScriptedServer, backend: Backend, make: Any, how: str, share: bool, caplog: Any
) -> None:
    """They end nothing: the events after them come, and whoever waits for the end gets it."""
    got: list[int] = []

    def take(event: GraphQLSubscriptionEvent) -> None:
        got.append(value_of(event))
        if len(got) == 2:
            raise make()

    async def take_async(event: GraphQLSubscriptionEvent) -> None:
        await asyncio.sleep(0)
        take(event)

    async with client_of(
        counting.url, backend, callback_executor=how == "thread", share_connection=share
    ) as client:
        subscription = await client.subscribe(COUNT, on_data=take_async if how == "coroutine" else take)
        await until(lambda: len(got) >= 5, lambda: got)
        assert client.stats().callback_failures == 1
        task = subscription.task
        assert task is not None
        await asyncio.wait_for(subscription.unsubscribe_and_wait(), 10)
        assert task.exception() is None
        assert client.stats().subscriptions == 0
    assert got == sorted(set(got))
    logged = [r for r in caplog.records if "failed with" in r.getMessage() and r.name == "graphql_prod"]
    assert len(logged) == 1
    assert subscription.id in logged[0].getMessage()


@pytest.mark.parametrize("where", ["on_data", "on_gap", "on_error"])
async def test_whichever_callback_it_was(
    counting: ScriptedServer, backend: Backend, protocol: Protocol, where: str
) -> None:
    """Gaps and errors are told by callbacks like any other."""
    seen: list[str] = []

    def bad(name: str) -> Callable[[Any], None]:
        def callback(_: Any) -> None:
            seen.append(name)
            if name == where:
                raise Outcome

        return callback

    async with client_of(counting.url, backend) as client:
        subscription = await client.subscribe(
            COUNT, on_data=bad("on_data"), on_gap=bad("on_gap"), on_error=bad("on_error"), protocols=protocol
        )
        await until(lambda: "on_data" in seen)
        counting.reset_sockets()
        await until(lambda: "on_gap" in seen and seen[-1] == "on_data")
        await counting.close_sockets(4400)
        assert subscription.task is not None
        await asyncio.wait({subscription.task})
        await until(lambda: "on_error" in seen)
        assert client.stats().callback_failures == seen.count(where)
        assert client.stats().subscriptions == 0


def _in_a_program(main: Callable[[], Any]) -> BaseException | None:
    """How ``asyncio.run`` ends; on a thread, so that it ends no test."""
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 -- that is the question
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert ended, "the program hangs"
    return ended[0]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("how", ["function", "coroutine", "thread"])
def test_it_ends_the_program(kind: type[BaseException], how: str, backend: Backend) -> None:
    """KeyboardInterrupt and SystemExit come out of asyncio.run(); everything is closed on the way."""
    stats: list[Any] = []
    came_after: list[int] = []
    raised: list[BaseException] = []

    async def main() -> None:
        async with ScriptedServer() as server:
            server.tick = 0.001

            def take(event: GraphQLSubscriptionEvent) -> None:
                if raised:
                    came_after.append(value_of(event))
                elif value_of(event) == 2:
                    raised.append(kind("enough"))
                    raise raised[0]

            async def take_async(event: GraphQLSubscriptionEvent) -> None:
                await asyncio.sleep(0)
                take(event)

            client_ = client_of(server.url, backend, callback_executor=how == "thread")
            async with client_ as client:
                try:
                    await client.subscribe(COUNT, on_data=take_async if how == "coroutine" else take)
                    await asyncio.sleep(30)
                finally:
                    stats.append(client)

    assert _in_a_program(main) is raised[0]
    (client,) = stats
    assert client.state == "closed"
    assert client.stats().callback_failures == 1
    assert (client.stats().subscriptions, client.stats().sockets) == (0, 0)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_loop_that_is_run_again_goes_on(kind: type[BaseException], backend: Backend) -> None:
    """As in a notebook: the interrupt comes out of the loop, and the subscription has lost no event."""
    loop = asyncio.new_event_loop()
    got: list[int] = []

    async def begin() -> Any:
        server = await ScriptedServer().__aenter__()
        server.tick = 0.001
        context = client_of(server.url, backend)
        client = await context.__aenter__()

        def take(event: GraphQLSubscriptionEvent) -> None:
            got.append(value_of(event))
            if len(got) == 3:
                raise kind

        subscription = await client.subscribe(COUNT, on_data=take)
        return server, context, client, subscription

    async def end(server: Any, context: Any, client: Any, subscription: Any) -> None:
        await until(lambda: len(got) > 6)
        await asyncio.wait_for(subscription.unsubscribe_and_wait(), 10)
        assert client.stats().subscriptions == 0
        await context.__aexit__(None, None, None)
        await server.__aexit__(None, None, None)

    try:
        parts = loop.run_until_complete(begin())
        with pytest.raises(kind):
            loop.run_until_complete(asyncio.sleep(20))
        loop.run_until_complete(end(*parts))
        assert got == list(range(len(got)))
    finally:
        for task in asyncio.all_tasks(loop):  # the sleep that was interrupted
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def test_a_callback_may_change_its_event(
    counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
) -> None:
    """What a program takes out of an event is no loss to resume(), which sees the event as it came."""
    seen: list[Any] = []

    def resume(last: GraphQLSubscriptionEvent | None, variables: Any) -> Any:
        assert last is not None
        seen.append((value_of(last), last.id))
        return onward(last, variables)

    async with client_of(counting.url, backend) as client:
        values: list[int] = []
        gaps: list[SubscriptionGap] = []

        def take(event: GraphQLSubscriptionEvent) -> None:
            values.append(value_of(event))
            event.json["payload"]["data"].clear()

        if mode == "subscribe":
            subscription = await client.subscribe(
                COUNT, on_data=take, on_gap=gaps.append, resume=resume, protocols=protocol
            )
            await until(lambda: len(values) >= 2)
            counting.reset_sockets()
            await until(lambda: gaps and len(values) > values.index(seen[0][0]) + 1 if seen else False)
            await subscription.unsubscribe_and_wait()
            assert seen[0][1] == subscription.id
        else:
            stream = client.stream(COUNT, resume=resume, protocols=protocol)
            for n in range(20):
                event: Any = await anext(stream)
                take(event)
                if n == 5:
                    counting.reset_sockets()
            await stream.aclose()
            assert seen
    assert values == list(range(len(values)))


async def test_callbacks_of_one_event_share_it(counting: ScriptedServer, backend: Backend) -> None:
    """As with the stock client: one event object for all its callbacks."""
    seen: list[Any] = []
    async with client_of(counting.url, backend) as client:
        registry = {GraphQLSubscriptionEventType.DATA: [seen.append, lambda event: seen.append(event)]}
        subscription = await client.subscribe(COUNT, callbacks=registry)
        await until(lambda: len(seen) >= 2)
        await subscription.unsubscribe_and_wait()
    assert seen[0] is seen[1]


@pytest.mark.parametrize("make", [Outcome, GeneratorExit, lambda: BaseExceptionGroup("x", [Outcome()])])
async def test_resume_that_raises_such_a_thing(
    counting: ScriptedServer, backend: Backend, mode: Mode, make: Any
) -> None:
    """It ends the subscription, as any failure of resume() does; it does not hang."""

    def resume(_: Any, __: Any) -> Any:
        raise make()

    async with (
        client_of(counting.url, backend) as client,
        Follower(client, mode, resume=resume) as follower,
    ):
        await follower.came()
        counting.reset_sockets()
        error = await follower.end()
    assert "resume failed" in str(error)
