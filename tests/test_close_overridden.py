"""A subclass's own ``close()`` and ``shutdown()`` are called on every way out, and end nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLTransport
from subscribing import until

from graphql_prod import ClientClosedError, ProductionClient, ShutdownCoordinator, ShutdownReport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from conftest import Backend

    from graphql_prod.testing import ScriptedServer


class Logged(ProductionClient):
    """Tells what of it is called."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.called: list[str] = []


class OwnClose(Logged):
    async def close(self) -> None:
        self.called.append("close")
        await super().close()


class OwnShutdown(Logged):
    async def shutdown(self, deadline: float | None = None) -> ShutdownReport:
        self.called.append("shutdown")
        return await super().shutdown(deadline)


class Both(OwnClose, OwnShutdown):
    pass


class ByTheOther(Logged):
    """Its shutdown is its close: which of ours is called comes back to it."""

    async def shutdown(self, deadline: float | None = None) -> ShutdownReport:
        self.called.append("shutdown")
        await self.close()
        return await super().shutdown(deadline)


class ByTheTransport(Logged):
    """As the stock client's own close() does it."""

    async def close(self) -> None:
        self.called.append("close")
        await self.transport.close()
        await super().close()


async def by_close(client: ProductionClient) -> None:
    await client.close()


async def by_leaving(client: ProductionClient) -> None:
    async with client:
        pass


async def by_an_exception(client: ProductionClient) -> None:
    with pytest.raises(KeyError):
        async with client:
            raise KeyError


async def by_a_cancel(client: ProductionClient) -> None:
    async def stay() -> None:
        async with client:
            await asyncio.Event().wait()

    task = asyncio.create_task(stay())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def by_the_transport(client: ProductionClient) -> None:
    await client.transport.close()


async def by_a_signal(client: ProductionClient) -> None:
    client.install_signal_handlers([signal.SIGTERM])
    before = asyncio.all_tasks()
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: client.state == "closed" and asyncio.all_tasks() <= before)


async def by_two_signals(client: ProductionClient) -> None:
    await client.query("{ hello }")
    client.install_signal_handlers([signal.SIGTERM])
    before = asyncio.all_tasks()
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
    await until(lambda: client.state == "closed" and asyncio.all_tasks() <= before)


async def by_a_coordinator(client: ProductionClient) -> None:
    async with ShutdownCoordinator() as coordinator:
        coordinator.register(client)
    report = await coordinator.wait()
    assert report.clean
    assert report.host.startswith("127.0.0.1")


FROM_INSIDE = (by_close, by_leaving, by_an_exception, by_a_cancel, by_the_transport)
FROM_OUTSIDE = (by_a_signal, by_two_signals, by_a_coordinator)


@pytest.mark.parametrize(
    ("kind", "inside", "outside"),
    [
        (OwnClose, ["close"], ["close"]),
        (OwnShutdown, ["shutdown"], ["shutdown"]),
        (Both, ["close", "shutdown"], ["close", "shutdown"]),
        (ByTheOther, ["shutdown"], ["shutdown"]),
    ],
)
@pytest.mark.parametrize("way", FROM_INSIDE + FROM_OUTSIDE)
async def test_each_way_out_calls_it_once(
    server: ScriptedServer,
    backend: Backend,
    kind: type[Logged],
    way: Callable[[ProductionClient], Awaitable[None]],
    inside: list[str],
    outside: list[str],
) -> None:
    """Leaving, also by an exception or a cancel; the transport, signals and coordinators too."""
    client = kind(server.url, backend=backend, validate=False)
    after: list[str] = []
    client.on_shutdown(lambda: after.append("after"), phase="after")
    await client.query("{ hello }")
    await asyncio.wait_for(way(client), 10)
    assert client.called == (inside if way in FROM_INSIDE else outside)
    assert client.state == "closed"
    assert after == ["after"], "it was ended twice"
    assert client.stats().pool.limit == 0


@pytest.mark.parametrize("way", FROM_INSIDE + FROM_OUTSIDE)
async def test_one_that_closes_its_transport_does_not_go_round(
    server: ScriptedServer, way: Callable[[ProductionClient], Awaitable[None]]
) -> None:
    """``transport.close()`` closes the client, whose ``close()`` closes the transport: it ends."""
    client = ByTheTransport(server.url, validate=False)
    await asyncio.wait_for(way(client), 10)
    assert client.state == "closed"
    assert len(client.called) <= 2


async def test_by_an_exception_no_time_is_left(server: ScriptedServer, backend: Backend) -> None:
    """Whatever deadline a subclass names."""

    class Patient(ProductionClient):
        async def close(self) -> None:
            await self.shutdown(30)

    client = Patient(server.url, backend=backend, validate=False)
    call = asyncio.create_task(client.query("{ slow(seconds: 30) }"))
    await server.received(1)
    await by_an_exception(client)
    with pytest.raises(ClientClosedError):
        await asyncio.wait_for(call, 5)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_signal_ends_a_client_whose_own_close_does_not(server: ScriptedServer, fails: bool) -> None:
    """A program that gets SIGTERM ends; what a subclass does at its end is its own affair."""

    class Kept(ProductionClient):
        async def close(self) -> None:
            if fails:
                raise KeyError

    client = Kept(server.url, validate=False)
    await client.query("{ hello }")
    await by_a_signal(client)


async def test_a_coordinator_tells_of_a_close_that_fails(server: ScriptedServer) -> None:
    """The client is closed all the same, and its numbers are in the report."""

    class Failing(ProductionClient):
        async def close(self) -> None:
            raise KeyError("mine")

    async with ShutdownCoordinator() as coordinator:
        client = coordinator.register(Failing(server.url, validate=False))
        await client.query("{ hello }")
    report = await coordinator.wait()
    assert client.state == "closed"
    assert [error.rpartition(" ")[2] for error in report.errors] == ["KeyError"]


class Broken(GraphQLTransport):
    """A transport of the caller's that does not close."""

    closed = 0

    async def request(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        self.closed += 1
        raise OSError("it does not close")


@pytest.mark.parametrize("kind", [ProductionClient, OwnClose, OwnShutdown, Both])
@pytest.mark.parametrize("way", [by_close, by_leaving, by_the_transport])
async def test_what_closing_a_transport_raises_comes_out(
    kind: type[ProductionClient], way: Callable[[ProductionClient], Awaitable[None]]
) -> None:
    """Once, and the transport is closed once."""
    transport = Broken()
    client = kind("http://127.0.0.1:9/graphql", transport=transport)
    with pytest.raises(OSError, match="does not close"):
        await way(client)
    await client.close()
    assert transport.closed == 1


@pytest.mark.parametrize("kind", [ProductionClient, OwnClose, OwnShutdown, Both])
async def test_a_coordinator_reports_a_transport_that_does_not_close_once(
    kind: type[ProductionClient],
) -> None:
    """It is one error of that client, whoever raised it on the way."""
    async with ShutdownCoordinator() as coordinator:
        coordinator.register(kind("http://127.0.0.1:9/graphql", transport=Broken()))
    report = await coordinator.wait()
    assert report.errors == ("closing the session or a transport failed with OSError",)


async def test_a_method_put_on_the_object_counts_too(server: ScriptedServer) -> None:
    """As tests and frameworks do it."""
    client = ProductionClient(server.url, validate=False)
    called: list[str] = []
    close = client.close

    async def mine() -> None:
        called.append("mine")
        await close()

    client.close = mine  # type: ignore[method-assign]
    await by_a_coordinator(client)
    assert called == ["mine"]
