"""A task that is cancelled before its first step runs no ``finally``; nothing hangs for that.

Whoever cancels all tasks (the end of ``asyncio.run()``, a program's own shutdown) meets some of ours that
have just been made. The programs run apart: a loop that spins would take pytest along.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from subscribing import COUNT, Follower, client_of, until

from graphql_prod import ProductionClient, SubscriptionClosedError
from graphql_prod.loops import StartedTask

if TYPE_CHECKING:
    from conftest import Backend
    from subscribing import Mode

    from graphql_prod.testing import ScriptedServer

PROGRAMS = Path(__file__).parent / "programs"
OPERATIONS = (
    "subscribe",
    "callbacks",
    "stream",
    "shared",
    "reconnect",
    "validated",
    "probed",
    "renewed",
    "ending",
    "signalled",
    "coordinated",
)


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAMS / program), *arguments],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("operation", OPERATIONS)
def test_whichever_task_is_cancelled_at_its_birth(operation: str, backend: Backend) -> None:
    """The operation ends, nothing stays counted, the client works on, and it ends in order."""
    assert run("newborn.py", operation, backend).split(), "no task of ours was born"


def test_a_program_ends_under_busy_subscriptions(backend: Backend) -> None:
    """``asyncio.run()`` returns, whatever it cancels."""
    assert run("left_behind.py", "40", backend) == "ended\n"


async def test_subscribing_fails_where_its_task_was_cancelled_by_somebody(
    counting: ScriptedServer, backend: Backend
) -> None:
    """Whoever waits for the acknowledgement hears that there will be none; no inactive subscription."""
    async with client_of(counting.url, backend) as client:
        before = asyncio.all_tasks()
        subscribing = asyncio.create_task(client.subscribe(COUNT))
        while not (begun := asyncio.all_tasks() - before - {subscribing}):
            await asyncio.sleep(0)
        for task in begun:
            task.cancel()
        with pytest.raises(SubscriptionClosedError, match="from outside"):
            await asyncio.wait_for(subscribing, 10)
        await until(lambda: client.stats().sockets == 0)


@pytest.mark.parametrize("share", [False, True])
async def test_all_tasks_cancelled_in_mid_stream_leave_a_client_that_works(
    counting: ScriptedServer, backend: Backend, mode: Mode, share: bool
) -> None:
    """A program that cancels whatever it finds, at any moment, can subscribe again with the same client."""
    async with client_of(counting.url, backend, share_connection=share) as client:
        for round_ in range(20):
            mine = asyncio.all_tasks()
            follower = Follower(client, mode)
            for _ in range(round_ * 3):
                await asyncio.sleep(0)
            theirs = {
                task
                for task in asyncio.all_tasks() - mine
                if "graphql_prod/testing" not in str(task.get_coro())
            }
            for task in theirs:
                task.cancel()
            await asyncio.wait({follower.task}, timeout=10)
            assert follower.task.done(), "it hangs"
            if not follower.task.cancelled():
                follower.task.exception()
            await until(lambda: client.stats().sockets + client.stats().subscriptions == 0)
        async with Follower(client, mode) as follower:
            await follower.began(3)


async def test_a_shutdown_is_joined_from_a_loop_whose_own_ends(server: ScriptedServer) -> None:
    """Who waits on another loop gets the report, and no cancel of the loop that ended."""
    client = ProductionClient(server.url, validate=False)
    hooked = asyncio.Event()
    here = asyncio.get_running_loop()

    @client.on_shutdown
    async def wait_for_ever() -> None:
        here.call_soon_threadsafe(hooked.set)
        await asyncio.Event().wait()

    async def leave() -> None:
        """Begins the shutdown, and returns in its middle: the loop ends."""
        beginning = asyncio.create_task(client.shutdown())
        while not hooked.is_set():
            await asyncio.sleep(0.001)
        while not go.is_set():
            await asyncio.sleep(0.001)
        assert not beginning.done()

    go = threading.Event()
    leaving = asyncio.create_task(asyncio.to_thread(asyncio.run, leave()))
    await hooked.wait()
    joining = asyncio.create_task(client.shutdown())
    await asyncio.sleep(0)
    go.set()
    report = await asyncio.wait_for(joining, 10)
    assert report.hooks_failed == ("wait_for_ever",)
    assert client.state == "closed"
    await leaving


async def test_a_started_task_begins_before_it_is_cancelled() -> None:
    """Its ``finally`` runs, whoever cancels it and when; the cancel is not lost."""
    steps: list[str] = []

    async def work() -> None:
        try:
            steps.append("begun")
            await asyncio.Event().wait()
        finally:
            steps.append("over")

    task = StartedTask(work(), loop=asyncio.get_running_loop())
    assert task.cancel()
    await asyncio.wait({task})
    assert steps == ["begun", "over"]
    assert task.cancelled()
    assert not task.cancel()


def test_a_started_task_of_a_closed_loop_can_be_cancelled() -> None:
    """Nothing runs any more, and nothing fails."""

    async def work() -> None:
        raise AssertionError

    loop = asyncio.new_event_loop()
    work_ = work()
    task = StartedTask(work_, loop=loop)
    loop.close()
    assert task.cancel()
    work_.close()
    del task
