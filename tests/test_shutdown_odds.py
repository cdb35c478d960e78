"""The end of a client on a bad night: code that hangs, raises and asks from the wrong place."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLTransport
from subscribing import COUNT, until

from graphql_prod import ProductionClient, ShutdownCoordinator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphql_prod.testing import ScriptedServer


class Hanging(GraphQLTransport):
    """A transport that cannot be closed."""

    async def request(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("not asked for")

    async def close(self) -> None:
        await asyncio.Event().wait()


async def test_a_second_word_reaches_a_close_that_hangs() -> None:
    """Whatever the phase: a deadline of 0 leaves only the moment that closing is granted."""
    client = ProductionClient("http://h.example/graphql", transport=Hanging())
    ending = asyncio.create_task(client.shutdown(60))
    await until(lambda: client.state == "closing")
    report = await asyncio.wait_for(client.shutdown(0), 15)
    assert await ending is report
    assert report.errors == ("closing the session or a transport took too long and was given up",)
    assert (report.clean, client.state) == (False, "closed")


async def test_a_signal_waits_for_the_stream_that_installed_its_handler(server: ScriptedServer) -> None:
    """Who installs the handlers has not asked for the end: his events are finished like all others."""
    server.tick = 0.001
    client = ProductionClient(server.url, validate=False)
    taken, kept = 0, 0
    async for _ in client.stream(COUNT, variables={"from": 0, "to": 9}):
        taken += 1
        if taken == 1:
            client.install_signal_handlers([signal.SIGTERM])
        if taken == 3:
            await until(lambda: client.stats().events == 10)  # the others have come, and wait
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: client.state == "draining")
        await client.query("{ hello }")
        kept += 1
    report = await asyncio.wait_for(client.shutdown(), 10)
    assert taken == kept > 3
    assert (report.clean, report.subscriptions_drained) == (True, 1)


@pytest.fixture
def raising_filter() -> Iterator[None]:
    """A program whose logging is broken."""

    def broken(_: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    logger = logging.getLogger("graphql_prod")
    level = logger.level
    logger.addFilter(broken)
    logger.setLevel(logging.DEBUG)
    yield
    logger.removeFilter(broken)
    logger.setLevel(level)


@pytest.mark.usefixtures("raising_filter")
async def test_logging_that_raises_stops_nothing(server: ScriptedServer) -> None:
    """Hooks run, the session is closed, and whoever waits is told."""
    ran: list[str] = []
    coordinator = ShutdownCoordinator()
    client = coordinator.register(ProductionClient(server.url, validate=False))
    await client.query("{ hello }")
    for phase in ("before", "after"):
        client.on_shutdown(lambda phase=phase: ran.append(phase), phase=phase)
    waiting = asyncio.create_task(coordinator.wait())
    report = await asyncio.wait_for(coordinator.shutdown(), 10)
    assert await asyncio.wait_for(waiting, 10) is report
    assert (ran, client.state, report.clean) == (["before", "after"], "closed", True)


async def test_waiting_ends_when_another_thread_shut_down() -> None:
    """A shutdown may be asked for on another loop; nothing here has to happen for that to be noticed."""
    coordinator = ShutdownCoordinator()
    waiting = asyncio.create_task(coordinator.wait())
    await asyncio.sleep(0)
    report = await asyncio.wait_for(asyncio.to_thread(asyncio.run, coordinator.shutdown()), 10)
    assert await asyncio.wait_for(waiting, 10) is report


async def test_a_hook_that_hangs_leaves_a_moment_for_those_after_it() -> None:
    """At the deadline the hooks that have not begun still get their time, together."""
    client = ProductionClient("http://h.example/graphql")
    ran: list[str] = []

    @client.on_shutdown
    async def hangs() -> None:
        await asyncio.Event().wait()

    @client.on_shutdown
    async def deregisters() -> None:
        await asyncio.sleep(0.01)
        ran.append("deregistered")

    report = await asyncio.wait_for(client.shutdown(0.3), 10)
    assert (ran, report.hooks_failed) == (["deregistered"], ("hangs",))


async def test_a_loop_that_ends_while_a_transport_closes_is_told() -> None:
    """The shutdown comes to its end all the same, hooks and all, and says what was cut off."""
    client = ProductionClient("http://h.example/graphql", transport=Hanging())
    ran: list[str] = []
    client.on_shutdown(lambda: ran.append("after"), phase="after")

    async def program() -> None:
        task = asyncio.create_task(client.shutdown())
        await until(lambda: client.state == "closing")
        await asyncio.sleep(0.01)
        del task

    await asyncio.wait_for(asyncio.to_thread(asyncio.run, program()), 15)
    report = await asyncio.wait_for(client.shutdown(), 10)
    assert (client.state, ran) == ("closed", ["after"])
    assert report.errors == ("closing the session or a transport was cut off by the end of the event loop",)
