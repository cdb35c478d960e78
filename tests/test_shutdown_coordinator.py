"""Several clients that end together: in order, under one deadline, none at the cost of another."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiographql.client import GraphQLResponse, GraphQLTransport
from subscribing import COUNT, until

from graphql_prod import (
    ClientClosedError,
    ConfigurationError,
    ProductionClient,
    ShutdownCoordinator,
    ShutdownReport,
)
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable

HELLO = {"hello": "Hello, world!"}
DEAD_END = "http://h.example/graphql"


async def ended(coordinator: ShutdownCoordinator, deadline: float | None = None) -> ShutdownReport:
    """Shut down; it must not hang."""
    return await asyncio.wait_for(coordinator.shutdown(deadline), 10)


def members(coordinator: ShutdownCoordinator, url: str, n: int) -> list[ProductionClient]:
    """Clients of one server, in the order of their registration."""
    return [coordinator.register(ProductionClient(url, validate=False)) for _ in range(n)]


class Broken(GraphQLTransport):
    """A transport of the caller's whose end fails."""

    async def request(self, *_: Any, **__: Any) -> GraphQLResponse:
        raise NotImplementedError

    async def close(self) -> None:
        raise LookupError("it does not close")


class Hanging(Broken):
    async def close(self) -> None:
        await asyncio.Event().wait()


class Unwilling(ProductionClient):
    """A client whose own idea of the end fails."""

    async def shutdown(self, deadline: float | None = None) -> ShutdownReport:
        raise LookupError("it does not end")


class TestOrder:
    async def test_all_drain_at_once_and_close_from_the_last_to_the_first(
        self, server: ScriptedServer
    ) -> None:
        """Hooks around all of it, in order; nobody closes while a client registered later still works."""
        server.always(Answer(gate=(gate := asyncio.Event())))
        coordinator = ShutdownCoordinator()
        clients = members(coordinator, server.url, 3)
        said: list[str] = []

        def note(name: str) -> Callable[[], None]:
            return lambda: said.append(f"{name}: {' '.join(each.state for each in clients)}")

        @coordinator.on_shutdown
        async def before() -> None:
            await asyncio.sleep(0)
            note("before")()

        @coordinator.on_shutdown(phase="after")
        def after() -> None:
            note("after")()

        coordinator.on_shutdown(note("later"))
        coordinator.on_shutdown(note("last"), phase="after")
        for number, client in enumerate(clients):
            client.on_shutdown(note(f"closed {number}"), phase="after")
        busy = asyncio.create_task(clients[-1].query("{ hello }"))
        await server.received(1)
        ending = asyncio.create_task(coordinator.shutdown())
        await until(lambda: [each.state for each in clients] == ["closing", "closing", "draining"])
        assert said == ["before: draining draining draining", "later: draining draining draining"]
        gate.set()
        report = await asyncio.wait_for(ending, 10)
        assert (await busy).data == HELLO
        assert said[2:] == [
            "closed 2: closing closing closing",
            "closed 1: closing closing closed",
            "closed 0: closing closed closed",
            "after: closed closed closed",
            "last: closed closed closed",
        ]
        assert report.clean

    async def test_one_deadline_for_all(self, server: ScriptedServer) -> None:
        """That of the coordinator, whatever those of the clients are, and the time of its hooks included."""
        server.always(Answer.hang())
        coordinator = ShutdownCoordinator(deadline=0.15)
        clients = members(coordinator, server.url, 3)
        coordinator.on_shutdown(lambda: asyncio.sleep(0.1))
        calls = [asyncio.create_task(each.query("{ hello }")) for each in clients]
        await server.received(3)
        report = await ended(coordinator)
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in errors] == [ClientClosedError] * 3
        assert (report.requests_cancelled, report.clean) == (3, False)
        assert 0.13 < report.duration < 5

    async def test_the_report_is_summed_up(self, server: ScriptedServer) -> None:
        """Counts of all, names of all, of each phase the longest."""
        server.tick = 1e6
        server.always(Answer(gate=(gate := asyncio.Event())))
        coordinator = ShutdownCoordinator()
        clients = members(coordinator, server.url, 3)
        clients.append(coordinator.register(ProductionClient("http://other.example/graphql")))

        def failing() -> None:
            raise LookupError

        clients[0].on_shutdown(failing)
        coordinator.on_shutdown(failing, phase="after")
        for client in clients[:2]:
            await client.subscribe(COUNT)
        for client in clients:
            client.on_shutdown(lambda: asyncio.sleep(0.1))
        calls = [asyncio.create_task(each.query("{ hello }")) for each in clients[:3]]
        await server.received(3)
        ending = asyncio.create_task(coordinator.shutdown(20))
        await until(lambda: all(each.state != "open" for each in clients))
        gate.set()
        report = await asyncio.wait_for(ending, 10)
        assert [(await call).data for call in calls] == [HELLO] * 3
        assert report.host == f"127.0.0.1:{server.port}, other.example"
        assert (report.requests_completed, report.requests_cancelled) == (3, 0)
        assert (report.subscriptions_drained, report.subscriptions_cancelled) == (2, 0)
        assert (report.hooks_failed, report.errors) == (("failing", "failing"), ())
        assert list(report.phases) == ["before", "subscriptions", "requests", "close", "after"]
        assert 0.09 < report.phases["before"] < 0.35
        assert "\n" not in str(report)


