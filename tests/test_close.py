"""The end of a client: no new calls, a time to finish for those under way, then the cut."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest
from aiographql.client import GraphQLRequest, GraphQLResponse, GraphQLTransport

from graphql_prod import (
    ClientClosedError,
    HTTPStatusError,
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiographql.client.transport import GraphQLSession

Backend = Literal["aiohttp", "httpx"]
Owner = Literal["owned", "given"]

HELLO = {"hello": "Hello, world!"}
INCREMENT = "mutation Add { increment }"


@contextlib.asynccontextmanager
async def client_of(
    url: str, backend: Backend, owner: Owner = "owned", **settings: Any
) -> AsyncIterator[ProductionClient]:
    """An open client that the test itself closes; a caller's session ends after it."""
    if owner == "owned":
        config = ProductionConfig(backend=backend, **settings)
        yield ProductionClient(url, validate=False, config=config)
        return
    session: GraphQLSession
    async with contextlib.AsyncExitStack() as stack:
        if backend == "aiohttp":
            session = await stack.enter_async_context(aiohttp.ClientSession())
        else:
            session = await stack.enter_async_context(httpx.AsyncClient(verify=False))
        config = ProductionConfig(**settings)
        yield ProductionClient(url, session=session, validate=False, config=config)


async def state(client: ProductionClient, *wanted: str) -> None:
    """Wait until the client is in one of these states."""
    async with asyncio.timeout(10):
        while client.state not in wanted:
            await asyncio.sleep(0.001)


async def leave_by_exception(client: ProductionClient) -> None:
    """Leave ``async with client`` by an exception, which comes out as it was."""
    with pytest.raises(LookupError, match="body"):
        async with client:
            raise LookupError("body")


