"""Smaller ends: what is dropped in the middle, what fails once, what stood on a loop that is no more."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING, Any

import graphql
import pytest
from aiographql.client import GraphQLClientException
from aiographql.client.transport.aiohttp import AiohttpSubscriptionTransport
from subscribing import COUNT, Follower, client_of, until

from graphql_prod import ProductionClient, RetryPolicy, SubscriptionLimitError
from graphql_prod.registry import ASKING
from graphql_prod.testing.schema import SDL

if TYPE_CHECKING:
    from conftest import Backend
    from subscribing import Mode

    from graphql_prod.testing import ScriptedServer


class Counted(AiohttpSubscriptionTransport):
    """A transport of the caller's that counts its ends, and may refuse to send once."""

    closed = 0
    refuses: str | None = None

    async def close(self) -> None:
        self.closed += 1
        await super().close()

    async def subscribe(self, *arguments: Any, **named: Any) -> Any:
        response = await super().subscribe(*arguments, **named)
        send = response.send_str

        async def send_str(data: str) -> None:
            refused, self.refuses = self.refuses, None
            if refused is not None and refused in data:
                raise RuntimeError("not now")
            self.refuses = refused
            await send(data=data)

        response.send_str = send_str  # type: ignore[method-assign]
        return response


class TestStreams:
    async def test_a_task_that_drops_streams_keeps_nothing_of_them(
        self, counting: ScriptedServer, backend: Backend
    ) -> None:
        """A task that lives long and leaves loops by ``break`` does not grow."""

        def kept() -> int:
            asker, known = ASKING.get(), 0
            while asker is not None:
                known, asker = known + len(getattr(asker, "numbers", ())), asker.outer
            return known

        async with client_of(counting.url, backend) as client:
            for _ in range(8):
                async for _event in client.stream(COUNT):
                    break
                await until(lambda: client.stats().subscriptions == 0)
            assert kept() <= 1

    async def test_its_own_transport_is_closed_when_the_close_is_cancelled(
        self, counting: ScriptedServer, backend: Backend
    ) -> None:
        """As when nobody cancels it."""
        async with client_of(counting.url, backend) as client:
            transport = Counted(counting.url)
            stream = client.stream(COUNT, transport=transport)
            await anext(stream)
            closing = asyncio.ensure_future(stream.aclose())
            await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait({closing})
            await until(lambda: transport.closed == 1)
            await until(lambda: client.stats().sockets == 0)

    @pytest.mark.parametrize("mode", ["stream", "subscribe"])
    async def test_its_own_transport_is_closed_where_there_is_no_room(
        self, counting: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """It was given away, and is nobody else's to close."""
        async with (
            client_of(counting.url, backend, settings={"pool": {"subscriptions": 1}}) as client,
            Follower(client, "stream") as first,
        ):
            await first.began(1)
            transport = Counted(counting.url)
            refused: Any
            if mode == "stream":
                refused = anext(client.stream(COUNT, transport=transport))
            else:
                refused = client.subscribe(COUNT, transport=transport)
            with pytest.raises(SubscriptionLimitError):
                await refused
            assert transport.closed == 1

    async def test_its_own_transport_is_closed_where_the_task_was_never_begun(
        self, counting: ScriptedServer
    ) -> None:
        """``subscribe()`` cancelled before the stock object's task has made its first step."""
        async with client_of(counting.url) as client:
            transport = Counted(counting.url)
            before = asyncio.all_tasks()
            subscribing = asyncio.create_task(client.subscribe(COUNT, transport=transport))
            while not (begun := asyncio.all_tasks() - before - {subscribing}):
                await asyncio.sleep(0)
            for task in (*begun, subscribing):
                task.cancel()
            await asyncio.wait({subscribing})
            await until(lambda: transport.closed == 1)


async def test_a_start_message_that_is_not_taken_is_a_lost_connection(
    counting: ScriptedServer, mode: Mode
) -> None:
    """The socket goes on and would give no events for ever: it is left, and the next one subscribes."""
    transport = Counted(counting.url)
    async with client_of(counting.url, objects={"subscription_transport": transport}) as client:
        transport.refuses = '"subscribe"'
        async with Follower(client, mode) as follower:
            await follower.began(3)
            assert len(follower.gaps) == 1


def test_what_was_left_on_closed_loops_takes_no_room() -> None:
    """A suite that closes loops under their subscriptions can subscribe on the next one."""
    from graphql_prod.testing import ScriptedServer

    ready, over, urls = threading.Event(), threading.Event(), list[str]()

    async def serve() -> None:
        async with ScriptedServer() as server:
            urls.append(server.url)
            ready.set()
            while not over.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    kept: list[Any] = []
    client = ProductionClient.from_config(
        {"endpoint": urls[0], "pool": {"subscriptions": 1}, "schema": {"mode": "off"}}
    )

    async def subscribe() -> None:
        kept.append(await client.subscribe(COUNT))
        kept.append(asyncio.all_tasks())

    try:
        loops = [asyncio.new_event_loop() for _ in range(2)]
        for loop in loops:
            loop.run_until_complete(subscribe())
            # What the loop still has is cut off as the end of the process would do it.
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            assert client.stats().sockets == 0
            assert client.stats().subscriptions == 0
        asyncio.run(client.shutdown())
    finally:
        over.set()
        thread.join(10)


async def test_a_thread_that_cannot_be_begun_fails_one_call(
    server: ScriptedServer, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who wait hear of it at once. The same document is looked at when the machine is well again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    schema = graphql.build_schema(SDL)
    async with ProductionClient(server.url, backend=backend, schema=schema) as client:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for failed in await asyncio.gather(
                *(client.query("{ hello }") for _ in range(3)), return_exceptions=True
            ):
                assert isinstance(failed, GraphQLClientException)
                assert "no thread could be begun" in str(failed)
        answer = await asyncio.wait_for(client.query("{ hello }"), 10)
        assert answer.data == {"hello": "Hello, world!"}


def test_many_threads_open_sessions_at_once(backend: Backend) -> None:
    """Each for the loop of its own, while those of loops that are closed are forgotten."""
    client = ProductionClient("http://127.0.0.1:9/graphql", backend=backend, validate=False)
    failed: list[BaseException] = []
    together = threading.Barrier(6)

    async def one() -> None:
        with pytest.raises(GraphQLClientException):
            await client.with_options(retry=RetryPolicy(attempts=1)).query("{ hello }")

    def work() -> None:
        for _ in range(15):
            together.wait(20)
            try:
                asyncio.run(one())
            except BaseException as error:  # noqa: BLE001 -- told below
                failed.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert failed == []
    asyncio.run(client.shutdown())


def test_a_session_of_a_loop_that_stands_still_is_closed_when_it_goes_on(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing from another loop does not wait for it, says so, and does not forget the session."""
    loop = asyncio.new_event_loop()
    client = ProductionClient("http://127.0.0.1:9/graphql", backend=backend, validate=False)

    async def use() -> None:
        with pytest.raises(GraphQLClientException):
            await client.with_options(retry=RetryPolicy(attempts=1)).query("{ hello }")

    loop.run_until_complete(use())
    report = asyncio.run(client.shutdown())
    assert report.requests_cancelled == 0
    assert "does not run" in caplog.text
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