class TestFailing:
    @pytest.mark.parametrize("place", [0, 1, 2])
    @pytest.mark.parametrize("kind", ["client", "transport"])
    async def test_a_member_does_not_stop_the_others(
        self, server: ScriptedServer, caplog: pytest.LogCaptureFixture, kind: str, place: int
    ) -> None:
        """They finish and close; the report and the log say what went wrong."""
        coordinator = ShutdownCoordinator()
        broken = Unwilling(DEAD_END) if kind == "client" else ProductionClient(DEAD_END, transport=Broken())
        clients = [ProductionClient(server.url, validate=False) for _ in range(2)]
        clients.insert(place, broken)
        ran: list[str] = []
        for client in clients:
            coordinator.register(client)
            if client is not broken:
                await client.query("{ hello }")
        coordinator.on_shutdown(lambda: ran.append("after"), phase="after")
        report = await ended(coordinator)
        others = [each for each in clients if each is not broken]
        assert [each.state for each in others] == ["closed", "closed"]
        assert (ran, report.clean, len(report.errors)) == (["after"], False, 1)
        assert "LookupError" in report.errors[0]
        [record] = [each for each in caplog.records if each.levelname == "ERROR"]
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], LookupError)
        if kind == "client":
            await ProductionClient.shutdown(broken)
        assert broken.state == "closed"

    async def test_a_transport_that_does_not_close_is_given_up(self, server: ScriptedServer) -> None:
        """The others wait for it as long as there is time, and then no longer."""
        coordinator = ShutdownCoordinator(deadline=0)
        [early] = members(coordinator, server.url, 1)
        await early.query("{ hello }")
        hanging = coordinator.register(ProductionClient(DEAD_END, transport=Hanging()))
        report = await ended(coordinator)
        assert (early.state, hanging.state) == ("closed", "closed")
        assert report.errors == ("closing the session or a transport took too long and was given up",)