class TestRefusal:
    async def test_a_closed_client_refuses_every_kind_of_call(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """At once, before anything is sent, with an error that says what to do."""
        async with client_of(server.url, backend, owner) as client:
            await client.query("{ hello }")
            await client.close()
            assert client.state == "closed"
            request = GraphQLRequest(query="{ hello }")
            calls: list[Callable[[], Awaitable[Any]]] = [
                lambda: client.query("{ hello }"),
                lambda: client.query(INCREMENT),
                lambda: client.post(request),
                lambda: client.get(request),
                lambda: client.query_data_as(request, dict),
                lambda: client.introspect(),
                lambda: client.get_schema(),
                lambda: client.with_options(timeout=5).query("{ hello }"),
                lambda: client.subscribe(request),
                lambda: client.__aenter__(),
            ]
            for call in calls:
                with pytest.raises(ClientClosedError, match="closed and takes no new calls") as caught:
                    await call()
                error = caught.value
                assert (error.attempts, error.may_have_executed) == (0, False)
                assert error.elapsed < 5
        assert len(server.requests) == 1
        assert server.upgrades == []

    async def test_a_closing_client_refuses_new_calls_while_old_ones_finish(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """From the first moment of closing on, also between two loops' rounds."""
        gate = asyncio.Event()
        server.script(Answer(gate=gate))
        async with client_of(server.url, backend, owner) as client:
            call = asyncio.create_task(client.query("{ hello }"))
            await server.received(1)
            closing = asyncio.create_task(client.close())
            await state(client, "draining")
            with pytest.raises(ClientClosedError, match="draining"):
                await client.query("{ hello }")
            assert not closing.done()
            gate.set()
            assert (await call).data == HELLO
            await closing
            assert client.state == "closed"
        assert len(server.requests) == 1

    async def test_a_closed_client_says_so_in_its_repr(self, server: ScriptedServer) -> None:
        """State can be printed."""
        client = ProductionClient(server.url)
        assert repr(client).endswith(" open>")
        await client.close()
        assert repr(client).endswith(" closed>")


class TestDraining:
    async def test_calls_under_way_finish_before_the_session_is_closed(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """Queries and mutations alike, on every session."""
        gate = asyncio.Event()
        server.always(Answer(gate=gate))
        async with client_of(server.url, backend, owner) as client:
            calls = [asyncio.create_task(client.query(INCREMENT)) for _ in range(5)]
            await server.received(5)
            closing = asyncio.create_task(client.close())
            await state(client, "draining")
            gate.set()
            assert sorted([(await call).data["increment"] for call in calls]) == [1, 2, 3, 4, 5]
            await closing
            assert client.stats().in_flight == 0

    async def test_a_call_that_fetches_the_schema_first_goes_on_to_its_query(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """It was under way when closing began, so it finishes, although its query was not sent yet."""
        gate = asyncio.Event()
        server.on("IntrospectionQuery", Answer(gate=gate))
        client = ProductionClient(server.url, backend=backend)
        call = asyncio.create_task(client.query(INCREMENT))
        await server.received(1)
        closing = asyncio.create_task(client.close())
        await state(client, "draining")
        gate.set()
        assert (await call).data == {"increment": 1}
        await closing

    async def test_a_call_that_waits_for_its_next_attempt_raises_its_last_failure(
        self, server: ScriptedServer, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It gives up waiting; nothing is sent again."""
        server.always(Answer.page(503))
        retry = RetryPolicy(wait_initial=20, wait_max=20, jitter="none")
        async with client_of(server.url, backend, retry=retry, timeout=TimeoutPolicy(total=None)) as client:
            with caplog.at_level(logging.WARNING, "graphql_prod"):
                call = asyncio.create_task(client.query("{ hello }"))
                async with asyncio.timeout(10):
                    while "follows in 20" not in caplog.text:
                        await asyncio.sleep(0.001)
            async with asyncio.timeout(10):
                await client.close()
            with pytest.raises(HTTPStatusError) as caught:
                await call
            assert (caught.value.status, caught.value.attempts) == (503, 1)
        assert len(server.requests) == 1

    async def test_a_failure_while_closing_is_not_waited_over(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A call that fails after closing began is not tried again either."""
        gate = asyncio.Event()
        server.always(Answer.page(503, gate=gate))
        retry = RetryPolicy(wait_initial=20, wait_max=20, jitter="none")
        async with client_of(server.url, backend, retry=retry, timeout=TimeoutPolicy(total=None)) as client:
            call = asyncio.create_task(client.query("{ hello }"))
            await server.received(1)
            closing = asyncio.create_task(client.close())
            await state(client, "draining")
            gate.set()
            with pytest.raises(HTTPStatusError):
                await asyncio.wait_for(call, 10)
            await asyncio.wait_for(closing, 10)
        assert len(server.requests) == 1

    async def test_calls_that_wait_for_the_pool_are_served(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """They were accepted before closing began."""
        gate = asyncio.Event()
        server.script(Answer(gate=gate))
        pool = PoolPolicy(requests=1, retry_headroom=0)
        async with client_of(server.url, backend, pool=pool) as client:
            calls = [asyncio.create_task(client.query(INCREMENT)) for _ in range(3)]
            await server.received(1)
            assert client.stats().pool.waiting == 2
            closing = asyncio.create_task(client.close())
            await state(client, "draining")
            gate.set()
            assert [(await call).data for call in calls] == [{"increment": n} for n in (1, 2, 3)]
            await closing

    async def test_a_call_cancelled_while_the_client_closes_is_waited_for_no_longer(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """Its cancel is its own; closing goes on."""
        gate = asyncio.Event()
        server.script(Answer(gate=gate))
        async with client_of(server.url, backend, owner) as client:
            call = asyncio.create_task(client.query("{ hello }"))
            await server.received(1)
            closing = asyncio.create_task(client.close())
            await state(client, "draining")
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(closing, 10)
            gate.set()

    async def test_a_call_that_was_given_up_does_not_hold_up_the_close(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """Nobody waits for its answer any more, so closing does not either."""
        server.script(Answer.hang())
        async with client_of(server.url, backend, owner) as client:
            with pytest.raises(RequestTimeoutError):
                await client.with_options(timeout=0.1).query("{ hello }")
            await asyncio.wait_for(client.close(), 2)

    async def test_subscriptions_are_ended(self, server: ScriptedServer, backend: Backend) -> None:
        """An active subscription ends with the client, and its socket with it."""
        server.tick = 0.005
        client = ProductionClient(server.url, validate=False, backend=backend)
        events: list[Any] = []
        subscription = await client.subscribe("subscription { count }", on_data=events.append)
        await server.until(lambda: len(events) > 2)
        assert client.stats().subscriptions == 1
        async with asyncio.timeout(10):
            await client.close()
        assert not subscription.active()
        assert client.stats().subscriptions == 0
        await server.socket_count(0)

    async def test_a_subscription_does_not_hold_up_an_exit_by_exception(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Cut at once, like the calls."""
        server.tick = 0.005
        client = ProductionClient(server.url, validate=False, backend=backend)
        subscription = await client.subscribe("subscription { count }")
        await server.subscribed(1)
        async with asyncio.timeout(10):
            await leave_by_exception(client)
        assert not subscription.active()
        await server.socket_count(0)


class TestCut:
    async def test_leaving_by_an_exception_cuts_what_is_under_way(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """Callers see ClientClosedError, not a bare cancel; a mutation that was sent may have executed."""
        server.always(Answer.hang(execute=True))
        async with client_of(server.url, backend, owner) as client:
            query = asyncio.create_task(client.query("{ hello }"))
            mutation = asyncio.create_task(client.query(INCREMENT))
            await server.received(2)
            async with asyncio.timeout(10):
                await leave_by_exception(client)
            assert client.state == "closed"
            with pytest.raises(ClientClosedError) as caught:
                await query
            assert (caught.value.attempts, caught.value.may_have_executed) == (1, False)
            with pytest.raises(ClientClosedError, match="may have been executed") as caught:
                await mutation
            assert (caught.value.attempts, caught.value.may_have_executed) == (1, True)
            assert client.stats().in_flight == 0

    async def test_a_mutation_that_was_not_sent_says_so(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Cut while waiting for the pool: nothing was sent, whatever became of the one that held it."""
        server.always(Answer.hang())
        pool = PoolPolicy(requests=1, retry_headroom=0)
        limits = TimeoutPolicy(pool=None)
        async with client_of(server.url, backend, pool=pool, timeout=limits) as client:
            calls = [asyncio.create_task(client.query(INCREMENT)) for _ in range(3)]
            await server.received(1)
            await leave_by_exception(client)
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(error) for error in errors] == [ClientClosedError] * 3
            assert [error.may_have_executed for error in errors if isinstance(error, ClientClosedError)] == [
                True,
                False,
                False,
            ]
            assert "was not sent" in str(errors[1])
        assert len(server.requests) == 1

    async def test_a_call_that_waits_for_its_next_attempt_is_not_left_waiting(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Its last failure, or the news that the client closed: never a hang, never a bare cancel."""
        server.always(Answer.page(503))
        retry = RetryPolicy(wait_initial=20, wait_max=20, jitter="none")
        async with client_of(server.url, backend, retry=retry, timeout=TimeoutPolicy(total=None)) as client:
            call = asyncio.create_task(client.query("{ hello }"))
            await server.received(1)
            async with asyncio.timeout(10):
                await leave_by_exception(client)
            with pytest.raises((HTTPStatusError, ClientClosedError)):
                await call

    async def test_the_last_failure_is_the_cause_of_a_cut(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Why there was a second attempt is told beside why it ended."""
        server.script(Answer.page(502), Answer.hang())
        async with client_of(server.url, backend, retry=RetryPolicy(wait_initial=0)) as client:
            call = asyncio.create_task(client.query("{ hello }"))
            await server.received(2)
            await leave_by_exception(client)
            with pytest.raises(ClientClosedError, match="after 2 attempts") as caught:
                await call
            assert isinstance(caught.value.__cause__, HTTPStatusError)

    async def test_leaving_by_a_cancel_cuts_too(self, server: ScriptedServer, backend: Backend) -> None:
        """The block's own task is cancelled: closed at once, and the cancel goes on."""
        server.always(Answer.hang())
        client = ProductionClient(server.url, validate=False, backend=backend)
        calls: list[asyncio.Task[Any]] = []

        async def body() -> None:
            async with client:
                calls.append(asyncio.create_task(client.query("{ hello }")))
                await asyncio.Event().wait()

        task = asyncio.create_task(body())
        await server.received(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        assert client.state == "closed"
        with pytest.raises(ClientClosedError):
            await calls[0]

    async def test_a_deadline_around_the_block_stays_a_deadline(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """``asyncio.timeout`` around ``async with client`` ends in its own TimeoutError."""
        server.always(Answer.hang())
        client = ProductionClient(server.url, validate=False, backend=backend)

        async def program() -> None:
            async with asyncio.timeout(0.1), client:
                await client.query("{ hello }")

        with pytest.raises(TimeoutError) as caught:
            await program()
        assert type(caught.value) is TimeoutError
        assert client.state == "closed"

    async def test_leaving_by_an_exception_cuts_a_close_that_waits(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A shorter deadline shortens the one that runs."""
        server.always(Answer.hang())
        client = ProductionClient(server.url, validate=False, backend=backend)
        call = asyncio.create_task(client.query("{ hello }"))
        await server.received(1)
        closing = asyncio.create_task(client.close())
        await state(client, "draining")
        await asyncio.wait_for(client.__aexit__(LookupError, LookupError(), None), 10)
        with pytest.raises(ClientClosedError):
            await call
        await asyncio.wait_for(closing, 10)

    async def test_a_call_whose_time_ran_out_as_the_client_was_cut_spoils_nothing(
        self, server: ScriptedServer
    ) -> None:
        """A call that already died of its total, and dies slowly, does not stop the cut of the others."""
        dying, release = asyncio.Event(), asyncio.Event()

        class Slow(GraphQLTransport):
            async def request(self, *_: Any, **__: Any) -> GraphQLResponse:
                try:
                    await asyncio.Event().wait()
                finally:
                    dying.set()
                    await release.wait()
                raise AssertionError("it ended without its cancel")

            async def close(self) -> None: ...

        client = ProductionClient(server.url, validate=False, transport=Slow())
        call = asyncio.create_task(client.with_options(timeout=0.05).query("{ hello }"))
        await asyncio.wait_for(dying.wait(), 10)
        leaving = asyncio.create_task(leave_by_exception(client))
        await state(client, "draining", "closed")
        for _ in range(20):
            await asyncio.sleep(0)
        release.set()
        await asyncio.wait_for(leaving, 10)
        with pytest.raises((RequestTimeoutError, ClientClosedError)):
            await call
        assert client.state == "closed"

    async def test_the_connections_of_cut_calls_are_closed(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """Nothing of ours stays open after a cut."""
        server.always(Answer.hang())
        async with FaultyProxy(server.port) as proxy:
            client = ProductionClient(proxy.url_for(), validate=False, backend=backend)
            calls = [asyncio.create_task(client.query("{ hello }")) for _ in range(3)]
            await server.received(3)
            await leave_by_exception(client)
            await proxy.until(lambda: proxy.open == 0)
            await server.abandoned(3)
            assert {type(each) for each in await asyncio.gather(*calls, return_exceptions=True)} == {
                ClientClosedError
            }


class TestTwice:
    async def test_close_is_idempotent(self, server: ScriptedServer, backend: Backend, owner: Owner) -> None:
        """Again after the end, in any way, does nothing."""
        async with client_of(server.url, backend, owner) as client:
            await client.query("{ hello }")
            await client.close()
            await client.close()
            await client.transport.close()
            await client.with_options(timeout=1).close()
            await client.__aexit__(None, None, None)
            await client.__aexit__(LookupError, LookupError(), None)
            assert client.state == "closed"

    async def test_two_at_once_join(self, server: ScriptedServer, backend: Backend) -> None:
        """Both return when it is through, not before."""
        gate = asyncio.Event()
        server.script(Answer(gate=gate))
        client = ProductionClient(server.url, validate=False, backend=backend)
        call = asyncio.create_task(client.query("{ hello }"))
        await server.received(1)
        closers = [asyncio.create_task(client.close()) for _ in range(3)]
        await state(client, "draining")
        done, _ = await asyncio.wait(closers, timeout=0.05)
        assert not done
        gate.set()
        await asyncio.gather(*closers)
        assert client.state == "closed"
        assert (await call).data == HELLO

    async def test_cancelling_whoever_closes_does_not_leave_the_session_open(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """The closing goes on without its caller, and lets the calls finish all the same."""
        gate = asyncio.Event()
        server.script(Answer(gate=gate))
        async with FaultyProxy(server.port) as proxy:
            client = ProductionClient(proxy.url_for(), validate=False, backend=backend)
            call = asyncio.create_task(client.query("{ hello }"))
            await server.received(1)
            closing = asyncio.create_task(client.close())
            await state(client, "draining")
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            gate.set()
            assert (await call).data == HELLO
            await state(client, "closed")
            await proxy.until(lambda: proxy.open == 0)
            await client.close()

    async def test_a_program_that_ends_in_mid_close_still_closes_the_session(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """``asyncio.run`` cancels what is left, the closing among it: the session is closed on the way."""
        server.always(Answer.hang())
        async with FaultyProxy(server.port) as proxy:
            client = ProductionClient(proxy.url_for(), validate=False, backend=backend)

            async def program() -> None:
                call = asyncio.create_task(client.query("{ hello }"))
                while not server.requests:
                    await asyncio.sleep(0.001)
                closing = asyncio.create_task(client.close())
                await state(client, "draining")
                del call, closing

            await asyncio.wait_for(asyncio.to_thread(asyncio.run, program()), 20)
            assert client.state == "closed"
            await proxy.until(lambda: proxy.open == 0)

    async def test_closing_a_view_closes_the_client(
        self, server: ScriptedServer, backend: Backend, owner: Owner
    ) -> None:
        """They share everything, and the end."""
        async with client_of(server.url, backend, owner) as client:
            async with client.with_options(timeout=5) as view:
                await view.query("{ hello }")
            assert (client.state, view.state) == ("closed", "closed")
            with pytest.raises(ClientClosedError):
                await client.query("{ hello }")

    async def test_a_client_never_used_is_closed_at_once(self, backend: Backend) -> None:
        """There is nothing to close; it is closed all the same."""
        client = ProductionClient("http://127.0.0.1:1/graphql", backend=backend)
        await client.close()
        assert client.state == "closed"
        async with ProductionClient("http://127.0.0.1:1/graphql", backend=backend) as client:
            pass
        with pytest.raises(ClientClosedError):
            await client.query("{ hello }")


class TestFromWithin:
    async def test_closing_from_within_a_call_does_not_deadlock(self, server: ScriptedServer) -> None:
        """A call that closes its own client is not waited for, and still gives its answer."""

        class Closing(GraphQLTransport):
            client: ProductionClient

            async def request(
                self, method: str, request: GraphQLRequest, serializer: Any, **_: Any
            ) -> GraphQLResponse:
                await self.client.close()
                return GraphQLResponse(request=request, json={"data": HELLO})

            async def close(self) -> None: ...

        transport = Closing()
        transport.client = client = ProductionClient(server.url, validate=False, transport=transport)
        answer = await asyncio.wait_for(client.query("{ hello }"), 10)
        assert answer.data == HELLO
        assert client.state == "closed"

    async def test_two_calls_that_close_their_client_do_not_wait_for_each_other(
        self, server: ScriptedServer
    ) -> None:
        """Whoever is in the middle of closing is not waited for either."""
        both = asyncio.Barrier(2)

        class Closing(GraphQLTransport):
            client: ProductionClient

            async def request(
                self, method: str, request: GraphQLRequest, serializer: Any, **_: Any
            ) -> GraphQLResponse:
                await both.wait()
                await self.client.close()
                return GraphQLResponse(request=request, json={"data": HELLO})

            async def close(self) -> None: ...

        transport = Closing()
        transport.client = client = ProductionClient(server.url, validate=False, transport=transport)
        calls = [asyncio.create_task(client.query("{ hello }")) for _ in range(2)]
        done, _ = await asyncio.wait(calls, timeout=3)
        await asyncio.wait_for(client.__aexit__(LookupError, LookupError(), None), 10)
        await asyncio.gather(*calls, return_exceptions=True)
        assert len(done) == 2
        assert [(await call).data for call in calls] == [HELLO, HELLO]
        assert client.state == "closed"

    async def test_closing_from_a_subscriptions_callback_does_not_deadlock(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A message may be the reason to stop."""
        server.tick = 0.005
        client = ProductionClient(server.url, validate=False, backend=backend)
        closed = asyncio.Event()

        async def on_data(_: object) -> None:
            await client.close()
            closed.set()

        subscription = await client.subscribe("subscription { count }", on_data=on_data)
        await asyncio.wait_for(closed.wait(), 10)
        assert client.state == "closed"
        assert not subscription.active()


class Deaf:
    """A transport that does not let itself be cancelled until it is told to end."""

    def __init__(self) -> None:
        self.begun, self.end = asyncio.Event(), asyncio.Event()

    async def request(self, *_: Any, **__: Any) -> Any:
        self.begun.set()
        while not self.end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.end.wait()
        raise OSError("over")

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_transport_that_swallows_the_cut_does_not_hold_up_the_close() -> None:
    """Closing is bounded, whatever a custom transport does with a cancel."""
    transport = Deaf()
    client = ProductionClient("http://h.example/graphql", validate=False, transport=transport)
    call = asyncio.create_task(client.query("{ hello }"))
    await transport.begun.wait()
    with contextlib.suppress(ZeroDivisionError):
        async with asyncio.timeout(10), client:
            raise ZeroDivisionError
    assert client.state == "closed"
    assert not call.done()
    transport.end.set()
    with pytest.raises(OSError, match="over"):
        await call
