"""Renewal in the background, the end of the client, and several loops."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLClientValidationException
from flying import Gated, failed
from schema_world import (
    CHANGED,
    HELLO,
    HELLO_DATA,
    INTROSPECTION,
    SECRET,
    WRONG,
    Hand,
    a_few_rounds,
    asked,
    asked_so_often,
    client_of,
    dropped,
    renewed,
    said,
    warned,
    warnings_of,
)
from subscribing import until
from telemetry_sdk import sdk_fixture  # noqa: F401 -- the fixture

from graphql_prod import (
    ClientClosedError,
    HTTPStatusError,
    ProductionClient,
    RetryPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from schema_world import Backend
    from telemetry_sdk import Sdk


TTL = 100.0


@pytest.fixture
async def expired(
    server: ScriptedServer, backend: Backend, hand: Hand, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[ProductionClient]:
    """A client whose schema is over its time."""
    async with client_of(server.url, backend, ttl=TTL) as client:
        await client.query(HELLO)
        hand.now += TTL + 1
        yield client


class TestRenewal:
    async def test_in_the_background(
        self, server: ScriptedServer, expired: ProductionClient, hand: Hand
    ) -> None:
        """The first use after the ttl begins one refresh; the known schema serves, however many ask."""
        gated = Gated(server)
        server.sdl = CHANGED
        known = await expired.get_schema()
        await gated.came(2)
        calls = (expired.query(HELLO) for _ in range(20))
        assert [each.data for each in await asyncio.gather(*calls)] == [HELLO_DATA] * 20
        with pytest.raises(GraphQLClientValidationException):
            await expired.query(WRONG)
        assert await expired.get_schema() is known
        assert asked(server) == 2
        gated.go()
        await renewed(expired)
        assert await expired.get_schema() is not known
        assert (await expired.query(WRONG)).data == {"nothing": None}
        hand.now += TTL - 1
        for _ in range(3):
            await expired.query(HELLO)
        assert asked(server) == 2

    async def test_with_the_clients_headers(self, server: ScriptedServer, hand: Hand) -> None:
        """And its provider's: a refresh is nobody's call."""

        def provide() -> dict[str, str]:
            return {"X-Provided": "yes"}

        objects = {"headers": {"X-Who": "client"}, "headers_provider": provide}
        async with client_of(server.url, objects=objects, ttl=TTL) as client:
            view = client.with_options(headers={"X-Who": "view"})
            await view.query(HELLO)
            hand.now += TTL + 1
            await view.query(HELLO, headers={"X-Call": "yes"})
            await asked_so_often(server, 2)
            await renewed(client)
        seen = [r.headers for r in server.requests if r.query != HELLO]
        assert [each["X-Who"] for each in seen] == ["view", "client"]
        assert [each["X-Provided"] for each in seen] == ["yes", "yes"]
        assert "X-Call" not in seen[1]

    async def test_with_the_clients_settings(
        self, server: ScriptedServer, expired: ProductionClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Not with those of the view that happened to begin it: its retries, its limits."""
        gated = Gated(server)
        view = expired.with_options(timeout=0.3, retry=RetryPolicy(attempts=5))
        assert (await view.query(HELLO)).data == HELLO_DATA
        await gated.came(2)
        await asyncio.sleep(0.5)  # longer than the view's limits
        gated.go()
        await renewed(expired)
        assert asked(server) == 2
        assert warnings_of(caplog) == []

    async def test_outlives_the_call_that_began_it(
        self, server: ScriptedServer, expired: ProductionClient
    ) -> None:
        """A cancel of that call is none of the refresh."""
        gated = Gated(server)
        server.always(Answer.hang(), "Hello")
        call = asyncio.create_task(expired.query(HELLO))
        await gated.came(2)
        call.cancel()
        await asyncio.wait({call})
        gated.go()
        await renewed(expired)
        assert asked(server) == 2

    async def test_a_wish_for_a_new_one_joins_it(
        self, server: ScriptedServer, expired: ProductionClient
    ) -> None:
        """``get_schema(refresh=True)`` waits for the refresh that is under way."""
        await expired.get_schema()
        await renewed(expired)
        known = await expired.get_schema()
        gated = Gated(server)
        first = asyncio.create_task(expired.get_schema(refresh=True))
        await gated.came(3)
        second = asyncio.create_task(expired.get_schema(refresh=True))
        await a_few_rounds()
        gated.go()
        assert await first is await second is not known
        assert asked(server) == 3

    async def test_a_wish_during_a_refresh(self, server: ScriptedServer, expired: ProductionClient) -> None:
        """So does one that comes while a background refresh is under way; leaving it stops no refresh."""
        gated = Gated(server)
        known = await expired.get_schema()
        await gated.came(2)
        leaves, stays = [asyncio.create_task(expired.get_schema(refresh=True)) for _ in range(2)]
        await a_few_rounds()
        leaves.cancel()
        await asyncio.wait({leaves})
        gated.go()
        assert await stays is not known
        assert asked(server) == 2

    async def test_a_wish_that_is_given_up_during_a_refresh(
        self, server: ScriptedServer, expired: ProductionClient
    ) -> None:
        """The refresh was there before it, and goes on."""
        gated = Gated(server)
        await expired.get_schema()
        await gated.came(2)
        leaves = asyncio.create_task(expired.get_schema(refresh=True))
        await a_few_rounds()
        leaves.cancel()
        await asyncio.wait({leaves})
        gated.go()
        await renewed(expired)
        assert asked(server) == 2