class TestRegistering:
    async def test_a_client_counts_once(self, server: ScriptedServer) -> None:
        """Again, and its views, are the same; what was given comes back."""
        coordinator = ShutdownCoordinator()
        [client] = members(coordinator, server.url, 1)
        view = client.with_options(timeout=5)
        assert coordinator.register(client) is client
        assert coordinator.register(view) is view
        await client.query("{ hello }")
        server.script(Answer(gate=(gate := asyncio.Event())))
        call = asyncio.create_task(view.query("{ hello }"))
        await server.received(2)
        ending = asyncio.create_task(coordinator.shutdown())
        await until(lambda: client.state == "draining")
        gate.set()
        report = await asyncio.wait_for(ending, 10)
        assert (await call).data == HELLO
        assert (report.requests_completed, client.state) == (1, "closed")

    @pytest.mark.parametrize("thing", [None, "client", ProductionClient, aiohttp.ClientTimeout()])
    async def test_something_else_is_refused(self, thing: Any) -> None:
        """When it is registered, not when the program ends."""
        with pytest.raises(ConfigurationError, match="a ProductionClient can be registered, not"):
            ShutdownCoordinator().register(thing)

    async def test_too_late(self) -> None:
        """Once the shutdown has begun nobody would close it, and whoever comes late hears that."""
        coordinator = ShutdownCoordinator()
        late = ProductionClient(DEAD_END)
        refused: list[str] = []

        def register() -> None:
            with pytest.raises(ClientClosedError, match="takes no more clients; close <ProductionClient"):
                coordinator.register(late)
            with pytest.raises(ClientClosedError, match="comes too late"):
                coordinator.on_shutdown(print)
            refused.append(late.state)

        coordinator.on_shutdown(register)
        coordinator.on_shutdown(register, phase="after")
        assert (await ended(coordinator)).clean
        register()
        assert refused == ["open", "open", "open"]
        await late.close()

    async def test_a_member_that_was_closed_before_is_no_matter(self, server: ScriptedServer) -> None:
        """Its report was its own affair; one that is just ending is waited for."""
        server.always(Answer(gate=(gate := asyncio.Event())))
        coordinator = ShutdownCoordinator()
        closed, closing, hooked = members(coordinator, server.url, 3)
        await closed.shutdown()
        coordinator.on_shutdown(hooked.close)
        call = asyncio.create_task(closing.query("{ hello }"))
        await server.received(1)
        alone = asyncio.create_task(closing.shutdown())
        await until(lambda: closing.state == "draining")
        ending = asyncio.create_task(coordinator.shutdown())
        await until(lambda: hooked.state == "closed")
        gate.set()
        report = await asyncio.wait_for(ending, 10)
        assert (await call).data == HELLO
        assert (await alone).requests_completed == report.requests_completed == 1
        assert report.clean

    async def test_no_member_at_all(self) -> None:
        """A program that has no client yet ends too, hooks and all."""
        ran: list[str] = []
        coordinator = ShutdownCoordinator()
        coordinator.on_shutdown(lambda: ran.append("before"))
        coordinator.on_shutdown(lambda: ran.append("after"), phase="after")
        report = await ended(coordinator)
        assert (ran, report.clean) == (["before", "after"], True)
        assert "no client" in str(report)

    async def test_it_can_be_made_without_a_loop(self) -> None:
        """Where a program defines what it consists of, nothing runs yet; nor does the loop then matter."""

        def define() -> tuple[ShutdownCoordinator, ProductionClient]:
            coordinator = ShutdownCoordinator(deadline=None)
            return coordinator, coordinator.register(ProductionClient(DEAD_END))

        coordinator, client = await asyncio.to_thread(define)
        assert (await ended(coordinator)).clean
        assert client.state == "closed"

    @pytest.mark.parametrize("deadline", [float("nan"), True, "5"], ids=repr)
    async def test_a_deadline_is_a_number(self, deadline: Any) -> None:
        """What is none is refused at once, and begins nothing."""
        with pytest.raises(ConfigurationError, match="deadline must be a number of seconds"):
            ShutdownCoordinator(deadline)
        async with ShutdownCoordinator() as coordinator:
            with pytest.raises(ConfigurationError, match="deadline must be a number of seconds"):
                await coordinator.shutdown(deadline)
            await coordinator.register(ProductionClient(DEAD_END)).close()  # it still takes one


