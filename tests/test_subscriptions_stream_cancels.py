"""A limit around a step of a stream is no end of it; the end of the task that reads is one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLRequestException
from subscribing import COUNT, STARTS, STOPS, client_of, sent, until, value_of

from graphql_prod import ClientClosedError, SubscriptionClosedError, SubscriptionGap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from conftest import Backend
    from subscribing import Protocol

    from graphql_prod import ProductionClient
    from graphql_prod.testing import ScriptedServer

SHARE = pytest.mark.parametrize("share", [False, True])


async def _by_timeout(step: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    async with asyncio.timeout(seconds):
        return await step()


async def _by_wait_for(step: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    return await asyncio.wait_for(step(), seconds)


async def _by_a_task(step: Callable[[], Awaitable[Any]], seconds: float) -> Any:
    async def one() -> Any:
        return await step()

    task = asyncio.create_task(one())
    await asyncio.wait({task}, timeout=seconds)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        raise TimeoutError from None


async def limited_step(stream: AsyncIterator[Any]) -> Any:
    return await asyncio.wait_for(anext(stream), 10)


LIMITS = pytest.mark.parametrize("limited", [_by_timeout, _by_wait_for, _by_a_task])


async def _gone(client: ProductionClient, server: ScriptedServer, lost: int = 0) -> None:
    """Nothing of it is left: no subscription, no socket, and the server was told, but for lost sockets."""
    gc.collect()
    await until(lambda: not client.stats().subscriptions, client.stats)
    await until(lambda: not client.stats().sockets, client.stats)
    await server.socket_count(0)
    await server.until(lambda: len(sent(server, STOPS)) + lost == len(sent(server, STARTS)))


class TestALimitAroundAStep:
    @LIMITS
    @SHARE
    async def test_no_event_is_lost(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, limited: Any, share: bool
    ) -> None:
        """Limits that end in between events, many of them: every event comes, once and in order."""
        server.tick = 0.013
        async with client_of(server.url, backend, share_connection=share, linger=0) as client:
            stream = client.stream(COUNT, protocols=protocol)
            values: list[int] = []
            given_up = 0
            while len(values) < 20 or given_up < 3:
                try:
                    values.append(value_of(await limited(lambda: anext(stream), 0.005)))
                except TimeoutError:
                    given_up += 1
            assert values == list(range(len(values)))
            assert client.stats().subscriptions == 1
            assert len(server.upgrades) == 1
            await stream.aclose()
            await _gone(client, server)

    @LIMITS
    async def test_while_it_connects(self, server: ScriptedServer, backend: Backend, limited: Any) -> None:
        """A limit that ends before the acknowledgement leaves the connecting to the next who asks."""
        server.ack_delay = 0.1
        async with client_of(server.url, backend) as client:
            stream = client.stream(COUNT)
            given_up = 0
            while True:
                try:
                    event = await limited(lambda: anext(stream), 0.02)
                    break
                except TimeoutError:
                    given_up += 1
            assert value_of(event) == 0
            assert given_up >= 2
            assert len(server.upgrades) == 1
            await stream.aclose()
            await _gone(client, server)

    @LIMITS
    async def test_before_anything_is_sent(
        self, server: ScriptedServer, backend: Backend, limited: Any
    ) -> None:
        """One that ends while credentials are fetched, too."""
        gate = asyncio.Event()

        async def provider() -> dict[str, str]:
            await gate.wait()
            return {}

        async with client_of(server.url, backend, objects={"headers_provider": provider}) as client:
            stream = client.stream(COUNT)
            with pytest.raises(TimeoutError):
                await limited(lambda: anext(stream), 0.02)
            assert not server.upgrades
            gate.set()
            assert value_of(await anext(stream)) == 0
            await stream.aclose()
            await _gone(client, server)

    async def test_a_gap_that_came_meanwhile_is_told(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """What happens between two steps is told in its place."""
        async with client_of(counting.url, backend) as client:
            stream = client.stream(COUNT, gaps=True, protocols=protocol)
            await anext(stream)
            counting.tick = 600
            seen: list[Any] = []
            with contextlib.suppress(TimeoutError):
                while True:
                    seen.append(await asyncio.wait_for(anext(stream), 0.1))
            counting.reset_sockets()
            await counting.subscribed(2)
            told: Any = [await limited_step(stream) for _ in range(2)]
            assert isinstance(told[0], SubscriptionGap)
            assert value_of(told[1]) == 0
            await stream.aclose()
            await _gone(client, counting, lost=1)

    @LIMITS
    async def test_an_end_that_came_meanwhile_is_told_as_what_it_is(
        self, server: ScriptedServer, backend: Backend, limited: Any
    ) -> None:
        """A fatal close, the server's complete and its error come out of the next step; then it is over."""
        server.tick = 600
        async with client_of(server.url, backend) as client:
            stream = client.stream(COUNT)
            await anext(stream)
            with pytest.raises(TimeoutError):
                await limited(lambda: anext(stream), 0.02)
            await server.close_sockets(4500, "enough")
            await until(lambda: not client.stats().sockets)
            with pytest.raises(SubscriptionClosedError, match="4500"):
                await limited(lambda: anext(stream), 10)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

            server.tick = 0.001
            stream = client.stream(COUNT, variables={"to": 0})
            await anext(stream)
            with pytest.raises(StopAsyncIteration):
                await limited(lambda: anext(stream), 10)

            stream = client.stream("subscription { nothing }")
            with pytest.raises(GraphQLRequestException):
                await limited(lambda: anext(stream), 10)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    async def test_a_failure_to_begin_is_told_once(self, server: ScriptedServer, backend: Backend) -> None:
        """As a generator: the error, then the end."""
        async with client_of(server.url, backend) as client:
            stream = client.stream("{ hello }")
            with pytest.raises(Exception, match="query"):
                await anext(stream)
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    async def test_a_shutdown_lets_it_finish(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Who reads under limits gets the events that wait, and then the normal end."""
        async with client_of(counting.url, backend) as client:
            stream = client.stream(COUNT, protocols=protocol)
            values = [value_of(await asyncio.wait_for(anext(stream), 10)) for _ in range(3)]
            await until(lambda: client.stats().events > 20)
            closing = asyncio.create_task(client.shutdown())
            await asyncio.sleep(0.01)
            with contextlib.suppress(StopAsyncIteration):
                while True:
                    values.append(value_of(await asyncio.wait_for(anext(stream), 10)))
                    await asyncio.sleep(0.001)
            report = await closing
            assert report.clean
            assert len(values) > 20
            assert values == list(range(len(values)))


class TestTheEndOfTheTask:
    @SHARE
    @pytest.mark.parametrize("kept", ["the task", "its exception", "nothing"])
    async def test_a_cancel_leaves_nothing_open(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, share: bool, kept: str
    ) -> None:
        """A task that is cancelled while it waits is over, and its subscription with it."""
        counting.tick = 600

        async def read(stream: AsyncIterator[Any]) -> None:
            async for event in stream:
                seen.add(id(event))

        seen: set[int] = set()
        keep: list[Any] = []
        async with client_of(counting.url, backend, share_connection=share, linger=0) as client:
            task = asyncio.create_task(read(client.stream(COUNT, protocols=protocol)))
            await until(lambda: seen)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            if kept == "the task":
                keep.append(task)
            elif kept == "its exception":
                keep.extend(await asyncio.gather(task, return_exceptions=True))
            del task
            await _gone(client, counting)
        assert len(keep) == (kept != "nothing")

    async def test_a_limit_that_is_not_handled(self, counting: ScriptedServer, backend: Backend) -> None:
        """A deadline around the loop ends the stream with it."""
        counting.tick = 600
        async with client_of(counting.url, backend) as client:
            with pytest.raises(TimeoutError) as caught:  # noqa: PT012
                async with asyncio.timeout(0.1):
                    async for _ in client.stream(COUNT):
                        pass
            await _gone(client, counting)
        assert caught.value is not None

    async def test_a_cancel_waits_for_no_close(self, server: ScriptedServer, backend: Backend) -> None:
        """With aclosing() around it, too: a peer that does not answer the close frame holds nobody up."""
        server.tick = 600
        async with client_of(server.url, backend) as client:
            seen: set[int] = set()

            async def read() -> None:
                async with contextlib.aclosing(client.stream(COUNT)) as stream:
                    async for event in stream:
                        seen.add(id(event))

            task = asyncio.create_task(read())
            await until(lambda: seen)
            task.cancel()
            begun = asyncio.get_running_loop().time()
            await asyncio.wait({task})
            assert client.stats().subscriptions == 0
            assert asyncio.get_running_loop().time() - begun < 0.9
            await _gone(client, server)

    async def test_a_stream_that_is_only_kept_holds_up_no_close(
        self, counting: ScriptedServer, backend: Backend
    ) -> None:
        """Who asked under a limit, and asks no more, is given up after a moment, and hears of it."""
        async with client_of(counting.url, backend) as client:
            stream = client.stream(COUNT)
            await asyncio.wait_for(anext(stream), 10)
            await until(lambda: client.stats().events > 5)
            report = await asyncio.wait_for(client.shutdown(20), 10)
            assert report.subscriptions_cancelled == 1
        with pytest.raises(ClientClosedError):
            await anext(stream)

    async def test_at_the_end_of_the_loop(self, server: ScriptedServer, backend: Backend) -> None:
        """asyncio.run() closes what is left: in a thread of its own, with a stream that is never closed."""
        url = server.url

        async def main() -> Any:
            context = client_of(url, backend)
            client = await context.__aenter__()
            stream = client.stream(COUNT)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(anext(stream), 10)
            keep.append((context, stream))
            await client.close()
            return client

        keep: list[Any] = []
        client = await asyncio.to_thread(asyncio.run, main())
        await server.socket_count(0)
        assert client.stats().subscriptions == 0

    @SHARE
    async def test_dropping_it_unsubscribes(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, share: bool
    ) -> None:
        """Also after a limit that ended in vain, and in the middle of connecting."""
        counting.tick = 600
        async with client_of(counting.url, backend, share_connection=share, linger=0) as client:
            stream = client.stream(COUNT, protocols=protocol)
            await anext(stream)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.02)
            del stream
            await _gone(client, counting)
            counting.never_ack = True
            stream = client.stream(COUNT, protocols=protocol)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.05)
            del stream
            await _gone(client, counting)


class TestAsAGenerator:
    async def test_its_type(self, server: ScriptedServer, backend: Backend) -> None:
        """It is an AsyncGenerator to isinstance(); nothing begins before it is asked."""
        async with client_of(server.url, backend) as client:
            stream = client.stream(COUNT)
            assert isinstance(stream, AsyncGenerator)
            assert isinstance(stream, AsyncIterator)
            assert aiter(stream) is stream
            await stream.aclose()
            await stream.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
        assert not server.upgrades

    async def test_asend(self, counting: ScriptedServer, backend: Backend) -> None:
        """None at first; afterwards values are ignored."""
        async with client_of(counting.url, backend) as client:
            stream: Any = client.stream(COUNT)
            with pytest.raises(TypeError, match="just-started"):
                await stream.asend(1)
            assert value_of(await stream.asend(None)) == 0
            assert value_of(await stream.asend("x")) == 1
            await stream.aclose()
            await _gone(client, counting)

    @pytest.mark.parametrize("begun", [True, False])
    async def test_athrow(self, counting: ScriptedServer, backend: Backend, begun: bool) -> None:
        """The exception comes out, and it is over."""
        async with client_of(counting.url, backend) as client:
            for thrown in (
                (LookupError("mine"),),
                (LookupError, "mine"),
                (LookupError, LookupError("mine"), None),
            ):
                stream: Any = client.stream(COUNT)
                if begun:
                    await anext(stream)
                with pytest.raises(LookupError, match="mine"):
                    await stream.athrow(*thrown)
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)
            await _gone(client, counting)

    async def test_two_readers(self, server: ScriptedServer, backend: Backend) -> None:
        """The second is refused, as by a generator; the first goes on."""
        async with client_of(server.url, backend) as client:
            stream = client.stream(COUNT)
            first = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="already running"):
                await anext(stream)
            assert value_of(await first) == 0
            await stream.aclose()
            await _gone(client, server)

    @pytest.mark.parametrize("connected", [True, False])
    async def test_aclose_by_another_task(
        self, server: ScriptedServer, backend: Backend, connected: bool
    ) -> None:
        """Whoever waits for an event gets the normal end."""
        server.tick = 600
        server.never_ack = not connected
        async with client_of(server.url, backend) as client:
            stream = client.stream(COUNT)
            if connected:
                await anext(stream)
            waiting = asyncio.create_task(anext(stream, None))
            await server.until(lambda: bool(server.messages))
            await stream.aclose()
            assert await asyncio.wait_for(waiting, 10) is None
            await _gone(client, server)

    async def test_after_the_client_has_closed(self, server: ScriptedServer, backend: Backend) -> None:
        """ClientClosedError, once."""
        async with client_of(server.url, backend) as client:
            stream = client.stream(COUNT)
        with pytest.raises(ClientClosedError):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
