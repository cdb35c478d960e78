"""One flight to the schema for all who wait, and its failures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from flying import Gated, failed
from graphql import GraphQLSchema
from schema_world import (
    ADD,
    HELLO,
    HELLO_DATA,
    INTROSPECTION,
    Hand,
    a_few_rounds,
    asked,
    asked_so_often,
    client_of,
    requested,
)
from subscribing import COUNT, EndlessWaits, until
from telemetry_sdk import sdk_fixture  # noqa: F401 -- the fixture

from graphql_prod import (
    HTTPStatusError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    SchemaPolicy,
    clock,
)
from graphql_prod.testing import Answer, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from schema_world import Backend

STRICT = SchemaPolicy(mode="strict")


class TestOneFlight:
    async def test_a_thousand_first_calls(self, server: ScriptedServer, client: ProductionClient) -> None:
        """F7: one introspection, whoever they are."""
        gated = Gated(server)
        view = client.with_options(timeout=20)
        calls: list[asyncio.Task[Any]] = [
            *(asyncio.create_task(caller.query(HELLO)) for caller in [client, view] * 50),
            *(asyncio.create_task(client.validate(requested(HELLO))) for _ in range(880)),
            *(asyncio.create_task(client.get_schema()) for _ in range(20)),
        ]
        await gated.came()
        gated.go()
        found = await asyncio.gather(*calls)
        assert [each.data for each in found[:100]] == [HELLO_DATA] * 100
        assert len({id(each) for each in found[-20:]}) == 1
        assert (asked(server), server.executions["hello"]) == (1, 100)

    @pytest.mark.parametrize("end", ["cancel", "total", "deadline"])
    async def test_a_first_caller_that_leaves(
        self, server: ScriptedServer, client: ProductionClient, end: str
    ) -> None:
        """Given up or out of time, it takes nobody with it; its own limits end nothing but its own call."""
        gated = Gated(server)
        view = client.with_options(timeout=0.5) if end == "total" else client
        first = asyncio.create_task(_within(0.5, view) if end == "deadline" else view.query(HELLO))
        others = [asyncio.create_task(client.query(HELLO)) for _ in range(5)]
        await gated.came()
        if end == "cancel":
            first.cancel()
        await asyncio.wait({first}, timeout=10)
        if end == "cancel":
            assert first.cancelled()
        else:
            assert type(first.exception()) is (RequestTimeoutError if end == "total" else TimeoutError)
            await asyncio.sleep(0.6)  # longer than its limits of any kind, reading among them
        assert not any(other.done() for other in others)
        gated.go()
        assert [each.data for each in await asyncio.gather(*others)] == [HELLO_DATA] * 5
        assert asked(server) == 1

    async def test_all_of_them_leave(self, server: ScriptedServer, client: ProductionClient) -> None:
        """Nobody waits any more: the introspection is given up, and the next call begins another."""
        gated = Gated(server)
        calls = [asyncio.create_task(client.query(HELLO)) for _ in range(5)]
        await gated.came()
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await server.abandoned(1, timeout=5)  # before any limit of reading
        gated.go()
        assert (await client.query(HELLO)).data == HELLO_DATA
        assert asked(server) == 2

    async def test_one_that_comes_as_the_last_leaves(
        self, server: ScriptedServer, client: ProductionClient
    ) -> None:
        """Is served, by whichever introspection."""
        for _ in range(20):
            before = asked(server)
            first = asyncio.create_task(client.get_schema(refresh=True))
            await asked_so_often(server, before + 1)
            first.cancel()
            assert isinstance(await client.get_schema(refresh=True), GraphQLSchema)
            await asyncio.wait({first})

    async def test_deadlines(self, server: ScriptedServer, client: ProductionClient) -> None:
        """Each who waits has its own; the total covers the wait."""
        gated = Gated(server)
        first = asyncio.create_task(client.query(HELLO))
        await gated.came()
        hasty = [asyncio.create_task(client.with_options(timeout=0.2).query(HELLO)) for _ in range(2)]
        for call in hasty:
            error = await failed(call)
            assert isinstance(error, RequestTimeoutError)
            assert error.phase == "total"
            assert 0.2 <= error.elapsed < 5
        assert not first.done()
        gated.go()
        assert (await first).data == HELLO_DATA
        assert asked(server) == 1

    @pytest.mark.parametrize("what", ["query", "mutation", "get_schema", "validate", "force", "subscribe"])
    async def test_the_total(self, server: ScriptedServer, backend: Backend, what: str) -> None:
        """Holds for whatever waits for a schema."""
        server.always(Answer.hang(), INTROSPECTION)
        async with client_of(server.url, backend) as client:
            view = client.with_options(timeout=0.1)
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "query": lambda: view.query(HELLO),
                "mutation": lambda: view.query(ADD),
                "get_schema": lambda: view.get_schema(),
                "validate": lambda: view.validate(requested(HELLO)),
                "force": lambda: view.validate(requested(HELLO), force=True),
                "subscribe": lambda: view.subscribe(COUNT),
            }
            with pytest.raises(RequestTimeoutError) as caught:
                await calls[what]()
            assert caught.value.phase == "total"
            assert caught.value.may_have_executed is False
            await server.abandoned(1, timeout=5)  # before any limit of reading

    @pytest.mark.parametrize(("document", "mutation"), [(HELLO, False), (ADD, True)])
    async def test_what_a_timeout_says(
        self, server: ScriptedServer, client: ProductionClient, document: str, mutation: bool
    ) -> None:
        """Of a mutation that waited for a schema, and of nothing else, that the mutation was not sent."""
        server.always(Answer.hang(), INTROSPECTION)
        with pytest.raises(RequestTimeoutError) as caught:
            await client.with_options(timeout=0.1).query(document)
        assert ("The mutation was not sent" in str(caught.value)) is mutation

    async def test_headers(self, server: ScriptedServer, backend: Backend) -> None:
        """Those of the first caller: the call's over the request's over the view's over the client's."""
        async with client_of(server.url, backend, objects={"headers": {"X-A": "c", "X-B": "c"}}) as client:
            view = client.with_options(headers={"X-B": "view", "X-C": "view"})
            request = requested(HELLO, headers={"X-C": "request", "X-D": "request"})
            gated = Gated(server)
            first = asyncio.create_task(view.query(request, headers={"X-D": "call"}))
            await gated.came()
            second = asyncio.create_task(client.query(HELLO, headers={"X-A": "second"}))
            await a_few_rounds()
            gated.go()
            await asyncio.gather(first, second)
        seen = server.requests[0].headers
        assert [seen[name] for name in ("X-A", "X-B", "X-C", "X-D")] == ["c", "view", "request", "call"]
        assert asked(server) == 1

    async def test_refreshes_join(self, server: ScriptedServer, client: ProductionClient) -> None:
        """``get_schema(refresh=True)`` joins an introspection that is under way."""
        known = await client.get_schema()
        gated = Gated(server)
        calls = [asyncio.create_task(client.get_schema(refresh=True)) for _ in range(3)]
        await gated.came(2)
        assert await client.get_schema() is known
        assert (await client.query(HELLO)).data == HELLO_DATA
        gated.go()
        found = await asyncio.gather(*calls)
        assert len({id(each) for each in found}) == 1
        assert found[0] is not known
        assert asked(server) == 2


async def _within(seconds: float, client: ProductionClient) -> Any:
    async with asyncio.timeout(seconds):
        return await client.query(HELLO)


class TestFailures:
    async def test_shared_and_forgotten(self, server: ScriptedServer, client: ProductionClient) -> None:
        """All who wait get it, each an exception of its own; the next call begins anew."""
        gate = asyncio.Event()
        server.on(INTROSPECTION, Answer.page(503, gate=gate))
        calls = [asyncio.create_task(client.query(HELLO)) for _ in range(50)]
        await server.received(1)
        await a_few_rounds()
        gate.set()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(error, HTTPStatusError) and error.status == 503 for error in errors)
        assert len({id(error) for error in errors}) == 50
        assert asked(server) == 1
        assert (await client.query(HELLO)).data == HELLO_DATA
        assert asked(server) == 2

    async def test_facts(self, server: ScriptedServer, backend: Backend, hand: Hand) -> None:
        """Each has its own time on it, the attempts, and that a mutation was not sent."""
        gate = asyncio.Event()
        server.on(INTROSPECTION, Answer.page(503), Answer.page(502, gate=gate))
        config = ProductionConfig(retry=RetryPolicy(attempts=2, jitter="none"), schema=STRICT)
        async with ProductionClient(server.url, backend=backend, config=config) as client:
            first = asyncio.create_task(client.query(HELLO))
            await server.received(2)
            hand.now += 5
            second = asyncio.create_task(client.query(ADD))
            await a_few_rounds()
            hand.now += 2
            gate.set()
            errors = [await failed(first), await failed(second)]
        facts = [(e.status, e.attempts, e.may_have_executed) for e in errors]  # type: ignore[attr-defined]
        assert facts == [(502, 2, False)] * 2
        assert [error.elapsed for error in errors] == [7, 2]  # type: ignore[attr-defined]

    async def test_notes_and_traces(self, server: ScriptedServer, client: ProductionClient) -> None:
        """What one of them does to its exception nobody else sees."""
        gate = asyncio.Event()
        server.on(INTROSPECTION, Answer.page(503, gate=gate))
        calls = [asyncio.create_task(client.query(HELLO)) for _ in range(2)]
        await server.received(1)
        await a_few_rounds()
        gate.set()
        first, second = [await failed(call) for call in calls]
        first.add_note("mine")
        assert "mine" not in getattr(second, "__notes__", [])
        assert first.__traceback__ is not second.__traceback__
        assert type(first.__cause__) is type(second.__cause__)

    async def test_retried(self, server: ScriptedServer, backend: Backend) -> None:
        """By the client's policy: what is over after an attempt or two nobody hears of."""
        server.on(INTROSPECTION, Answer.page(503), Answer.disconnect())
        with no_waiting():
            async with ProductionClient(server.url, backend=backend) as client:
                calls = [client.query(HELLO) for _ in range(5)]
                assert [each.data for each in await asyncio.gather(*calls)] == [HELLO_DATA] * 5
        assert asked(server) == 3

    @pytest.mark.parametrize("first", ["view", "client"])
    async def test_settings(self, server: ScriptedServer, backend: Backend, first: str) -> None:
        """The client's say how often it is tried, whoever comes first: others may join."""
        gate = asyncio.Event()
        server.always(Answer.page(503, gate=gate), INTROSPECTION)
        with no_waiting():
            async with ProductionClient(
                server.url,
                backend=backend,
                config=ProductionConfig(retry=RetryPolicy(attempts=3), schema=STRICT),
            ) as client:
                view = client.with_options(retry=RetryPolicy(attempts=1))
                callers = [view, client] if first == "view" else [client, view]
                calls = [asyncio.create_task(callers[0].query(HELLO))]
                await asked_so_often(server, 1)
                calls.append(asyncio.create_task(callers[1].query(HELLO)))
                await a_few_rounds()
                gate.set()
                errors = [await failed(call) for call in calls]
        assert [type(error) for error in errors] == [HTTPStatusError] * 2
        assert asked(server) == 3

    @pytest.mark.parametrize("comes", ["before", "during"])
    async def test_a_wait_that_is_too_long_for_one(
        self, server: ScriptedServer, backend: Backend, comes: str
    ) -> None:
        """Who has no time for the wait before the next attempt gets the last failure; others wait on."""
        gate = asyncio.Event()
        server.on(INTROSPECTION, Answer.page(503, headers={"Retry-After": "20"}, gate=gate))
        with clock.using(waits := EndlessWaits()):
            async with ProductionClient(server.url, backend=backend) as client:
                patient = asyncio.create_task(client.with_options(timeout=60).query(HELLO))
                await asked_so_often(server, 1)
                await a_few_rounds()
                try:
                    if comes == "during":
                        gate.set()
                        await until(lambda: waits.waits)
                    call = asyncio.create_task(client.with_options(timeout=1).query(HELLO))
                    await a_few_rounds()
                    gate.set()
                    error = await failed(call)
                    assert isinstance(error, HTTPStatusError)
                    assert error.status == 503
                    assert not patient.done()
                    assert waits.waits == [20]
                finally:
                    patient.cancel()
                    await asyncio.wait({patient})
        assert asked(server) == 1