class TestFailedRenewal:
    @pytest.mark.parametrize(
        "answer",
        [
            Answer.page(503, SECRET),
            Answer.page(403, SECRET),
            Answer.graphql(errors=[SECRET]),
            Answer.graphql(data={"__schema": {"types": SECRET}}),
            Answer.reset("before"),
            Answer.login_page(),
        ],
        ids=["503", "403", "errors", "nonsense", "reset", "HTML"],
    )
    async def test_keeps_the_schema(
        self,
        server: ScriptedServer,
        expired: ProductionClient,
        hand: Hand,
        answer: Answer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Stale beats down: calls go on being validated by it; one warning, in our words."""
        await expired.get_schema()
        await renewed(expired)
        hand.now += TTL + 1
        server.always(answer, INTROSPECTION)
        assert (await expired.query(HELLO)).data == HELLO_DATA
        await warned(caplog, 1)
        known = await expired.get_schema()
        for _ in range(3):
            assert (await expired.query(HELLO)).data == HELLO_DATA
            with pytest.raises(GraphQLClientValidationException):
                await expired.query(WRONG)
        assert await expired.get_schema() is known
        assert expired.stats().schema_age == TTL + 1
        assert asked(server) == 3
        (record,) = warnings_of(caplog)
        assert f"127.0.0.1:{server.port}" in record.getMessage()
        assert SECRET not in said(caplog)

    async def test_backs_off(
        self,
        server: ScriptedServer,
        expired: ProductionClient,
        hand: Hand,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Tried again by the first use 1 s later, then 2, doubling, at most 60; a success forgets that."""
        server.always(Answer.page(503), INTROSPECTION)
        await expired.query(HELLO)
        await warned(caplog, 1)
        waits = [1, 2, 4, 8, 16, 32, 60, 60]
        for n, wait in enumerate(waits, 1):
            hand.now += wait - 0.1
            for _ in range(3):
                await expired.query(HELLO)
            assert asked(server) == n + 1
            hand.now += 0.2
            await expired.query(HELLO)
            await warned(caplog, n + 1)
            assert asked(server) == n + 2
        server.always(None, INTROSPECTION)
        hand.now += 61
        await expired.query(HELLO)
        await renewed(expired)
        server.always(Answer.page(503), INTROSPECTION)
        hand.now += TTL + 1
        await expired.query(HELLO)
        await warned(caplog, len(waits) + 2)
        before = asked(server)
        hand.now += 1.1
        await expired.query(HELLO)
        await asked_so_often(server, before + 1)
        await warned(caplog, len(waits) + 3)

    async def test_a_wish_does_not_wait_for_the_backoff(
        self, server: ScriptedServer, expired: ProductionClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """``get_schema(refresh=True)`` asks at once."""
        server.on(INTROSPECTION, Answer.page(503))
        known = await expired.get_schema()
        await warned(caplog, 1)
        assert await expired.get_schema(refresh=True) is not known
        assert expired.stats().schema_age == 0

    async def test_that_is_not_to_be_survived(
        self, server: ScriptedServer, backend: Backend, hand: Hand
    ) -> None:
        """``stale_if_error=False``: a failed refresh drops the schema; calls fail until there is one."""
        async with client_of(server.url, backend, ttl=TTL, stale_if_error=False) as client:
            await client.query(HELLO)
            server.always(Answer.page(503), INTROSPECTION)
            hand.now += TTL + 1
            assert (await client.query(HELLO)).data == HELLO_DATA
            await dropped(client)
            before = asked(server)
            for _ in range(2):
                with pytest.raises(HTTPStatusError):
                    await client.query(HELLO)
            assert asked(server) == before + 2
            server.always(None, INTROSPECTION)
            assert (await client.query(HELLO)).data == HELLO_DATA
            assert client.stats().schema_age == 0
            with pytest.raises(GraphQLClientValidationException):
                await client.query(WRONG)

    async def test_is_counted(self, sdk: Sdk, server: ScriptedServer, backend: Backend, hand: Hand) -> None:
        """Successes and, with what happened, failures; of a joined introspection one."""
        async with client_of(server.url, backend, ttl=TTL) as client:
            await asyncio.gather(*(client.query(HELLO) for _ in range(5)))
            assert sdk.metric("schema.refreshes") == {frozenset(): 1}
            server.on(INTROSPECTION, Answer.page(503))
            hand.now += TTL + 1
            await client.query(HELLO)
            failure = frozenset({("error.type", "503")})
            await until(lambda: sdk.metric("schema.refreshes") == {frozenset(): 1, failure: 1})
            hand.now += 2
            await client.query(HELLO)
            await until(lambda: sdk.metric("schema.refreshes") == {frozenset(): 2, failure: 1})


class TestEnd:
    async def test_a_hanging_refresh_delays_nobody(
        self, server: ScriptedServer, expired: ProductionClient
    ) -> None:
        """It is cancelled as soon as the client drains, and is no call that the report counts."""
        server.always(Answer.hang(), INTROSPECTION)
        await expired.query(HELLO)
        await asked_so_often(server, 2)
        started = time.monotonic()
        report = await expired.shutdown()
        assert time.monotonic() - started < 2
        assert report.clean
        assert (report.requests_completed, report.requests_cancelled) == (0, 0)
        await server.abandoned(1, timeout=5)  # before any limit of reading

    async def test_while_a_call_is_still_under_way(
        self, server: ScriptedServer, expired: ProductionClient
    ) -> None:
        """The refresh goes, the call stays."""
        gate = asyncio.Event()
        server.always(Answer.hang(), INTROSPECTION)
        server.always(Answer(gate=gate), "Hello")
        call = asyncio.create_task(expired.query(HELLO))
        await server.received(4)
        closing = asyncio.create_task(expired.shutdown())
        await server.abandoned(1, timeout=5)  # before any limit of reading
        assert not call.done()
        gate.set()
        assert (await call).data == HELLO_DATA
        assert (await closing).clean

    async def test_calls_that_wait_are_finished(
        self, server: ScriptedServer, client: ProductionClient
    ) -> None:
        """A drain lets them have the schema that they wait for, and their answers."""
        gated = Gated(server)
        calls = [asyncio.create_task(client.query(HELLO)) for _ in range(3)]
        await gated.came()
        closing = asyncio.create_task(client.shutdown())
        await until(lambda: client.state == "draining")
        gated.go()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert (await closing).clean
        # Their queries were not begun when the drain was: they may be refused, but not hang or be cut.
        assert all(
            isinstance(each, ClientClosedError) or each.data == HELLO_DATA  # type: ignore[union-attr]
            for each in found
        )
        assert asked(server) == 1

    async def test_calls_that_wait_are_cut(self, server: ScriptedServer, client: ProductionClient) -> None:
        """At the deadline they see that the client was closed, each with an exception of its own."""
        gated = Gated(server)
        calls = [asyncio.create_task(client.query(HELLO)) for _ in range(3)]
        await gated.came()
        report = await client.shutdown(0)
        errors = [await failed(call) for call in calls]
        assert [type(error) for error in errors] == [ClientClosedError] * 3
        assert len({id(error) for error in errors}) == 3
        assert report.requests_cancelled == 3
        await server.abandoned(1, timeout=5)  # before any limit of reading

    async def test_nothing_begins_afterwards(self, server: ScriptedServer, expired: ProductionClient) -> None:
        """A closed client asks for nothing, however old its schema is."""
        await expired.close()
        for call in (
            lambda: expired.query(HELLO),
            lambda: expired.get_schema(refresh=True),
            lambda: expired.introspect(),
        ):
            with pytest.raises(ClientClosedError):
                await call()
        await a_few_rounds()
        assert asked(server) == 1


class TestLoops:
    async def test_one_after_another(self, server: ScriptedServer, backend: Backend) -> None:
        """``asyncio.run`` twice with one client: what is known stays known."""
        client = client_of(server.url, backend)

        async def use(*, last: bool = False) -> Any:
            answer = (await client.query(HELLO)).data
            with pytest.raises(GraphQLClientValidationException):
                await client.query(WRONG)
            if last:
                await client.close()
            return answer

        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        assert await asyncio.to_thread(asyncio.run, use()) == HELLO_DATA
        assert await asyncio.to_thread(asyncio.run, use(last=True)) == HELLO_DATA
        assert asked(server) == 1

    async def test_a_loop_that_ends_in_the_middle(self, server: ScriptedServer, backend: Backend) -> None:
        """What was under way on it is gone with it, and holds up nobody on the next."""
        client = client_of(server.url, backend)
        server.on(INTROSPECTION, Answer.hang())
        arrived = threading.Event()

        async def leave() -> None:
            call = asyncio.create_task(client.query(HELLO))
            await asyncio.to_thread(arrived.wait, 10)
            assert not call.done()  # and asyncio.run() cancels it

        first = asyncio.create_task(asyncio.to_thread(asyncio.run, leave()))
        await asked_so_often(server, 1)
        arrived.set()
        await first
        assert (await client.query(HELLO)).data == HELLO_DATA
        await client.close()
        assert asked(server) == 2

    async def test_a_loop_that_ends_during_a_refresh(
        self, server: ScriptedServer, backend: Backend, hand: Hand
    ) -> None:
        """The next loop begins another."""
        client = client_of(server.url, backend, ttl=TTL)
        await client.query(HELLO)
        server.on(INTROSPECTION, Answer.hang())
        hand.now += TTL + 1
        arrived = threading.Event()

        async def leave() -> None:
            await client.query(HELLO)
            await asyncio.to_thread(arrived.wait, 10)

        first = asyncio.create_task(asyncio.to_thread(asyncio.run, leave()))
        await asked_so_often(server, 2)
        arrived.set()
        await first
        hand.now += 100
        await client.query(HELLO)
        await renewed(client)
        await client.close()
        assert asked(server) == 3

    async def test_at_the_same_time(self, server: ScriptedServer, backend: Backend) -> None:
        """Two threads with a loop each: an introspection each at most, and answers for both."""
        client = client_of(server.url, backend)
        gated = Gated(server)

        async def use() -> list[Any]:
            calls = [client.query(HELLO) for _ in range(5)]
            return [each.data for each in await asyncio.gather(*calls)]

        elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, use()))
        here = asyncio.create_task(use())
        await gated.came(2)
        await server.until(lambda: len(server.requests) >= 2)
        gated.go()
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        assert await here == await elsewhere == [HELLO_DATA] * 5
        assert asked(server) == 2
        await client.close()
        assert asked(server) == 2
