"""What is counted; who joins a shutdown; what new work is refused; the report."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import math
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLRequest, GraphQLResponse, GraphQLTransport
from shutting_down import HELLO, NOTHING, PATIENT, PHASES, counts_of, outcome_of
from subscribing import COUNT, EndlessWaits, client_of, until

from graphql_prod import (
    ClientClosedError,
    ConfigurationError,
    HTTPStatusError,
    ProductionClient,
    ShutdownReport,
    clock,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def draining(client: ProductionClient) -> None:
    """Wait until a shutdown has begun; where a test holds it up it drains."""
    await until(lambda: client.state != "open")


class TestCounting:
    async def test_a_call_that_its_own_caller_cancels_counts_nowhere(
        self, server: ScriptedServer, client: ProductionClient
    ) -> None:
        """Neither answered nor cut by us."""
        server.always(Answer(gate=(gate := asyncio.Event())))
        calls = [asyncio.create_task(client.query("{ hello }")) for _ in range(3)]
        await server.received(3)
        ending = asyncio.create_task(client.shutdown())
        await draining(client)
        calls[0].cancel()
        await asyncio.wait({calls[0]})
        gate.set()
        report = await asyncio.wait_for(ending, 10)
        assert counts_of(report) == NOTHING | {"requests_completed": 2}
        assert report.clean

    async def test_a_call_that_swallows_the_cut_is_counted_as_cut(self) -> None:
        """Its end is not waited for, and nobody is told that it came to one."""
        begun, over = asyncio.Event(), asyncio.Event()

        class Deaf(GraphQLTransport):
            async def request(self, *_: Any, **__: Any) -> GraphQLResponse:
                begun.set()
                while not over.is_set():
                    with contextlib.suppress(asyncio.CancelledError):
                        await over.wait()
                raise OSError

            async def close(self) -> None: ...

        async with client_of("http://h.example/graphql", objects={"transport": Deaf()}) as client:
            call = asyncio.create_task(client.query("{ hello }"))
            await begun.wait()
            try:
                report = await asyncio.wait_for(client.shutdown(0), 10)
                left_behind = not call.done()
            finally:
                over.set()
            assert await outcome_of(call) is OSError
            assert (left_behind, client.state) == (True, "closed")
            assert counts_of(report) == NOTHING | {"requests_cancelled": 1}


class TestJoining:
    @pytest.mark.parametrize(
        ("first", "then"),
        [(20, 0.05), (20, 0), (20, -20), (None, 0), (0.1, 20), (0.1, None), (0.1, math.inf)],
    )
    async def test_the_nearest_deadline_counts(
        self, server: ScriptedServer, first: float | None, then: float | None
    ) -> None:
        """A second word shortens and never lengthens; less than nothing is nothing. No limit is one too."""
        server.always(Answer.hang())
        async with client_of(server.url, settings={"shutdown": {"deadline": None}}) as client:
            call = asyncio.create_task(client.query("{ hello }"))
            await server.received(1)
            ending = asyncio.create_task(client.shutdown(first))
            await draining(client)
            report = await asyncio.wait_for(client.with_options(timeout=1).shutdown(then), 10)
            assert await ending is report
            assert counts_of(report) == NOTHING | {"requests_cancelled": 1}
            assert await outcome_of(call) is ClientClosedError

    async def test_after_the_end_the_report_stays(self, client: ProductionClient) -> None:
        """Whoever asks again, in whatever way, gets the one that there is; nothing runs again."""
        ran: list[str] = []
        client.on_shutdown(lambda: ran.append("before"))
        report = await client.shutdown()
        await client.close()
        assert await client.shutdown(0) is await client.with_options(timeout=1).shutdown() is report
        assert ran == ["before"]

    @pytest.mark.parametrize("deadline", [math.nan, True, "5", 1j], ids=repr)
    async def test_a_deadline_is_a_number(self, client: ProductionClient, deadline: Any) -> None:
        """What is none is refused before anything ends."""
        with pytest.raises(ConfigurationError, match="deadline must be a number of seconds"):
            await client.shutdown(deadline)
        assert client.state == "open"

    @pytest.mark.parametrize("place", ["call", "callback", "stream", "hook"])
    async def test_from_the_inside(self, server: ScriptedServer, place: str) -> None:
        """Whoever asks is not waited for, gets the report all the same, and spoils nothing in it."""
        server.tick = 1e6
        reports: list[ShutdownReport] = []

        async def ask(*_: object) -> None:
            reports.append(await asked.shutdown(20))

        class Asking(GraphQLTransport):
            async def request(
                self, method: str, request: GraphQLRequest, *_: Any, **__: Any
            ) -> GraphQLResponse:
                await ask()
                return GraphQLResponse(request=request, json={"data": HELLO})

            async def close(self) -> None: ...

        objects = {"transport": Asking()} if place == "call" else {}
        async with client_of(server.url, objects=objects) as asked, asyncio.timeout(10):
            if place == "call":
                assert (await asked.query("{ hello }")).data == HELLO
            elif place == "callback":
                await asked.subscribe(COUNT, on_data=ask)
            elif place == "stream":
                async for _ in asked.stream(COUNT):
                    await ask()
            else:
                asked.on_shutdown(ask)
                await asked.shutdown()
            await until(lambda: reports)
            assert reports == [await asked.shutdown()]
            drained = place in ("callback", "stream")
            assert counts_of(reports[0]) == NOTHING | {"subscriptions_drained": int(drained)}
            assert reports[0].clean
            assert reports[0].duration < 5

    @pytest.mark.parametrize("first", ["here", "there"])
    async def test_from_another_loop(
        self, server: ScriptedServer, client: ProductionClient, first: str
    ) -> None:
        """A thread with a loop of its own joins, or begins, as anybody does."""
        server.script(Answer(gate=(gate := asyncio.Event())))
        call = asyncio.create_task(client.query("{ hello }"))
        await server.received(1)
        askers: list[Callable[[], Awaitable[ShutdownReport]]] = [
            client.shutdown,
            lambda: asyncio.to_thread(asyncio.run, client.shutdown()),
        ]
        begins, joins = askers if first == "here" else reversed(askers)
        async with asyncio.timeout(10):
            ending = asyncio.ensure_future(begins())
            await draining(client)
            joining = asyncio.ensure_future(joins())
            gate.set()
            report = await ending
            assert await joining is report
        assert await outcome_of(call) == HELLO
        assert counts_of(report) == NOTHING | {"requests_completed": 1}
        assert await client.shutdown() is report


class TestNewWork:
    async def test_refused_while_draining(self, server: ScriptedServer, client: ProductionClient) -> None:
        """Every kind of it, at once, before anything is sent; and nobody sends us new requests either."""
        server.script(Answer(gate=(gate := asyncio.Event())))
        call = asyncio.create_task(client.query("{ hello }"))
        await server.received(1)
        ending = asyncio.create_task(client.shutdown())
        await draining(client)
        attempts: list[Callable[[], Awaitable[object]]] = [
            lambda: client.query("{ hello }"),
            lambda: client.with_options(timeout=5).query("mutation { increment }"),
            lambda: client.introspect(),
            lambda: client.subscribe(COUNT),
            lambda: anext(client.stream(COUNT)),
            lambda: client.__aenter__(),
        ]
        for attempt in attempts:
            with pytest.raises(ClientClosedError, match="is draining and takes no new calls"):
                await asyncio.wait_for(attempt(), 5)
        ready = await client.ready()
        assert (ready.ok, ready.latency, client.alive()) == (False, None, True)
        assert "draining" in str(ready.reason)
        gate.set()
        assert counts_of(await ending) == NOTHING | {"requests_completed": 1}
        assert await outcome_of(call) == HELLO
        assert (len(server.requests), server.upgrades) == (1, [])

    async def test_a_probe_under_way_is_told_and_does_not_count(
        self, server: ScriptedServer, client: ProductionClient
    ) -> None:
        """Nobody waits for the answer to a question that has become pointless."""
        server.always(Answer.hang())
        probe = asyncio.create_task(client.ready(20))
        await server.received(1)
        report = await asyncio.wait_for(client.shutdown(20), 10)
        assert not await asyncio.wait_for(probe, 10)
        assert counts_of(report) == NOTHING
        assert report.clean

    @pytest.mark.parametrize("place", ["hook", "callback", "stream"])
    @pytest.mark.parametrize("by", ["itself", "a task of its own"])
    async def test_accepted_from_what_is_being_finished(
        self, server: ScriptedServer, client: ProductionClient, place: str, by: str
    ) -> None:
        """What must be sent to finish is sent, and counted; once that is over it is new work again."""
        server.tick = 1e6
        go, left_behind = asyncio.Event(), asyncio.Event()
        answers: list[object] = []
        late: list[asyncio.Task[Any]] = []

        async def send(gate: asyncio.Event) -> object:
            await gate.wait()
            return (await client.with_options(timeout=5).query("{ hello }")).data

        async def body(*_: object) -> None:
            late.append(asyncio.create_task(send(left_behind)))
            answers.append(await (send(go) if by == "itself" else asyncio.create_task(send(go))))

        async def consume() -> None:
            async for _ in client.stream(COUNT):
                await body()

        consumer: asyncio.Task[None] | None = None
        if place == "hook":
            client.on_shutdown(body)
            client.on_shutdown(left_behind.set)
            client.on_shutdown(lambda: asyncio.wait(late))
        elif place == "callback":
            await client.subscribe(COUNT, on_data=body)
        else:
            consumer = asyncio.create_task(consume())
        if place != "hook":
            await until(lambda: late)
        ending = asyncio.create_task(client.shutdown(20))
        await until(lambda: late and client.state == "draining")
        with pytest.raises(ClientClosedError):
            await client.query("{ hello }")
        go.set()
        report = await asyncio.wait_for(ending, 10)
        left_behind.set()
        assert answers == [HELLO]
        assert await outcome_of(late[0]) is ClientClosedError
        assert consumer is None or await outcome_of(consumer) is None
        drained = int(place != "hook")
        assert counts_of(report) == NOTHING | {"requests_completed": 1, "subscriptions_drained": drained}
        assert report.clean
        assert len(server.requests) == 1

    @pytest.mark.parametrize("place", ["callback", "before", "after"])
    async def test_refused_to_everybody_once_it_is_closing(
        self, server: ScriptedServer, client: ProductionClient, place: str
    ) -> None:
        """At the cut, to those whose time is up; and when the session is closed, to hooks."""
        server.tick = 1e6
        outcomes: list[str] = []
        began = asyncio.Event()

        async def body(*_: object) -> None:
            began.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait() if place != "after" else None
            with pytest.raises(ClientClosedError):
                await client.query("{ hello }")
            outcomes.append(client.state)

        if place == "callback":
            await client.subscribe(COUNT, on_data=body)
            await began.wait()
        elif place == "before":
            client.on_shutdown(body)
        else:
            client.on_shutdown(body, phase="after")
        report = await asyncio.wait_for(client.shutdown(0.05), 10)
        assert outcomes == ["draining" if place == "before" else "closing"]
        assert report.clean == (place == "after")
        assert server.requests == []

    async def test_retries_go_on_until_hooks_are_through(self, server: ScriptedServer) -> None:
        """A hook may wait for calls that are under way; they have not lost their attempts yet."""
        server.script(Answer.page(503))
        with clock.using(waits := EndlessWaits()):
            async with client_of(server.url, settings=PATIENT) as client:
                call = asyncio.create_task(client.query("{ hello }"))
                await until(lambda: waits.waits)

                async def hook() -> None:
                    for _ in range(20):
                        await asyncio.sleep(0)
                    assert not call.done()

                client.on_shutdown(hook)
                assert (await asyncio.wait_for(client.shutdown(), 10)).clean
                assert await outcome_of(call) is HTTPStatusError


class TestReport:
    @pytest.mark.parametrize("clean", [True, False])
    async def test_the_log_tells_the_way_and_the_end(
        self, server: ScriptedServer, client: ProductionClient, caplog: pytest.LogCaptureFixture, clean: bool
    ) -> None:
        """A line as it begins, one a phase, and the report with its facts: a warning if it was not clean."""
        server.script(Answer(gate=(gate := asyncio.Event())))
        call = asyncio.create_task(client.query("{ hello }"))
        await server.received(1)
        caplog.set_level(logging.INFO, "graphql_prod")
        client.on_shutdown(gate.set if clean else lambda: None)
        report = await client.shutdown(20 if clean else 0.05)
        assert await outcome_of(call) == (HELLO if clean else ClientClosedError)
        records = [each for each in caplog.records if each.getMessage().startswith("shutdown of ")]
        host = f"127.0.0.1:{server.port}"
        begins, *phases, last = [each.getMessage().removeprefix(f"shutdown of {host}") for each in records]
        assert begins == ": begins (calls: 1, subscriptions: 0)"
        assert [each.split()[1] for each in phases] == PHASES
        assert last == str(report).removeprefix(f"shutdown of {host}")
        facts = {"host", "clean", "duration", "hooks_failed", *NOTHING}
        assert {name: vars(records[-1])["graphql_prod"][name] for name in facts} == {
            name: getattr(report, name) for name in facts
        }
        levels = [each.levelno for each in records]
        assert levels == [logging.INFO] * 6 + [logging.INFO if clean else logging.WARNING]

    async def test_one_line_that_does_not_change(
        self, server: ScriptedServer, client: ProductionClient
    ) -> None:
        """The numbers of the report are in its line; nobody rewrites either."""
        server.always(Answer(delay=0.1))
        call = asyncio.create_task(client.query("{ hello }"))
        await server.received(1)
        client.on_shutdown(lambda: asyncio.sleep(0.1))
        report = await client.shutdown(20)
        assert await outcome_of(call) == HELLO
        line = str(report)
        assert "\n" not in line
        for text in (report.host, "clean in 0.", "1 completed, 0 cancelled", "0 drained", "before 0.1"):
            assert text in line
        with pytest.raises(dataclasses.FrozenInstanceError):
            report.duration = 0  # type: ignore[misc]
        assert report.phases["before"] >= 0.09
        assert 0 <= report.duration - sum(report.phases.values()) < 0.1
        assert dataclasses.asdict(report)["phases"] == report.phases