class TestJoining:
    @pytest.mark.parametrize(("first", "then"), [(20, 0), (20, 0.05), (0.1, 20), (None, -20)])
    async def test_the_nearest_deadline_counts(
        self, server: ScriptedServer, first: float | None, then: float
    ) -> None:
        """A second word shortens and never lengthens; everybody gets the same report, for ever."""
        server.always(Answer.hang())
        coordinator = ShutdownCoordinator()
        [client] = members(coordinator, server.url, 1)
        call = asyncio.create_task(client.query("{ hello }"))
        await server.received(1)
        waiting = asyncio.create_task(coordinator.wait())
        ending = asyncio.create_task(coordinator.shutdown(first))
        await until(lambda: client.state != "open")
        assert not waiting.done()
        report = await ended(coordinator, then)
        with pytest.raises(ClientClosedError):
            await call
        assert await ending is await waiting is report
        assert await coordinator.wait() is await ended(coordinator) is report
        assert report.requests_cancelled == 1

    async def test_a_shorter_deadline_reaches_its_hooks(self) -> None:
        """Before the clients have begun there is something to shorten already."""
        coordinator, began = ShutdownCoordinator(), asyncio.Event()
        [client] = members(coordinator, DEAD_END, 1)

        async def hanging() -> None:
            began.set()
            await asyncio.Event().wait()

        coordinator.on_shutdown(hanging)
        ending = asyncio.create_task(coordinator.shutdown())
        await asyncio.wait_for(began.wait(), 10)
        assert (await ended(coordinator, 0)).hooks_failed == ("hanging",)
        assert (await ending).hooks_failed == ("hanging",)
        assert client.state == "closed"

    async def test_cancelling_whoever_asks_or_waits_stops_nothing(self, server: ScriptedServer) -> None:
        """The end goes on without them, and lets calls finish all the same."""
        server.script(Answer(gate=(gate := asyncio.Event())))
        coordinator = ShutdownCoordinator()
        [client] = members(coordinator, server.url, 1)
        call = asyncio.create_task(client.query("{ hello }"))
        await server.received(1)
        tasks = [asyncio.create_task(each) for each in (coordinator.shutdown(), coordinator.wait())]
        await until(lambda: client.state == "draining")
        for task in tasks:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        gate.set()
        assert (await asyncio.wait_for(coordinator.wait(), 10)).requests_completed == 1
        assert (await call).data == HELLO

    @pytest.mark.parametrize("place", ["callback", "stream", "call", "member's hook", "own hook"])
    async def test_from_the_inside(self, server: ScriptedServer, place: str) -> None:
        """A message may be the reason for the whole program to stop: whoever asks is not waited for."""
        server.tick = 1e6
        coordinator = ShutdownCoordinator(deadline=2)
        reports: list[ShutdownReport] = []

        async def ask(*_: object) -> None:
            reports.append(await coordinator.shutdown())

        class Asking(Broken):
            async def request(self, method: str, request: Any, *_: Any, **__: Any) -> GraphQLResponse:
                await ask()
                return GraphQLResponse(request=request, json={"data": HELLO})

            async def close(self) -> None: ...

        transport = Asking() if place == "call" else None
        client = coordinator.register(ProductionClient(server.url, validate=False, transport=transport))
        async with asyncio.timeout(10):
            if place == "callback":
                await client.subscribe(COUNT, on_data=ask)
            elif place == "stream":
                async for _ in client.stream(COUNT):
                    await ask()
            elif place == "call":
                with contextlib.suppress(ClientClosedError):
                    await client.query("{ hello }")
            elif place == "member's hook":
                client.on_shutdown(ask)
                await client.shutdown()
            else:
                coordinator.on_shutdown(ask)
                await coordinator.shutdown()
            report = await coordinator.wait()
            await until(lambda: reports)
        assert reports == [report]
        assert report.clean
        assert report.duration < 1.5


class TestLeaving:
    async def test_normally_it_waits_for_calls(self, server: ScriptedServer) -> None:
        """Leaving shuts down."""
        server.script(Answer(delay=0.05))
        async with asyncio.timeout(10), ShutdownCoordinator() as coordinator:
            [client] = members(coordinator, server.url, 1)
            call = asyncio.create_task(client.query("{ hello }"))
            await server.received(1)
        assert (await call).data == HELLO
        assert (client.state, (await coordinator.wait()).requests_completed) == ("closed", 1)

    @pytest.mark.parametrize("how", ["exception", "cancel"])
    async def test_otherwise_it_cuts(self, server: ScriptedServer, how: str) -> None:
        """Nobody knows what state the program is in; what was raised comes out as it was."""
        server.always(Answer.hang())
        coordinator = ShutdownCoordinator()
        clients = members(coordinator, server.url, 2)
        calls = [asyncio.create_task(each.query("{ hello }")) for each in clients]
        await server.received(2)

        async def program() -> None:
            async with coordinator:
                if how == "exception":
                    raise ZeroDivisionError
                await asyncio.Event().wait()

        task = asyncio.create_task(program())
        await asyncio.sleep(0)
        if how == "cancel":
            task.cancel()
        with pytest.raises(ZeroDivisionError if how == "exception" else asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        assert [each.state for each in clients] == ["closed", "closed"]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(error) for error in errors] == [ClientClosedError] * 2
        report = await coordinator.wait()
        assert report.requests_cancelled == 2
        assert report.duration < 5
